"""Damaged and malicious datasets: an error message, never a traceback, a hang, or a read outside the folder."""

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

from shards.core import atomic_io, self_hash
from shards.core.errors import UserError
from shards.dataset import summary, tar_index
from shards.dataset.dataset import Dataset
from shards.dataset.sidecars import ENTRY
from shards.inspect import describe
from shards.inspect.verify import findings
from shards.packing.index_in_place import IndexInPlace, index_in_place
from shards.packing.pack import Pack, pack
from support.errors import raises
from support.source_files import png_bytes, write_tar
from support.tagged_images import tagged

PARTS = ("manifest.json", "schema.yaml", "index.npy", "labels.npy", "known.npy", "hashes.npy", "tar")
often = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a small dataset."""
    folder = tmp_path_factory.mktemp("packed")
    pack(Pack(tagged(folder / "src", 6), folder / "out", workers=1))
    manifest = json.loads((folder / "out" / "manifest.json").read_text("utf-8"))
    atomic_io.write_json(folder / "out" / "manifest.json", self_hash.with_hash(manifest))
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "data"


def write(folder: Path, content: dict[str, bytes], **changed: bytes) -> Path:
    """Replace a folder by the files of a dataset, some of them changed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in {**content, **changed}.items():
        (folder / name).write_bytes(data)
    return folder


def name_of(content: dict[str, bytes], part: str) -> str:
    return next(name for name in sorted(content) if name == part or name.endswith(f".{part}"))


def check_robust(folder: Path) -> list[str]:
    """Open, read and describe a dataset, accepting errors of one line only; return the problems that verify finds."""
    with one_line_errors():
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
def one_line_errors() -> Iterator[None]:
    """Accept any `UserError` in the block whose message is one line."""
    try:
        yield
    except UserError as error:
        if "\n" in str(error):
            raise AssertionError(str(error)) from None


# ---------------------------------------------------------------- single bits


def flips(content: dict[str, bytes], step: int) -> Iterator[tuple[str, bytes]]:
    """Yield (file, content) with one bit flipped in every step-th byte of every file."""
    for name, data in sorted(content.items()):
        for at in range(0, len(data), step):
            changed = bytearray(data)
            changed[at] ^= 1 << (at % 8)
            yield name, bytes(changed)


def undetected(folder: Path, content: dict[str, bytes], step: int) -> list[str]:
    """Return the files in which a flipped bit was not detected."""
    write(folder, content)
    assert findings(folder).problems == []
    missed = []
    for name, data in flips(content, step):
        (folder / name).write_bytes(data)
        if not check_robust(folder) and not (name == "manifest.json" and json.loads(data) == json.loads(content[name])):
            missed.append(name)
        (folder / name).write_bytes(content[name])
    assert findings(folder).problems == []
    return missed


def test_flipped_bit_is_detected_in_any_file(packed: dict[str, bytes], folder: Path) -> None:
    assert undetected(folder, packed, 97) == []


@pytest.mark.long
def test_flipped_bit_is_detected_in_every_seventh_byte(packed: dict[str, bytes], folder: Path) -> None:
    assert undetected(folder, packed, 7) == []


def test_flipped_bit_is_detected_in_tars_indexed_in_place(packed: dict[str, bytes], folder: Path) -> None:
    tar = name_of(packed, "tar")
    index_in_place(IndexInPlace(write(folder, {tar: packed[tar]}), workers=1))
    assert undetected(folder, {path.name: path.read_bytes() for path in folder.iterdir()}, 97) == []


# ---------------------------------------------------------------- many bytes


@st.composite
def mutations(draw: st.DrawFn) -> Any:
    """Draw a function that damages bytes: cuts, repeats, overwrites or inserts a piece."""
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
def test_damaged_files(packed: dict[str, bytes], folder: Path, part: str, mutate: Any) -> None:
    name = name_of(packed, part)
    data = mutate(packed[name])
    problems = check_robust(write(folder, packed, **{name: data}))
    assert problems or data == packed[name] or part == "manifest.json"


# ---------------------------------------------------------------- malformed manifests and schemas

MALFORMED = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**30, 0.5, float("nan"), float("inf"), 1e308),
    *("", "x", "\0", "../x.tar", "/etc/passwd", "a\ud800", "x" * 5000, [], {}, [[]], [None], {"file": 1}, [{"a": []}]),
)


def paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in nested dictionaries and lists, the whole first."""
    yield path
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from paths(value, (*path, key))


@pytest.mark.parametrize("value", MALFORMED)
def test_manifest_with_a_malformed_value_anywhere(packed: dict[str, bytes], folder: Path, value: Any) -> None:
    manifest = json.loads(packed["manifest.json"])
    for number, (*parents, last) in enumerate(list(paths(manifest))[1:]):
        target = changed = copy.deepcopy(manifest)
        for key in parents:
            target = target[key]
        target[last] = value
        if number % 2:  # an attacker can compute the hash too
            with contextlib.suppress(UnicodeEncodeError):
                changed = self_hash.with_hash(changed)
        check_robust(write(folder, packed, **{"manifest.json": json.dumps(changed).encode()}))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "[" * 100_000, "{" * 100_000, '{"format_version": 1}', '{"format_version": ' + "9" * 5000 + "}"],
)
def test_manifest_that_is_not_one(packed: dict[str, bytes], folder: Path, text: str) -> None:
    assert check_robust(write(folder, packed, **{"manifest.json": text.encode()}))


@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "[" * 5000, "a: !!python/object:os.system {}", "\0", "attributes: " + "9" * 5000]
)
def test_schema_that_is_not_one(packed: dict[str, bytes], folder: Path, text: str) -> None:
    assert check_robust(write(folder, packed, **{"schema.yaml": text.encode()}))


# ---------------------------------------------------------------- arrays with made-up headers


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
    packed: dict[str, bytes], folder: Path, part: str, descr: Any, shape: tuple[int, ...], fortran: bool
) -> None:
    header = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(300)
    assert check_robust(write(folder, packed, **{part: data}))


@often
@given(
    row=st.integers(0, 5),
    field=st.sampled_from(("shard", "format", "offset", "length")),
    value=st.sampled_from((-1, 0, 1, 255, 2**31 - 1, 2**62)),
)
def test_entries_with_any_offset_and_length(
    packed: dict[str, bytes], folder: Path, row: int, field: str, value: int
) -> None:
    entries = np.load(io.BytesIO(packed["index.npy"]), allow_pickle=False)
    old = entries[row].copy()
    entries[field][row] = np.int64(value).astype(ENTRY[field])
    out = io.BytesIO()
    np.save(out, entries, allow_pickle=False)
    assert check_robust(write(folder, packed, **{"index.npy": out.getvalue()})) or entries[row] == old


# ---------------------------------------------------------------- paths outside the folder


def test_no_file_outside_the_folder_is_read(packed: dict[str, bytes], folder: Path) -> None:
    """Open no file outside the dataset's folder, whatever names the manifest contains."""
    outside = folder.parent / "secret.tar"
    tar = name_of(packed, "tar")
    outside.write_bytes(packed[tar])
    manifest = json.loads(packed["manifest.json"])
    for name in ("../secret.tar", str(outside), "..", "./../secret.tar", "x/../../secret.tar", "..\\secret.tar"):
        changed = copy.deepcopy(manifest)
        changed["shards"][0]["file"] = name
        write(folder, packed, **{"manifest.json": json.dumps(self_hash.with_hash(changed)).encode()})
        with raises("manifest-invalid", "is not a shard's name"):
            Dataset.open(folder)
        assert any("is not a shard's name" in line for line in findings(folder).problems)
        changed = copy.deepcopy(manifest)
        changed["sidecars"][name] = atomic_io.sha256(outside)
        write(folder, packed, **{"manifest.json": json.dumps(self_hash.with_hash(changed)).encode()})
        assert any("not the name of a sidecar" in line for line in findings(folder).problems) or "\\" in name


def test_shard_may_be_a_symlink(packed: dict[str, bytes], folder: Path, tmp_path: Path) -> None:
    """The owner of a dataset may spread it over several disks."""
    folder, tar = write(folder, packed), name_of(packed, "tar")
    (folder / tar).rename(tmp_path / "elsewhere.tar")
    (folder / tar).symlink_to(tmp_path / "elsewhere.tar")
    assert check_robust(folder) == []
    (folder / tar).unlink()
    (folder / tar).symlink_to(folder / tar)
    assert check_robust(folder)
    (folder / tar).unlink()
    (folder / tar).mkdir()
    assert check_robust(folder)
    (folder / tar).rmdir()
    os.mkfifo(folder / tar)
    assert check_robust(folder)  # and does not block on the pipe


# ---------------------------------------------------------------- tars


def block(name: str, size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a tar header with any size field."""
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
def test_tars_with_made_up_sizes(packed: dict[str, bytes], folder: Path, size: bytes, kind: bytes) -> None:
    """Negative sizes lead backwards; that must not become an endless loop."""
    tar = name_of(packed, "tar")
    for data in (
        block("a.png", size, kind) + packed[tar],
        packed[tar][:1024] + block("a.png", size, kind) + packed[tar][1024:],
    ):
        write(folder, packed, **{tar: data})
        assert check_robust(folder)
        with one_line_errors():
            assert sum(1 for _ in itertools.islice(tar_index.members(folder / tar), 1000)) < 1000  # no endless loop
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "x.tar").write_bytes(data)
        with one_line_errors():
            index_in_place(IndexInPlace(folder, workers=1))


def test_nested_extended_headers(packed: dict[str, bytes], folder: Path) -> None:
    """Extended headers of extended headers, thousands deep."""
    tar = name_of(packed, "tar")
    deep = block("x", b"0", tarfile.XHDTYPE) * 5000
    assert check_robust(write(folder, packed, **{tar: deep + packed[tar]}))


@often
@given(mutate=mutations())
def test_damaged_tars_are_indexed_or_refused(packed: dict[str, bytes], folder: Path, mutate: Any) -> None:
    write(folder, {"x.tar": mutate(packed[name_of(packed, "tar")])})
    with one_line_errors():
        dataset = index_in_place(IndexInPlace(folder, size=8, workers=1, check=True))
        assert findings(folder).problems == [] and all(dataset.read(i) for i in range(len(dataset)))
        return
    assert not (folder / "manifest.json").exists()


def test_decompression_bomb_is_left_out(folder: Path) -> None:
    """Its header alone shows its size when tars are indexed."""
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    write(folder, {})
    files = {"a.png": bomb.getvalue(), "a.cls": "1", "b.png": png_bytes(side=8), "b.cls": "1"}
    write_tar(folder / "x.tar", files)
    dataset = index_in_place(IndexInPlace(folder, workers=1))
    assert len(dataset) == 1 and dataset.size == 8
