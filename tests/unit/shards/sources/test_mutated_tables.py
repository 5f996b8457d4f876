"""Sources whose files were damaged at random: a sentence or a counted problem, never a traceback, a hang or a lost
picture."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.shards.sources.test_formats import npy, png, put, tarred, zipped

from shards.core.errors import UserError
from shards.sources import Source, read
from shards.sources.cells import NotOne, array_of, clean, label_of, meanings, parsed, split, tag_like

MUTATED = settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
PICTURES: dict[str, str | bytes] = {"x/a.png": png(1), "x/b.png": png(2), "y/c.png": png(3)}
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
    """Replace some bytes at some places by others."""
    for place, length, instead in changes:
        start = int(place * len(data))
        data = data[:start] + instead + data[start + length :]
    return data


def survives(reading: Callable[[], Source], pictures: int | None = None) -> None:
    """It reads, and all that it says can be stored; or it is refused in one sentence."""
    source = refused = None
    try:
        source = reading()
    except UserError as error:
        refused = str(error)
    if source is None:
        assert refused and "\n" not in refused and len(refused) < 1500
        return
    assert len({item.id for item in source.items}) == len(source.items)
    if pictures is not None:
        assert len(source.items) == pictures
    for item in source.items:
        said = [item.id, item.tags, item.denied, item.caption, item.vector, item.group]
        json.dumps([said, source.problems.found], ensure_ascii=False, allow_nan=False).encode()
        assert item.tags is None or all(word == clean(word) and word for word in item.tags)
        with contextlib.suppress(OSError):
            assert len(item.picture.read()) < 1 << 20


@pytest.mark.parametrize("table", sorted(TABLES))
@MUTATED
@given(changes=mutations)
def test_tables(tmp_path: Path, table: str, changes: list[tuple[float, int, bytes]]) -> None:
    put(tmp_path, PICTURES | {table: mutate(TABLES[table].encode(), changes)})
    survives(lambda: read(tmp_path), 3)
    if table != "dataset.json":
        survives(lambda: read(tmp_path, columns=("all",)), 3)


@MUTATED
@given(changes=mutations)
def test_texts_beside_pictures(tmp_path: Path, changes: list[tuple[float, int, bytes]]) -> None:
    texts = {"x/a.txt": mutate(b"hat, smile", changes), "x/b.txt": "hat, wig", "y/c.txt": "hat"}
    survives(lambda: read(put(tmp_path, PICTURES | texts)), 3)


@MUTATED
@given(changes=mutations)
def test_tars(tmp_path: Path, changes: list[tuple[float, int, bytes]]) -> None:
    members = {"a.png": png(1), "a.cls": "3", "a.npy": npy([0.5, 1]), "b.png": png(2), "b.json": '{"tags": ["hat"]}'}
    path = tarred(tmp_path / "a.tar", members)
    path.write_bytes(mutate(path.read_bytes(), changes))
    survives(lambda: read(path))


@MUTATED
@given(changes=mutations, deflated=st.booleans())
def test_zips(tmp_path: Path, changes: list[tuple[float, int, bytes]], deflated: bool) -> None:
    files = PICTURES | {"dataset.json": TABLES["dataset.json"]}
    path = zipped(tmp_path / "a.zip", files, 8 if deflated else 0)
    path.write_bytes(mutate(path.read_bytes(), changes))
    survives(lambda: read(path))


@MUTATED
@given(changes=mutations)
def test_arrays(changes: list[tuple[float, int, bytes]]) -> None:
    try:
        numbers = array_of(mutate(npy([0.5, 1, 2]), changes))
    except NotOne:
        return
    assert all(abs(number) < 4e38 for number in (numbers if isinstance(numbers, list) else [numbers]))


def test_arrays_that_promise_too_much() -> None:
    header = npy([1.0]).replace(b"(1,)", b"(9999999999999,)")
    for data in (header, npy([[1.0]]), npy([1 + 2j]), npy(["x"]), npy([float("nan")]), npy([]), b"\x93NUMPY", b""):
        with pytest.raises(NotOne):
            array_of(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=9,
)
names = st.sampled_from(["file_name", "tags", "label", "labels", "class", "text", "caption", "mood", "n", "g"])


@MUTATED
@given(rows=st.lists(st.dictionaries(names, values, max_size=6), min_size=1, max_size=3))
def test_rows_of_any_values(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    named = [{**row, "file_name": name} for row, name in zip(rows, PICTURES, strict=False)]
    put(tmp_path, PICTURES | {"metadata.jsonl": "\n".join(map(json.dumps, named))})
    survives(lambda: read(tmp_path, columns=("all",), group="g" if any("g" in row for row in rows) else None), 3)
    survives(lambda: read(tmp_path, labels="tags"), 3)


@given(st.text())
def test_splitting_any_text(text: str) -> None:
    words = split(text)
    assert split(",".join(words)) == words and len(set(words)) == len(words)
    assert isinstance(tag_like([text, text]), bool)


@given(values)
def test_any_value_is_a_label_or_not_one(value: Any) -> None:
    try:
        label = label_of(value)
    except NotOne:
        return
    if label is None or isinstance(label, tuple):
        return
    (meant,) = meanings([label]).values()
    assert isinstance(meant, str | tuple) and meant


@given(st.lists(st.one_of(st.integers(-5, 5), st.sampled_from([0.5, 2.0, "2", "2.0", "2.5", "02", "red"]))))
def test_single_labels_are_all_classes_or_some_measured(labels: list[Any]) -> None:
    meant = meanings(labels)
    assert set(meant) == set(labels)
    numbers = [meant[label] for label in labels if not isinstance(label, str)]
    assert len({type(one) for one in numbers}) <= 1, "all numbers are one or the other"
    if 0.5 in labels:
        assert all(isinstance(one, tuple) for one in numbers)


def test_numbers_and_nesting_without_end() -> None:
    for text in ("[" * 10**6, "9" * 10**6, '{"a":' * 10**5, "\ufeff", "nul"):
        with pytest.raises(NotOne):
            parsed(text.encode())
