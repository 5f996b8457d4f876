"""The data set as it is opened: offsets that hold, damage that is named, handles that survive forks and pickling."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards.core import self_hash
from shards.core.atomic_io import sha256
from shards.core.errors import Failure, UserError
from shards.dataset import content_check, shard_reader, tar_index
from shards.dataset.dataset import Dataset
from shards.dataset.sidecars import FORMATS
from shards.packing.pack import Pack, pack
from support.errors import raises


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images in three shards; image i is filled with the grey 20·i and tagged by its number."""
    folder = tmp_path_factory.mktemp("index")
    (folder / "src").mkdir()
    rows = ["id,tags"]
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i,) * 3).save(folder / "src" / f"{i}.png")
        rows.append(f'{i},"number {i}, {"even" if i % 2 == 0 else "odd"}"')
    (folder / "src" / "tags.csv").write_text("\n".join(rows))
    pack(Pack(folder / "src", folder / "out", per_shard=5, workers=1, yes=True))  # a tag of its own for each image
    return folder / "out"


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    shutil.copytree(packed, tmp_path / "copy")
    return tmp_path / "copy"


def grey(data: bytes) -> int:
    return int(np.asarray(Image.open(io.BytesIO(data)))[0, 0, 0])


def numbers(dataset: Dataset) -> list[int]:
    return [grey(dataset.read(i)) // 20 for i in range(len(dataset))]


def test_every_image_is_read_under_its_own_label(packed: Path) -> None:
    dataset = Dataset.open(packed)
    assert sorted(numbers(dataset)) == list(range(12)) and len(dataset) == 12 and dataset.size == 8
    for i, number in enumerate(numbers(dataset)):
        parity = "even" if number % 2 == 0 else "odd"
        words = [tag for tag in dataset.schema.words(dataset.labels[i], dataset.known[i]) if " " not in tag]
        assert words == [parity] and dataset.format(i) == "png"
    assert isinstance(dataset.labels.stored, np.memmap) and dataset.labels.stored.dtype == np.uint8
    assert dataset.labels[:2].dtype == np.asarray(dataset.labels).dtype == np.float32
    assert isinstance(dataset.known, np.memmap) and dataset.known.dtype == bool


def test_the_tars_members_lie_where_the_index_says(packed: Path) -> None:
    dataset = Dataset.open(packed)
    found = [m for shard in dataset.shards for m in tar_index.members(shard) if m.extension in FORMATS]
    lie = zip(dataset.entries["offset"], dataset.entries["length"], strict=True)
    assert [(m.offset, m.length) for m in found] == list(lie)
    assert [m.key for m in found] == [f"{i:09d}" for i in range(12)]


def test_pickled_forked_and_threaded(packed: Path) -> None:
    dataset = Dataset.open(packed)
    expected = numbers(dataset)
    twin = pickle.loads(pickle.dumps(dataset))
    assert numbers(twin) == expected and twin.fingerprint == dataset.fingerprint
    for method in {"fork", "spawn"} & set(multiprocessing.get_all_start_methods()):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(dataset.read, range(12)) == [dataset.read(i) for i in range(12)]
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(numbers(dataset))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_few_files_stay_open(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_reader, "_OPEN_FILES", 1)
    dataset = Dataset.open(packed)
    before = len(list(Path("/dev/fd").iterdir()))
    assert sorted(numbers(dataset) + numbers(dataset)) == sorted([*range(12), *range(12)])
    assert len(list(Path("/dev/fd").iterdir())) <= before + 1


def test_reads_beyond_the_open_files_check_no_other_shard(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing is ever evicted, opening one more shard does not check the open ones."""
    checks: list[int] = []
    monkeypatch.setattr(shard_reader._Handle, "removed", lambda handle: bool(checks.append(handle.descriptor)))
    monkeypatch.setattr(shard_reader, "_OPEN_FILES", 2)
    dataset = Dataset.open(packed)
    assert sorted(numbers(dataset)) == [*range(12)] and len(dataset.shards) > 2
    assert not checks


def test_the_fingerprint_follows_the_content(packed: Path, copy: Path) -> None:
    original = Dataset.open(packed).fingerprint
    assert Dataset.open(copy).fingerprint == original
    edit(copy, lambda m: m["shards"][0].update(sha256="0" * 64))
    assert Dataset.open(copy).fingerprint != original


def edit(folder: Path, change: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(self_hash.with_hash(manifest)))


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (lambda m: m.update(format_version=4), "newer-format", "dataset format 4"),
        (lambda m: m.pop("format_version"), "manifest-invalid", "format_version"),
        (lambda m: m.update(picture_size=0), "manifest-invalid", "picture_size"),
        (lambda m: m.update(samples=True), "manifest-invalid", "samples must be"),
        (lambda m: m.update(samples=13), "manifest-invalid", "12 samples"),
        (lambda m: m.update(shards=[]), "manifest-invalid", "no shards"),
        (lambda m: m["shards"][0].update(file="../x.tar"), "manifest-invalid", "'../x.tar' is not a shard's name"),
        (lambda m: m["shards"][0].update(file="/etc/x.tar"), "manifest-invalid", "is not a shard's name"),
        (lambda m: m["shards"][0].update(file="gone.tar"), "shard-missing", "gone.tar"),
        (lambda m: m["shards"][0].update(bytes=1), "shard-changed", "src-000000.tar"),
        (lambda m: m["shards"][0].update(bytes=10**30), "manifest-invalid", "needs samples, bytes and sha256"),
        (lambda m: m["shards"][0].update(file="\ud800.tar"), "manifest-invalid", "is not a shard's name"),
        (lambda m: m["shards"][0].update(file=m["shards"][1]["file"]), "manifest-invalid", "src-000001.tar twice"),
        (lambda m: m["shards"][0].pop("sha256"), "manifest-invalid", "needs samples, bytes and sha256"),
        (lambda m: m.update(schema={}), "schema-invalid", "attributes"),
        (lambda m: m["schema"]["attributes"].pop(), "sidecar-damaged", "labels.npy"),
    ],
)
def test_an_invalid_manifest_is_named(copy: Path, change: Any, code: str, named: str) -> None:
    edit(copy, change)
    with raises(code, named) as caught:
        Dataset.open(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["index.npy", "labels.npy", "known.npy"])
def test_a_damaged_sidecar_is_named(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    for damaged in (
        whole[:-1],
        whole[:20],
        b"",
        b"PK\x03\x04",
        pickle.dumps([1]),
        whole.replace(b"'shape': (12", b"'shape': (11"),
    ):
        (copy / name).write_bytes(damaged)
        with raises("sidecar-damaged", name):
            Dataset.open(copy)
    (copy / name).unlink()
    with raises("sidecar-missing", name):
        Dataset.open(copy)


def test_entries_outside_their_shard_are_named(copy: Path) -> None:
    entries = np.load(copy / "index.npy")
    for field, value in (
        ("shard", 3),
        ("shard", -1),
        ("offset", -5),
        ("offset", 1 << 40),
        ("length", 1 << 31),
        ("format", 9),
    ):
        bad = entries.copy()
        bad[field][7] = value
        np.save(copy / "index.npy", bad)
        with raises("index-damaged", "entry 7"):
            Dataset.open(copy)


@pytest.mark.parametrize("name", ["manifest.json", "index.npy", "labels.npy", "known.npy"])
def test_any_altered_byte_is_a_user_error_or_harmless(packed: Path, name: str) -> None:
    whole = (packed / name).read_bytes()

    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=4))
    def altered(changes: list[tuple[int, int]]) -> None:
        data = bytearray(whole)
        for at, value in changes:
            data[at] = value
        (packed / name).write_bytes(data)
        with contextlib.suppress(UserError):  # no other error
            dataset = Dataset.open(packed)
            for i in range(len(dataset)):
                dataset.read(i)

    try:
        altered()
    finally:
        (packed / name).write_bytes(whole)
    assert len(Dataset.open(packed)) == 12


def test_reading_into_a_buffer(packed: Path) -> None:
    dataset = Dataset.open(packed)
    for i in range(12):
        row = bytearray(int(dataset.entries[i]["length"]) + 8)
        dataset.read_into(i, memoryview(row)[4:-4])
        assert row == bytes(4) + dataset.read(i) + bytes(4)
    with pytest.raises(ValueError, match="and the buffer 3"):
        dataset.read_into(0, memoryview(bytearray(3)))


def test_bounds_of_the_shards(packed: Path, copy: Path) -> None:
    dataset = Dataset.open(packed)
    assert dataset.shard_bounds.tolist() == [0, 5, 10, 12] and dataset.shard_bounds.dtype == np.int64
    assert [dataset.shard_of(i) for i in range(12)] == [0] * 5 + [1] * 5 + [2] * 2
    assert dataset.shard_bytes.tolist() == [path.stat().st_size for path in dataset.shards]
    assert (dataset.fit, dataset.background, dataset.in_place, dataset.remote) == ("crop", "white", False, False)
    entries = np.load(copy / "index.npy")
    np.save(copy / "index.npy", entries[::-1])
    edit(copy, lambda m: m["sidecars"].update({"index.npy": sha256(copy / "index.npy")}))
    turned = Dataset.open(copy)
    with raises("index-not-in-shard-order", "--order full"):
        _ = turned.shard_bounds


def test_sidecars_of_other_content_are_refused(copy: Path) -> None:
    """Rows in another order have the right size and shape, and the manifest knows better."""
    for name in ("index.npy", "labels.npy", "known.npy"):
        whole = (copy / name).read_bytes()
        values = np.load(copy / name)
        values[0], values[-1] = values[-1].copy(), values[0].copy()
        np.save(copy / name, values)
        if (copy / name).read_bytes() != whole:
            with raises("sidecar-damaged", name, "sha256"):
                Dataset.open(copy)
        (copy / name).write_bytes(whole)
    Dataset.open(copy)


def test_altered_manifest_is_refused(copy: Path) -> None:
    content = json.loads((copy / "manifest.json").read_text())
    content["schema"]["attributes"][0]["name"] += "s"
    (copy / "manifest.json").write_text(json.dumps(content))
    with raises("manifest-invalid", "manifest.json", "seal"):
        Dataset.open(copy)


def test_each_content_is_hashed_once(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(content_check, "_SETTLED", -60.0)
    monkeypatch.setattr(content_check, "_hash", lambda path: hashed.append(path.name) or sha256(path))
    for _ in range(3):
        Dataset.open(copy)
    assert sorted(hashed) == ["index.npy", "known.npy", "labels.npy"]
    note = next((tmp_path / "cache").rglob("*.json"))
    for damaged in ("[" * 100_000, "[]", '{"labels.npy": 3}'):
        note.write_text(damaged)
        hashed.clear()
        Dataset.open(copy)
        assert len(hashed) == 3
    labels, before = copy / "labels.npy", (copy / "labels.npy").stat()
    data = labels.read_bytes()
    labels.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(labels, ns=(before.st_atime_ns, before.st_mtime_ns))
    with raises("sidecar-damaged", "labels.npy"):
        Dataset.open(copy)


def test_files_that_changed_just_now_are_not_remembered(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a tick of the clock, a second change would have the same time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(content_check, "_SETTLED", 3600.0)
    Dataset.open(copy)
    assert not any(path.read_text().strip() != "{}" for path in (tmp_path / "cache").rglob("*.json"))


@pytest.mark.long
@pytest.mark.parametrize("name", ["manifest.json", "index.npy", "labels.npy", "known.npy"])
def test_a_flipped_bit_of_any_byte_is_noticed_or_changes_nothing(packed: Path, name: str) -> None:
    whole, original = (packed / name).read_bytes(), Dataset.open(packed)
    unnoticed = set()
    try:
        for place in range(len(whole)):
            data = bytearray(whole)
            data[place] ^= 1 << place % 8
            (packed / name).write_bytes(data)
            with contextlib.suppress(UserError):
                assert Dataset.open(packed).manifest == original.manifest
                unnoticed.add(chr(whole[place]))
    finally:
        (packed / name).write_bytes(whole)
    assert unnoticed <= {" ", "\n"}, "blanks between the values of the manifest"


def test_no_dataset_and_a_dataset_that_shrinks_later(packed: Path, copy: Path, tmp_path: Path) -> None:
    with raises("dataset-missing", tmp_path / "none"):
        Dataset.open(tmp_path / "none")
    with raises("dataset-missing", tmp_path, "manifest.json"):
        Dataset.open(tmp_path)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with raises("manifest-invalid", tmp_path / "manifest.json"):
        Dataset.open(tmp_path)
    dataset = Dataset.open(copy)
    for shard in dataset.shards:
        shard.write_bytes(b"")
    with raises("shard-changed", kind=Failure):
        dataset.read(0)


@pytest.mark.long
def test_the_benchmark_of_going_on(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "benchmarks" / "resume.py"), "--samples", "20000", "--shards", "30"]
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [*command, "--pairs", "1", "--json", str(figures)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    found = json.loads(figures.read_text())
    assert done.stdout.splitlines()[-1] == f"ratio: {found['ratio']:.2f}" and len(found["seconds"]) == 2
