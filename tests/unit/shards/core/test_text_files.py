"""Text from outside: every hostile text is one sentence, soon; every ordinary one is its value."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.core import text_files
from shards.core.limited_yaml import parse
from shards.core.text_files import UnreadableText, parse_json, read_json, read_yaml

LAUGHS = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))

HOSTILE_YAML = {
    "brackets": "[" * 100_000,
    "braces": "{" * 100_000,
    "block sequences": "- " * 20_000,
    "complex keys": "? " * 20_000,
    "aliases that multiply": LAUGHS,
    "a list that contains itself": "a: &a [1, *a]",
    "a mapping that contains itself": "&a {b: {c: *a}}",
    "an alias of nothing": "batch: *n",
    "a long number": "x: " + "1" * 100_000,
    "a long hexadecimal number": "x: 0x" + "f" * 1_000_000,
    "a long sexagesimal number": "x: 1" + ":1" * 100_000,
    "an impossible date": "2021-99-99",
    "no number": "!!int ''",
    "no truth": "!!bool perhaps",
    "no time": "!!timestamp never",
    "an object": "!!python/object/apply:os.system [ls]",
    "a list as a key": "{[1]: 2}",
    "two documents": "--- a\n--- b",
    "a control character": "\x00",
    "an open quote": "'" + "a" * 100_000,
}
HOSTILE_JSON = {
    "nothing": "",
    "brackets": "[" * 100_000,
    "objects": '{"a":' * 100_000,
    "closed brackets": "[" * 500 + "]" * 500,
    "a long number": "1" + "0" * 400,
    "a very long number": "1" * 1_000_000,
    "half of a string": '"abc',
    "two values": "1 2",
}


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_hostile_yaml_is_one_line_within_a_second(name: str) -> None:
    assert_refused(lambda: parse(HOSTILE_YAML[name]))


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_json_is_one_line_within_a_second(name: str) -> None:
    assert_refused(lambda: parse_json(HOSTILE_JSON[name]))


def assert_refused(read: Callable[[], Any]) -> None:
    start = time.process_time()
    with pytest.raises(UnreadableText) as caught:
        read()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert time.process_time() - start < 2


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_only_regular_files_are_read(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "a directory")):
        with pytest.raises(UnreadableText, match=f"is {kind}, not a file"):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")


def test_large_files_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    for read in (read_json, read_yaml):
        with pytest.raises(UnreadableText, match="larger than"):
            read(tmp_path / "sparse")


def test_encodings_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "file").write_bytes('{"é": 1}'.encode(encoding))
        assert read_json(tmp_path / "file") == read_yaml(tmp_path / "file") == {"é": 1}
    (tmp_path / "file").write_bytes('{"é": 1}'.encode("latin-1"))
    for read in (read_json, read_yaml):
        with pytest.raises(UnreadableText, match="UTF-8"):
            read(tmp_path / "file")


def test_ordinary_aliases_and_merge_keys_are_read() -> None:
    assert parse("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": [{"x": 1}, {"x": 1}],
    }
    assert parse("a: [1, 0x10, 1.5, yes, null, 1_000]") == {"a": [1, 16, 1.5, True, None, 1000]}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_json_is_read_as_it_was_written(value: Any) -> None:

    assert parse_json(json.dumps(value)) == value


@given(st.text(alphabet="[]{}&*a1:-? \n'\"|>!,#", max_size=60))
def test_no_other_error_than_a_sentence(text: str) -> None:
    for read in (parse, parse_json):
        with contextlib.suppress(UnreadableText):
            read(text)


def test_lines_that_are_too_long_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"one\n" + b"x" * 100 + b"\ntwo\n" + b"y" * 99)
    with path.open("rb") as file:
        assert list(text_files.lines(file, 16)) == [b"one\n", b"\n", b"two\n", b"\n"]
    path.write_bytes(b"x" * 15 + b"\n" + b"x" * 16 + b"\nlast")
    with path.open("rb") as file:
        assert list(text_files.lines(file, 16)) == [b"x" * 15 + b"\n", b"\n", b"last"]
