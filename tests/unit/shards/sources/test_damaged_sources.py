"""Sources damaged at random: an error or a counted problem, never a traceback, a hang or a lost image."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.core.errors import UserError
from shards.sources.cells import (
    InvalidValue,
    interpret_labels,
    parse_json,
    parse_label,
    parse_npy,
    sanitize,
)
from shards.sources.item import Source
from shards.sources.tag_cells.dialect import TagDialect
from shards.sources.tag_cells.texts import looks_like_tags
from support.source_files import npy_bytes, png_bytes, scan_source, write_files, write_tar, write_zip

MUTATED = settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
IMAGES: dict[str, str | bytes] = {"x/a.png": png_bytes(1), "x/b.png": png_bytes(2), "y/c.png": png_bytes(3)}
LABELS = {"labels": [["x/a.png", 1], ["x/b.png", 2], ["y/c.png", 3]]}
ROWS = [{"file_name": f"x/{n}.png", "tags": ["hat", "smile"], "label": 3, "mood": "glad", "v": 0.5} for n in "ab"]
TABLES = {
    "tags.csv": 'id,tags,mood,yes\nx/a.png,"smile, hat",glad,1\nb,smile,sad,0\nc,,,\n',
    "metadata.jsonl": "\n".join(map(json.dumps, ROWS)),
    "metadata.csv": "file_name,tags,mood\nx/a.png,hat,glad\ny/c.png,,sad\n",
    "dataset.json": json.dumps(LABELS),
}
SPLICES = [
    b"",
    b"\0",
    b"\xff",
    b'"',
    b",",
    b"[",
    b"{" * 3000,
    b"1e999",
    b"9" * 5000,
    b"NaN",
    b"\\ud800",
    b"null",
    b"\n",
]

mutations = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.one_of(st.sampled_from(SPLICES), st.binary(max_size=9))),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Replace bytes at some positions by others."""
    for position, length, replacement in changes:
        start = int(position * len(data))
        data = data[:start] + replacement + data[start + length :]
    return data


def check_robust(scan: Callable[[], Source], images: int | None = None) -> None:
    """Check that a scan returns items whose values can be stored, or raises an error with a short message."""
    source = refused = None
    try:
        source = scan()
    except UserError as error:
        refused = error
    if source is None:
        assert refused and refused.code and "\n" not in str(refused) and len(str(refused)) < 1500
        return
    assert len({item.id for item in source.items}) == len(source.items)
    if images is not None:
        assert len(source.items) == images
    for item in source.items:
        content = [item.id, item.tags, item.denied, item.caption, item.vector, item.group]
        json.dumps([content, source.problems.found], ensure_ascii=False, allow_nan=False).encode()
        assert item.tags is None or all(word == sanitize(word) and word for word in item.tags)
        with contextlib.suppress(OSError):
            assert len(item.image.read()) < 1 << 20


@pytest.mark.parametrize("table", sorted(TABLES))
@MUTATED
@given(changes=mutations)
def test_damaged_tables(tmp_path: Path, table: str, changes: list[tuple[float, int, bytes]]) -> None:
    write_files(tmp_path, IMAGES | {table: mutate(TABLES[table].encode(), changes)})
    check_robust(lambda: scan_source(tmp_path), 3)
    if table != "dataset.json":
        check_robust(lambda: scan_source(tmp_path, columns=("all",)), 3)


@MUTATED
@given(changes=mutations)
def test_damaged_text_files(tmp_path: Path, changes: list[tuple[float, int, bytes]]) -> None:
    texts = {"x/a.txt": mutate(b"hat, smile", changes), "x/b.txt": "hat, wig", "y/c.txt": "hat"}
    check_robust(lambda: scan_source(write_files(tmp_path, IMAGES | texts)), 3)


@MUTATED
@given(changes=mutations)
def test_damaged_tars(tmp_path: Path, changes: list[tuple[float, int, bytes]]) -> None:
    members = {
        "a.png": png_bytes(1),
        "a.cls": "3",
        "a.npy": npy_bytes([0.5, 1]),
        "b.png": png_bytes(2),
        "b.json": '{"tags": ["hat"]}',
    }
    path = write_tar(tmp_path / "a.tar", members)
    path.write_bytes(mutate(path.read_bytes(), changes))
    check_robust(lambda: scan_source(path))


@MUTATED
@given(changes=mutations, deflated=st.booleans())
def test_damaged_zips(tmp_path: Path, changes: list[tuple[float, int, bytes]], deflated: bool) -> None:
    files = IMAGES | {"dataset.json": TABLES["dataset.json"]}
    path = write_zip(tmp_path / "a.zip", files, 8 if deflated else 0)
    path.write_bytes(mutate(path.read_bytes(), changes))
    check_robust(lambda: scan_source(path))


@MUTATED
@given(changes=mutations)
def test_damaged_arrays(changes: list[tuple[float, int, bytes]]) -> None:
    try:
        numbers = parse_npy(mutate(npy_bytes([0.5, 1, 2]), changes))
    except InvalidValue:
        return
    assert all(abs(number) < 4e38 for number in (numbers if isinstance(numbers, list) else [numbers]))


def test_arrays_with_impossible_headers() -> None:
    header = npy_bytes([1.0]).replace(b"(1,)", b"(9999999999999,)")
    for data in (
        header,
        npy_bytes([[1.0]]),
        npy_bytes([1 + 2j]),
        npy_bytes(["x"]),
        npy_bytes([float("nan")]),
        npy_bytes([]),
        b"\x93NUMPY",
        b"",
    ):
        with pytest.raises(InvalidValue):
            parse_npy(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=9,
)
names = st.sampled_from(["file_name", "tags", "label", "labels", "class", "text", "caption", "mood", "n", "g"])


@MUTATED
@given(rows=st.lists(st.dictionaries(names, values, max_size=6), min_size=1, max_size=3))
def test_rows_of_any_values(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    named = [{**row, "file_name": name} for row, name in zip(rows, IMAGES, strict=False)]
    write_files(tmp_path, IMAGES | {"metadata.jsonl": "\n".join(map(json.dumps, named))})
    group = "g" if any("g" in row for row in rows) else None
    check_robust(lambda: scan_source(tmp_path, columns=("all",), group=group), 3)
    check_robust(lambda: scan_source(tmp_path, labels="tags"), 3)


@given(st.text())
def test_splitting_any_text(text: str) -> None:
    words = TagDialect().tags(text)
    assert words is not None and len(set(words)) == len(words)
    assert isinstance(looks_like_tags([text, text]), bool)


@given(values)
def test_any_value_is_a_label_or_invalid(value: Any) -> None:
    try:
        label = parse_label(value)
    except InvalidValue:
        return
    if label is None or isinstance(label, tuple):
        return
    (interpreted,) = interpret_labels([label]).values()
    assert isinstance(interpreted, str | tuple) and interpreted


@given(st.lists(st.one_of(st.integers(-5, 5), st.sampled_from([0.5, 2.0, "2", "2.0", "2.5", "02", "red"]))))
def test_numbers_are_all_classes_or_all_measurements(labels: list[Any]) -> None:
    interpreted = interpret_labels(labels)
    assert set(interpreted) == set(labels)
    numbers = [interpreted[label] for label in labels if not isinstance(label, str)]
    assert len({type(one) for one in numbers}) <= 1, "all numbers are one or the other"
    if 0.5 in labels:
        assert all(isinstance(one, tuple) for one in numbers)


def test_huge_numbers_and_deep_nesting_are_invalid() -> None:
    for text in ("[" * 10**6, "9" * 10**6, '{"a":' * 10**5, "\ufeff", "nul"):
        with pytest.raises(InvalidValue):
            parse_json(text.encode())
