"""`cgan verify`: every problem of a dataset is found and named."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shards.core import atomic_io, self_hash
from shards.core.errors import Failure, exit_status
from shards.dataset.dataset import Dataset
from shards.dataset.schema import Schema
from shards.inspect import verify
from shards.inspect.verify import Verify, findings
from shards.packing.pack import Pack, pack
from support.errors import codes, raises
from support.tagged_images import tagged


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(Pack(tagged(folder / "src"), folder / "out", per_shard=8, workers=1))
    return folder / "out"


@pytest.fixture
def whole(packed: Path, tmp_path: Path) -> Path:
    """A copy of the dataset for each test: three shards of eight images, sealed."""
    shutil.copytree(packed, tmp_path / "data")
    reseal(tmp_path / "data")
    return tmp_path / "data"


def reseal(folder: Path, **changes: Any) -> None:
    """Change the manifest and recompute its seal."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    atomic_io.write_json(folder / "manifest.json", self_hash.with_hash({**manifest, **changes}))


def rehash(folder: Path) -> None:
    """Update the manifest's hashes to the sidecars as they are now, as a faulty program would."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    reseal(folder, sidecars={name: atomic_io.sha256(folder / name) for name in manifest["sidecars"]})


def flip(path: Path, at: int, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)


def said(folder: Path, **options: Any) -> str:
    return "\n".join(findings(folder, **options).problems)


def member(folder: Path, shard: int, name: str) -> tarfile.TarInfo:
    with tarfile.open(folder / f"src-{shard:06d}.tar") as archive:
        return archive.getmember(name)


def test_intact_dataset(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (Verify(whole, workers=1), Verify(whole, workers=2), Verify(whole, quick=True)):
        verify.verify(options)
        assert ": intact; " in capsys.readouterr().out
    assert not findings(whole).notes
    (whole / "mine.tar").write_bytes(b"")
    verify.verify(Verify(whole))
    assert "note: " in (out := capsys.readouterr().out) and "mine.tar" in out and ": intact; " in out


def test_every_format_is_intact(tmp_path: Path) -> None:
    src = tagged(tmp_path / "src")
    for form in ("jpg", "png", "webp", "raw"):
        pack(Pack(src, tmp_path / form, size=6, format=form, workers=1, validation=0.25))
        assert (tmp_path / form / "validation").is_dir() and findings(tmp_path / form).problems == []


def test_truncated_altered_or_missing_shard(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = (whole / f"src-{i:06d}.tar" for i in range(3))
    first.write_bytes(first.read_bytes()[:3000])
    flip(second, member(whole, 1, "000000009.npy").offset_data + 130, 0x80)
    third.unlink()
    status = exit_status(lambda: verify.main([str(whole), "--workers", "1"]))
    out, err = capsys.readouterr()
    assert status == 1 and codes(err) == ["dataset-damaged"] and "5 problems" in err
    assert f"{first.name}: 3,000 bytes instead of" in out and "(truncated)" in out
    assert f"{second.name}: content altered" in out
    assert f"{third.name}: missing" in out
    assert "000000009 (row 9" in out


def test_changed_labels_are_reported_per_sample(whole: Path) -> None:
    labels, known = (np.load(whole / name) for name in ("labels.npy", "known.npy"))
    schema = Dataset.open(whole).schema
    row = int(np.flatnonzero(labels[:, schema.values.index("blue hair")])[0])
    labels[row, schema.values.index("blue hair")], labels[row, schema.values.index("red hair")] = 0, 1
    known[20, 0] = False
    np.save(whole / "labels.npy", labels)
    np.save(whole / "known.npy", known)
    text = said(whole)
    assert "labels.npy: content altered" in text and "known.npy: content altered" in text
    assert f"{row:09d} (row {row}: the tar says 'blue hair" in text and "not 'red hair" in text
    assert "KEY.json in src-000002.tar" in text and "000000020 (row 20)" in text
    rehash(whole)
    assert "altered" not in said(whole) and f"(row {row}: the tar says" in said(whole)


def test_wide_labels_take_little_space_and_are_checked_all_the_same(tmp_path: Path) -> None:
    """A thousand classes of one image each: the tar lists the one entry that is set, and labels.npy has bytes."""
    for number in range(300):
        (tmp_path / "src" / f"name {number:03}").mkdir(parents=True)
        Image.new("RGB", (4, 4), (number % 256, number // 256, 9)).save(
            tmp_path / "src" / f"name {number:03}" / "a.png"
        )
    dataset = pack(Pack(tmp_path / "src", tmp_path / "out", size=4, workers=1, yes=True))
    assert (tmp_path / "out" / "labels.npy").stat().st_size < 300 * 300 + 4096
    with tarfile.open(dataset.shards[0]) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # pyright: ignore[reportOptionalMemberAccess]
    assert not [name for name in members if name.endswith(".npy")]
    for i in range(300):
        notes = json.loads(members[f"{i:09d}.json"])
        assert [dataset.schema.values[one] for one in notes["ones"]] == notes["tags"]
        assert dataset.schema.words(dataset.labels[i], dataset.known[i]) == notes["tags"]
    assert not findings(tmp_path / "out").problems
    labels = np.load(tmp_path / "out" / "labels.npy")
    labels[7] = labels[8]
    np.save(tmp_path / "out" / "labels.npy", labels)
    assert "labels differ" in said(tmp_path / "out") and "row 7" in said(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda e: e["offset"].__setitem__(5, e["offset"][5] + 512),
            "entries do not match .*src-000000.tar.* entry 5$",
        ),
        (lambda e: e["length"].__setitem__(9, e["length"][9] - 1), "entries do not match .*src-000001.tar.* entry 9$"),
        (lambda e: e["shard"].__setitem__(9, 0), "entries do not match .*src-000001.tar.* entry 9$"),
        (lambda e: e["format"].__setitem__(3, 0), "entries do not match .*src-000000.tar.* entry 3$"),
        (lambda e: e.__setitem__(4, e[3]), "entries do not match .*src-000000.tar.* entry 4$"),
        (lambda e: e.__setitem__(slice(2, 4), e[[3, 2]]), "labels.npy: labels differ .*src-000000.tar"),
        (lambda e: e["offset"].__setitem__(5, 1 << 60), "entry 5$"),
    ],
)
def test_index_that_does_not_match(whole: Path, change: Callable[[np.ndarray], None], sentence: str) -> None:
    entries = np.load(whole / "index.npy")
    change(entries)
    np.save(whole / "index.npy", entries)
    rehash(whole)  # its hash does not reveal the change
    for quick in (False, True):
        assert any(re.search(sentence, line) for line in findings(whole, quick=quick).problems)


def test_image_that_cannot_be_decoded(whole: Path) -> None:
    place = member(whole, 2, "000000017.png")
    data = bytearray((whole / "src-000002.tar").read_bytes())
    data[place.offset_data + 40 : place.offset_data + place.size] = bytes(place.size - 40)
    (whole / "src-000002.tar").write_bytes(data)
    manifest = json.loads((whole / "manifest.json").read_text("utf-8"))
    manifest["shards"][2]["sha256"] = atomic_io.sha256(whole / "src-000002.tar")
    reseal(whole, shards=manifest["shards"])
    assert "src-000002.tar: images that cannot be decoded" in said(whole) and "000000017" in said(whole)
    assert findings(whole, quick=True).problems == []


def test_schema_mismatch(whole: Path) -> None:
    schema = Schema.load(whole / "schema.yaml")
    Schema(schema.attributes[::-1]).save(whole / "schema.yaml")
    assert "schema.yaml: not the schema" in said(whole) and "in the order of its attributes" in said(whole)
    (whole / "schema.yaml").write_text("attributes:\n- {name: hair, kind: exclusive, values: [blue hair]}\n")
    assert "it differs in hair, hair (long/short), odd" in said(whole)
    (whole / "schema.yaml").unlink()
    assert "schema.yaml: missing" in said(whole)


def test_missing_and_misshapen_sidecars(whole: Path) -> None:
    np.save(whole / "labels.npy", np.load(whole / "labels.npy")[:-1])
    (whole / "known.npy").write_bytes(b"")
    (whole / "index.npy").unlink()
    text = said(whole)
    assert (
        "labels.npy: contains uint8 (23, " in text and "known.npy: not a readable array (its header is damaged)" in text
    )
    assert "index.npy: missing" in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"samples": 25}, "the shards hold 24 samples, not 25"),
        ({"picture_size": 0}, "picture_size must be a whole number above 0"),
        ({"picture_size": 1 << 40}, "picture_size 1099511627776"),
        ({"picture_size": 9}, "8x8, not 9x9"),
        ({"format_version": 4}, "dataset format 4"),
        ({"channels": 2}, "channels must be 1, 3 or 4, not '2'"),
        ({"aspect": "3-4"}, "'3-4' is not width:height"),
        ({"aspect": "3:4"}, "8x8, not 6x8"),
        ({"shards": []}, "it lists no shards"),
        ({"shards": [{"file": "../x.tar", "samples": 24, "bytes": 1, "sha256": ""}]}, "is not a shard's name"),
        ({"shards": [{"file": "/etc/x.tar", "samples": 24, "bytes": 1, "sha256": ""}]}, "is not a shard's name"),
        ({"shards": [{"file": "x.tar", "samples": -1, "bytes": 1, "sha256": ""}]}, "needs samples, bytes and sha256"),
        ({"shards": [{"file": "x.tar", "samples": 24, "bytes": 10**40, "sha256": ""}]}, "needs samples, bytes"),
        ({"sidecars": {"../../etc/passwd": "0" * 64}}, "is not the name of a sidecar"),
        ({"sidecars": None}, "it has no sha256 of labels.npy"),
        ({"schema": {"attributes": [{"name": 3}]}}, "needs a name"),
        ({"schema": None}, "a schema is a list"),
    ],
)
def test_invalid_manifest(whole: Path, changes: dict[str, Any], sentence: str) -> None:
    reseal(whole, **changes)
    assert sentence in said(whole)


def test_any_change_of_the_manifest_is_found(whole: Path) -> None:
    manifest = json.loads((whole / "manifest.json").read_text("utf-8"))
    for changed in ({**manifest, "licence": "none"}, {**manifest, "seed": 7}, {**manifest, "extra": 1}):
        atomic_io.write_json(whole / "manifest.json", changed)
        assert "seal does not match" in said(whole)
    renamed = {("sead" if key == "seal" else key): value for key, value in manifest.items()}
    atomic_io.write_json(whole / "manifest.json", renamed)
    assert "seal does not match" in said(whole)
    del manifest["seal"]
    atomic_io.write_json(whole / "manifest.json", manifest)
    found = findings(whole)
    assert not found.problems and "has no seal" in found.notes[0]
    (whole / "manifest.json").write_text("{")
    assert "cannot be read" in said(whole)


def test_validation_split_is_checked_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(Pack(tagged(tmp_path / "src"), out, workers=1, validation=0.25))
    (shard,) = (out / "validation").glob("*.tar")
    flip(shard, 600)
    assert f"validation/{shard.name}: content altered" in said(out)
    shutil.rmtree(out / "validation")
    assert "validation: this split of the dataset is missing" in said(out)


def test_missing_dataset(tmp_path: Path) -> None:
    with raises("dataset-missing", tmp_path / "gone"):
        verify.verify(Verify(tmp_path / "gone"))
    with raises("dataset-missing", "manifest.json") as error:
        verify.verify(Verify(tmp_path))
    assert not isinstance(error.value, Failure)


def test_output_is_bounded(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((whole / "manifest.json").read_text("utf-8"))
    gone = [{"file": f"{i}.tar", "samples": 0, "bytes": 1, "sha256": "0"} for i in range(150)]
    reseal(whole, shards=[*manifest["shards"], *gone])
    with raises("dataset-damaged", "150 problems", kind=Failure):
        verify.verify(Verify(whole, workers=1))
    out = capsys.readouterr().out
    assert out.count("\n") == 101 and "and 50 more" in out
