"""Data sets that were damaged, changed or made up: a sentence, never a traceback, a hang or a look outside."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
import os
import shutil
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from unit.shards.packing.test_pack import tagged

from shards.core import atomic_io, self_hash
from shards.core.errors import UserError
from shards.dataset import summary, tar_index
from shards.dataset.dataset import Dataset
from shards.dataset.sidecars import ENTRY
from shards.inspect import describe
from shards.inspect.verify import findings
from shards.packing.index_in_place import IndexInPlace, index_in_place
from shards.packing.pack import Pack, pack

PARTS = ("manifest.json", "schema.yaml", "index.npy", "labels.npy", "known.npy", "hashes.npy", "tar")
often = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small data set."""
    folder = tmp_path_factory.mktemp("packed")
    pack(Pack(tagged(folder / "src", 6), folder / "out", workers=1))
    manifest = json.loads((folder / "out" / "manifest.json").read_text("utf-8"))
    atomic_io.write_json(folder / "out" / "manifest.json", self_hash.with_hash(manifest))
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place") / "data"


def laid(place: Path, content: dict[str, bytes], **changed: bytes) -> Path:
    """The files of a data set in a folder, some of them changed."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, data in {**content, **changed}.items():
        (place / name).write_bytes(data)
    return place


def named(content: dict[str, bytes], part: str) -> str:
    return next(name for name in sorted(content) if name == part or name.endswith(f".{part}"))


def survive(folder: Path) -> list[str]:
    """Open, read and describe what is there; anything but a sentence is an error. Returns what verify finds."""
    with sentences():
        dataset = Dataset.open(folder)
        for i in range(len(dataset)):
            dataset.read(i)
            dataset.schema.words(dataset.labels[i], dataset.known[i])
        describe.lines(dataset, summary.tally(dataset))
    try:
        return findings(folder).problems
    except UserError as error:
        return [str(error)]


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Whatever goes wrong in the block is said in one line."""
    try:
        yield
    except UserError as error:
        if "\n" in str(error):
            raise AssertionError(str(error)) from None


# ---------------------------------------------------------------- one bit


def flips(content: dict[str, bytes], step: int) -> Iterator[tuple[str, bytes]]:
    """Every step-th byte of every file with one bit changed."""
    for name, data in sorted(content.items()):
        for at in range(0, len(data), step):
            changed = bytearray(data)
            changed[at] ^= 1 << (at % 8)
            yield name, bytes(changed)


def unseen(place: Path, content: dict[str, bytes], step: int) -> list[str]:
    """Files of which a change was not seen."""
    laid(place, content)
    assert findings(place).problems == []
    silent = []
    for name, data in flips(content, step):
        (place / name).write_bytes(data)
        if not survive(place) and not (name == "manifest.json" and json.loads(data) == json.loads(content[name])):
            silent.append(name)
        (place / name).write_bytes(content[name])
    assert findings(place).problems == []
    return silent


def test_a_changed_bit_is_seen_wherever_it_is(packed: dict[str, bytes], place: Path) -> None:
    assert unseen(place, packed, 97) == []


@pytest.mark.long
def test_every_changed_byte_is_seen(packed: dict[str, bytes], place: Path) -> None:
    assert unseen(place, packed, 3) == []


def test_a_changed_bit_is_seen_in_tars_indexed_in_place(packed: dict[str, bytes], place: Path) -> None:
    tar = named(packed, "tar")
    index_in_place(IndexInPlace(laid(place, {tar: packed[tar]}), workers=1))
    assert unseen(place, {path.name: path.read_bytes() for path in place.iterdir()}, 97) == []


# ---------------------------------------------------------------- many bytes


@st.composite
def mutations(draw: st.DrawFn) -> Any:
    """A function that damages bytes: pieces cut, doubled, overwritten, inserted."""
    kind = draw(st.sampled_from(("cut", "truncate", "overwrite", "insert", "double", "empty")))
    at, length = draw(st.floats(0, 1)), draw(st.integers(1, 600))
    noise = draw(
        st.one_of(st.binary(max_size=64), st.sampled_from([b"\0" * 600, b"\xff" * 12, b"9" * 400, b"[" * 9999]))
    )

    def mutate(data: bytes) -> bytes:
        start = int(at * len(data))
        before, after = data[:start], data[start:]
        return {
            "cut": before + after[length:],
            "truncate": before,
            "overwrite": before + noise + after[len(noise) :],
            "insert": before + noise + after,
            "double": before + after[:length] + after,
            "empty": b"",
        }[kind]

    return mutate


@often
@given(part=st.sampled_from(PARTS), mutate=mutations())
def test_damaged_files_give_a_sentence(packed: dict[str, bytes], place: Path, part: str, mutate: Any) -> None:
    name = named(packed, part)
    data = mutate(packed[name])
    problems = survive(laid(place, packed, **{name: data}))
    assert problems or data == packed[name] or part == "manifest.json"


# ---------------------------------------------------------------- a manifest with strange values

STRANGE = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**30, 0.5, float("nan"), float("inf"), 1e308),
    *("", "x", "\0", "../x.tar", "/etc/passwd", "a\ud800", "x" * 5000, [], {}, [[]], [None], {"file": 1}, [{"a": []}]),
)


def leaves(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from leaves(value, (*path, key))


@pytest.mark.parametrize("value", STRANGE)
def test_a_manifest_with_a_strange_value_anywhere(packed: dict[str, bytes], place: Path, value: Any) -> None:
    manifest = json.loads(packed["manifest.json"])
    for number, (*way, last) in enumerate(list(leaves(manifest))[1:]):
        target = changed = copy.deepcopy(manifest)
        for key in way:
            target = target[key]
        target[last] = value
        if number % 2:  # a stranger can seal what he made
            with contextlib.suppress(UnicodeEncodeError):
                changed = self_hash.with_hash(changed)
        survive(laid(place, packed, **{"manifest.json": json.dumps(changed).encode()}))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "[" * 100_000, "{" * 100_000, '{"format_version": 1}', '{"format_version": ' + "9" * 5000 + "}"],
)
def test_texts_that_are_no_manifest(packed: dict[str, bytes], place: Path, text: str) -> None:
    assert survive(laid(place, packed, **{"manifest.json": text.encode()}))


@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "[" * 5000, "a: !!python/object:os.system {}", "\0", "attributes: " + "9" * 5000]
)
def test_texts_that_are_no_schema(packed: dict[str, bytes], place: Path, text: str) -> None:
    assert survive(laid(place, packed, **{"schema.yaml": text.encode()}))


# ---------------------------------------------------------------- arrays that promise too much


@often
@given(
    part=st.sampled_from(("index.npy", "labels.npy", "known.npy", "hashes.npy")),
    descr=st.sampled_from(("<f4", "<f8", "|b1", "|O", "|V0", ENTRY.descr, "<U9999999", [("a", "|O")], "garbage")),
    shape=st.lists(st.sampled_from((-1, 0, 1, 6, 2**31, 2**62, 10**25)), max_size=4).map(tuple),
    fortran=st.booleans(),
)
@example(part="labels.npy", descr="<f4", shape=(6, 2**62), fortran=False)
@example(part="index.npy", descr="|O", shape=(6,), fortran=False)
def test_arrays_with_made_up_headers(
    packed: dict[str, bytes], place: Path, part: str, descr: Any, shape: tuple[int, ...], fortran: bool
) -> None:
    header = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(300)
    assert survive(laid(place, packed, **{part: data}))


@often
@given(
    row=st.integers(0, 5),
    field=st.sampled_from(("shard", "format", "offset", "length")),
    value=st.sampled_from((-1, 0, 1, 255, 2**31 - 1, 2**62)),
)
def test_entries_that_point_anywhere(packed: dict[str, bytes], place: Path, row: int, field: str, value: int) -> None:
    entries = np.load(io.BytesIO(packed["index.npy"]), allow_pickle=False)
    old = entries[row].copy()
    entries[field][row] = np.int64(value).astype(ENTRY[field])
    out = io.BytesIO()
    np.save(out, entries, allow_pickle=False)
    assert survive(laid(place, packed, **{"index.npy": out.getvalue()})) or entries[row] == old


# ---------------------------------------------------------------- outside


def test_nothing_outside_is_read(packed: dict[str, bytes], place: Path) -> None:
    """Whatever names the manifest holds, no file beyond its folder is opened."""
    outside = place.parent / "secret.tar"
    tar = named(packed, "tar")
    outside.write_bytes(packed[tar])
    manifest = json.loads(packed["manifest.json"])
    for name in ("../secret.tar", str(outside), "..", "./../secret.tar", "x/../../secret.tar", "..\\secret.tar"):
        changed = copy.deepcopy(manifest)
        changed["shards"][0]["file"] = name
        folder = laid(place, packed, **{"manifest.json": json.dumps(self_hash.with_hash(changed)).encode()})
        with pytest.raises(UserError, match="not a shard's name"):
            Dataset.open(folder)
        assert any("is not a shard's name" in line for line in findings(folder).problems)
        changed = copy.deepcopy(manifest)
        changed["sidecars"][name] = atomic_io.sha256(outside)
        folder = laid(place, packed, **{"manifest.json": json.dumps(self_hash.with_hash(changed)).encode()})
        assert any("not the name of a file" in line for line in findings(folder).problems) or "\\" in name


def test_a_shard_may_be_a_link(packed: dict[str, bytes], place: Path, tmp_path: Path) -> None:
    """That is its owner's doing: data sets are laid out over several disks so."""
    folder, tar = laid(place, packed), named(packed, "tar")
    (folder / tar).rename(tmp_path / "elsewhere.tar")
    (folder / tar).symlink_to(tmp_path / "elsewhere.tar")
    assert survive(folder) == []
    (folder / tar).unlink()
    (folder / tar).symlink_to(folder / tar)
    assert survive(folder)
    (folder / tar).unlink()
    (folder / tar).mkdir()
    assert survive(folder)
    (folder / tar).rmdir()
    os.mkfifo(folder / tar)
    assert survive(folder)  # and does not wait for somebody to write into it


# ---------------------------------------------------------------- tars


def block(name: str, size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar header whose size field is what one likes."""
    info = tarfile.TarInfo(name)
    info.type = kind
    raw = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    raw[124:136] = size.ljust(12, b"\0")
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


SIZES = (
    b"77777777777",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"\xff" * 10 + b"\xfe\x00",
    b"\xff" * 10 + b"\xfc\x00",
    b"\x80" + bytes(10) + b"\x01",
    b"-1",
    b"garbage",
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_tars_with_made_up_sizes(packed: dict[str, bytes], place: Path, size: bytes, kind: bytes) -> None:
    """Sizes that are negative lead back to where one was: no endless round."""
    tar = named(packed, "tar")
    for data in (
        block("a.png", size, kind) + packed[tar],
        packed[tar][:1024] + block("a.png", size, kind) + packed[tar][1024:],
    ):
        folder = laid(place, packed, **{tar: data})
        assert survive(folder)
        with sentences():
            assert sum(1 for _ in itertools.islice(tar_index.members(folder / tar), 1000)) < 1000  # no endless round
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "x.tar").write_bytes(data)
        with sentences():
            index_in_place(IndexInPlace(folder, workers=1))


def test_headers_upon_headers(packed: dict[str, bytes], place: Path) -> None:
    """Extended headers that belong to extended headers, thousands deep."""
    tar = named(packed, "tar")
    deep = block("x", b"0", tarfile.XHDTYPE) * 5000
    assert survive(laid(place, packed, **{tar: deep + packed[tar]}))


@often
@given(mutate=mutations())
def test_damaged_tars_are_indexed_or_refused(packed: dict[str, bytes], place: Path, mutate: Any) -> None:
    folder = laid(place, {"x.tar": mutate(packed[named(packed, "tar")])})
    with sentences():
        dataset = index_in_place(IndexInPlace(folder, size=8, workers=1, check=True))
        assert findings(folder).problems == [] and all(dataset.read(i) for i in range(len(dataset)))
        return
    assert not (folder / "manifest.json").exists()


def test_pictures_that_unpack_to_gigabytes(place: Path) -> None:
    """A bomb is left out when tars are indexed, by its header alone."""
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    laid(place, {})
    with tarfile.open(place / "x.tar", "w") as archive:
        for name, data in (("a.png", bomb.getvalue()), ("b.png", _png())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            label = tarfile.TarInfo(name.replace("png", "cls"))
            label.size = 1
            archive.addfile(label, io.BytesIO(b"1"))
    dataset = index_in_place(IndexInPlace(place, workers=1))
    assert len(dataset) == 1 and dataset.size == 8


def _png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    return out.getvalue()
