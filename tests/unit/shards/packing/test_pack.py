"""Packing: plain WebDataset tars, the same bytes however they were made, and nothing lost or harmed on the way."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from webdataset.compat import WebDataset

from shards.__main__ import main
from shards.core import file_lock, process_pool
from shards.core.errors import Failure
from shards.dataset.dataset import Dataset
from shards.dataset.schema import Schema
from shards.examples.shapes import write_folder
from shards.packing import shard_writer
from shards.packing.pack import Pack, pack
from support.errors import raises
from support.tagged_images import colour_of, tagged


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def decoded(dataset: Dataset) -> list[dict[str, Any]]:
    """All samples as webdataset itself reads them, in the order of the tars."""
    reader: Any = WebDataset([str(path) for path in dataset.shards], shardshuffle=False)
    return list(reader.decode())


def test_webdataset_itself_reads_what_was_packed(tmp_path: Path) -> None:
    dataset = pack(Pack(tagged(tmp_path / "src"), tmp_path / "out", per_shard=7, workers=1))
    assert [path.name for path in dataset.shards] == [f"src-{i:06d}.tar" for i in range(4)]
    samples = list(decoded(dataset))
    assert len(samples) == len(dataset) == 24 and len({sample["__key__"] for sample in samples}) == 24
    for i, sample in enumerate(samples):
        assert np.array_equal(sample["npy"], dataset.labels[i]) and sample["npy"].dtype == np.float32
        assert sample["json"]["known"] == dataset.known[i].astype(int).tolist()
        words = dataset.schema.words(dataset.labels[i], dataset.known[i])
        assert sorted(sample["json"]["tags"]) == sorted(words)
        assert f"{colour_of(dataset.read(i))} hair" in words
    for path in dataset.shards:
        with tarfile.open(path) as archive:
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in archive} == {(0, 0, 0, "", "", 0o444)}


def test_images_that_fit_are_the_same_bytes_and_shuffled(tmp_path: Path) -> None:
    src = tagged(tmp_path / "src")
    dataset = pack(Pack(src, tmp_path / "out", workers=1))
    originals = {path.read_bytes() for path in (src / "images").iterdir()}
    assert {dataset.read(i) for i in range(24)} == originals and dataset.manifest["copied"] == 24

    def order(dataset: Dataset) -> list[str]:
        return [sample["json"]["id"] for sample in decoded(dataset)]

    ids = order(dataset)
    assert ids != sorted(ids) and len(set(ids)) == 24
    assert order(pack(Pack(src, tmp_path / "other", workers=1, seed=1))) not in (ids, sorted(ids))


def test_trap_the_bytes_do_not_depend_on_workers_or_on_the_start_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    src = tagged(tmp_path / "src")
    pack(Pack(src, tmp_path / "alone", size=6, per_shard=5, workers=1))
    expected = content(tmp_path / "alone")
    assert len(expected) == 5 + 6
    for method in sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods())):
        monkeypatch.setattr(process_pool, "_start_method", lambda method=method: method)
        pack(Pack(src, tmp_path / method, size=6, per_shard=5, workers=2))
        assert content(tmp_path / method) == expected


def test_the_schema_is_inferred_and_can_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = tagged(tmp_path / "src")
    dataset = pack(Pack(src, tmp_path / "out", workers=1))
    assert [(a.name, a.kind, a.width) for a in dataset.schema.attributes] == [
        ("hair", "exclusive", 3),
        ("hair (long/short)", "exclusive", 2),
        ("odd", "tag", 1),
    ]
    said = capsys.readouterr().out
    assert "hair: blue 8, green 8, red 8; all known" in said and "odd: present 12, absent 12; all known" in said
    own = tmp_path / "own.yaml"
    own.write_text(
        "attributes:\n- {name: colour, kind: exclusive, values: [red hair, blue hair]}\n- {name: odd, kind: tag}\n"
    )
    dataset = pack(Pack(src, tmp_path / "own", schema=own, absent="unknown", workers=1))
    assert dataset.schema == Schema.load(own) == Schema.load(tmp_path / "own" / "schema.yaml")
    said = capsys.readouterr().out
    assert "tags that own.yaml lacks (left out): 3 (green hair, long hair, short hair)" in said
    assert (
        "colour: red 8, blue 8; unknown 8 (33.3%)" in said and "odd: present 12, absent 0; unknown 12 (50.0%)" in said
    )


def test_class_folders_become_one_attribute(tmp_path: Path) -> None:
    for name in ("golden retriever", "red fox"):
        (tmp_path / "src" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "src" / name / "1.png")
    dataset = pack(Pack(tmp_path / "src", tmp_path / "out", workers=1))
    (attribute,) = dataset.schema.attributes
    assert (attribute.name, attribute.kind, attribute.values) == ("class", "exclusive", ("golden retriever", "red fox"))
    assert sorted(dataset.labels[:].tolist()) == [[0, 1], [1, 0]] and dataset.known.all()


def test_what_is_amiss_is_counted_and_the_rest_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = tagged(tmp_path / "src")
    images = src / "images"
    (images / "0000.png").write_bytes(b"")
    (images / "0001.png").write_bytes((images / "0001.png").read_bytes()[:40])
    (images / "0002.png").unlink()
    Image.new("RGB", (8, 8)).save(images / "extra.png")
    with (src / "tags.csv").open("a") as table:
        table.write('0003,smile\n"gone",smile\n')
    text = (src / "tags.csv").read_text()
    (src / "tags.csv").write_text(text.replace("0005,", '0005,"red hair, ').replace('red hair, "', "red hair, "))
    dataset = pack(Pack(src, tmp_path / "out", per_shard=5, workers=1, duplicates="keep"))
    assert len(dataset) == 22
    unlabelled = np.flatnonzero(~dataset.known.any(axis=1))
    assert len(unlabelled) == 1 and not dataset.labels[unlabelled].any()
    said = capsys.readouterr().out
    assert re.search(r"cannot be used \(left out\): 2 \(.*0000.png: an empty file|0001.png: damaged", said)
    assert "rows without an image (left out): 2 (0002, gone)" in said
    assert "the first row is used): 1 (0003)" in said
    assert "images without a row (kept, unlabelled): 1 (images/extra.png)" in said
    assert "images with two values of 'hair' (unknown there): 1" in said
    assert "images without any label: 1 (4.5%)" in said
    assert sum(dataset.manifest["problems"].values()) == 7


def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    src = tagged(tmp_path / "src", 3)
    for path in (src / "images").iterdir():
        path.write_bytes(b"no image")
    with raises("no-images", 3):
        pack(Pack(src, tmp_path / "out", size=8, workers=1))
    with raises("no-images", 3):
        pack(Pack(src, tmp_path / "out", workers=1))
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_size_is_taken_from_the_images_or_asked_for(tmp_path: Path) -> None:
    src = tagged(tmp_path / "src", 4)
    Image.new("RGB", (9, 9)).save(src / "images" / "0003.png")
    with raises("option-missing", "--size", "8 and 9"):
        pack(Pack(src, tmp_path / "out"))
    Image.new("RGB", (8, 9)).save(src / "images" / "0003.png")
    with raises("option-missing", "--size", "0003.png is 8 x 9"):
        pack(Pack(src, tmp_path / "out"))
    assert pack(Pack(src, tmp_path / "out", size=8, workers=1)).manifest["copied"] == 3


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_the_encoding_can_be_chosen(tmp_path: Path, form: str) -> None:
    dataset = pack(Pack(tagged(tmp_path / "src", 6), tmp_path / "out", format=form, workers=1))
    assert {dataset.format(i) for i in range(6)} == {form}
    for i in range(6):
        assert f"{colour_of(dataset.read(i))} hair" in dataset.schema.words(dataset.labels[i], dataset.known[i])


def test_an_out_that_holds_anything_is_left_as_it_was(tmp_path: Path) -> None:
    src, out = tagged(tmp_path / "src", 6), tmp_path / "out"
    pack(Pack(src, out, workers=1))
    before = content(tmp_path)
    assert main(["pack", str(src), str(out)]) == 2
    with raises("output-exists"):
        pack(Pack(src, out))
    with raises("output-exists", "tags.csv"):
        pack(Pack(src, src))
    with raises("output-exists", "tags.csv"):
        pack(Pack(src, src / "tags.csv"))
    assert content(tmp_path) == before
    (tmp_path / "empty").mkdir()
    assert len(pack(Pack(src, tmp_path / "empty", workers=1))) == 6


def test_images_without_labels_need_the_schema_of_others(tmp_path: Path) -> None:
    src = tagged(tmp_path / "src", 3)
    with raises("source-unlabelled", "--schema"):
        pack(Pack(src, tmp_path / "out", workers=1, source="pictures"))
    other = pack(Pack(src, tmp_path / "other", workers=1))
    schema = other.path / "schema.yaml"
    assert not pack(Pack(src, tmp_path / "out", workers=1, source="pictures", schema=schema)).known.any()


def test_a_compressed_tar_is_packed(tmp_path: Path) -> None:
    whole = pack(Pack(tagged(tmp_path / "src"), tmp_path / "whole", workers=1))
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as archive, tarfile.open(whole.shards[0]) as original:
        for member in original:
            archive.addfile(member, original.extractfile(member))
    dataset = pack(Pack(tmp_path / "small.tar.gz", tmp_path / "out", workers=2, per_shard=5))
    assert dataset.shards[0].name == "small-000000.tar" and len(dataset) == 24
    assert {dataset.read(i) for i in range(24)} == {whole.read(i) for i in range(24)}
    assert not list(tmp_path.glob(".*"))


def test_a_link_as_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path)
    with raises("output-is-symlink", "out"):
        pack(Pack(tagged(tmp_path / "src", 3), tmp_path / "out", workers=1))


def test_source_and_licence_reach_the_manifest(tmp_path: Path) -> None:
    src = tagged(tmp_path / "src", 6)
    assert pack(Pack(src, tmp_path / "a", workers=1)).manifest["licence"] is None
    (src / "source.json").write_text('{"licence": "CC0 1.0", "pictures": "drawn"}')
    manifest = pack(Pack(src, tmp_path / "b", workers=1)).manifest
    assert manifest["licence"] == "CC0 1.0" and manifest["source"] == {
        "kind": "tags",
        "folder": "src",
        "pictures": "drawn",
    }
    assert pack(Pack(src, tmp_path / "c", licence="mine", workers=1)).manifest["licence"] == "mine"
    assert str(tmp_path) not in json.dumps(manifest)


# ---------------------------------------------------------------- interruptions


def command(src: Path, out: Path, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "shards",
        "pack",
        str(src),
        str(out),
        "--size",
        "64",
        "--per-shard",
        "10",
        "--workers",
        "2",
        *options,
    ]


def interrupted(
    src: Path, out: Path, how: Callable[[subprocess.Popen[Any]], None]
) -> tuple[subprocess.Popen[Any], str]:
    """Start packing in a session of its own, wait for two finished shards, and end it in some way."""
    process = subprocess.Popen(command(src, out), stderr=subprocess.PIPE, text=True, start_new_session=True)
    records = out.with_name(f".{out.name}.packing") / "records"
    deadline = time.monotonic() + 60
    while len(list(records.glob("*.tar.json"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    how(process)
    _, error = process.communicate(timeout=30)
    return process, error


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Images that must be converted, 40 shards of them."""
    return tagged(tmp_path / "src", 400, 240)


def test_kill_9_loses_no_finished_shard_and_changes_no_byte(
    large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, build = tmp_path / "out", tmp_path / ".out.packing"
    process, _ = interrupted(large, out, lambda p: p.kill())
    assert process.returncode == -signal.SIGKILL and not out.exists()
    deadline = time.monotonic() + 20
    while (alive := session(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive  # the workers left with it
    finished = {path: path.stat().st_mtime_ns for path in (build / "data").glob("*.tar")}
    recorded = [path.name.removesuffix(".json") for path in (build / "records").glob("*.tar.json")]
    assert 2 <= len(recorded) < 40
    pack(Pack(large, out, size=64, per_shard=10, workers=1))
    assert f"resuming: {len(recorded)} of 40 shards" in capsys.readouterr().err
    for path, changed in finished.items():
        if path.name in recorded:
            assert (out / path.name).stat().st_mtime_ns == changed  # not written again
    assert not build.exists()
    pack(Pack(large, tmp_path / "straight", size=64, per_shard=10, workers=1, name="src"))
    assert content(out) == content(tmp_path / "straight")


def session(number: int) -> list[str]:
    """Processes of a session that are still at work."""
    listed = subprocess.run(["ps", "-eo", "sess=,stat=,pid="], capture_output=True, text=True, check=True).stdout
    return [
        line for line in listed.splitlines() if line.split()[0] == str(number) and not line.split()[1].startswith("Z")
    ]


def test_ctrl_c_says_how_to_go_on(large: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process, error = interrupted(large, out, lambda p: os.killpg(p.pid, signal.SIGINT))
    assert process.returncode == 130 and not out.exists()
    assert re.search(r"stopped: \d+ of 40 shards .*re-run the same command", error)
    assert "Traceback" not in error
    assert len(pack(Pack(large, out, size=64, per_shard=10, workers=1))) == 400


def test_an_unfinished_packing_of_another_kind_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    src, out = tagged(tmp_path / "src"), tmp_path / "out"

    def stop(task: shard_writer.Task) -> Any:
        raise Failure("stopped", "stop here")

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "write_shard", stop)
        with pytest.raises(Failure):
            pack(Pack(src, out, size=6, workers=1))
    before = content(tmp_path)
    with raises("packing-differs", "size, seed"):
        pack(Pack(src, out, size=7, seed=3, workers=1))
    assert content(tmp_path) == before
    os.utime(src / "images" / "0003.png", (1, 1))
    with raises("packing-differs", "pictures and tags"):
        pack(Pack(src, out, size=6, workers=1))
    shutil.rmtree(tmp_path / ".out.packing")
    assert len(pack(Pack(src, out, size=6, workers=1))) == 24


def test_two_packings_into_one_place_do_not_mix(tmp_path: Path) -> None:
    src, out = tagged(tmp_path / "src"), tmp_path / "out"
    (tmp_path / ".out.packing").mkdir()
    with (
        file_lock.locked(tmp_path / ".out.packing" / "lock", ""),
        raises("in-use"),
    ):
        pack(Pack(src, out, workers=1))
    assert len(pack(Pack(src, out, workers=1))) == 24


def test_a_full_disk_is_one_sentence_and_can_be_gone_on_from(tmp_path: Path) -> None:
    src, out = tagged(tmp_path / "src", 60, 64), tmp_path / "out"
    # A limit on file size stands in for the full disk: writing fails with the system's own error.
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
        f"from shards.__main__ import main; sys.exit(main({command(src, out)[3:]!r}))"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and not out.exists()
    assert done.stderr.count("\n") == 1 and re.search(
        r"error: .*\.tar could not be written: File too large", done.stderr
    )
    assert not list((tmp_path / ".out.packing" / "data").iterdir())  # no half shard, under no name
    assert len(pack(Pack(src, out, size=64, per_shard=10, workers=1))) == 60


@pytest.mark.skipif(sys.platform != "linux", reason="a patched function reaches forked workers only")
def test_a_killed_worker_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    src = tagged(tmp_path / "src")

    def killed(task: shard_writer.Task) -> Any:
        process_pool._done.get_lock().acquire()  # at the worst moment: while it counts an image
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(process_pool, "_start_method", lambda: "fork")
    monkeypatch.setattr(shard_writer, "write_shard", killed)
    killed.__module__, killed.__qualname__ = "shards.packing.shard_writer", "write_shard"  # as the pool will look it up
    with raises("worker-killed", kind=Failure):
        pack(Pack(src, tmp_path / "out", workers=2, per_shard=5))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pack"], "SRC is missing"),
        (["pack", "a", "b", "--sise", "8"], "did you mean --size"),
        (["pack", "a", "b", "--size", "2"], "--size: 2 is too small"),
        (["pack", "a", "b", "--fit", "cropp"], "did you mean 'crop'"),
        (["pack", "a", "b", "--name", "../x"], "--name '../x'"),
        (["pakc"], "did you mean 'pack'"),
    ],
)
def test_a_mistyped_command_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("swept", ["nothing", "records", "plan.json"])
def test_killed_after_out_has_its_name_the_same_command_sweeps_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swept: str
) -> None:
    write_folder(tmp_path / "source", 20, 16)
    options = Pack(src=tmp_path / "source", out=tmp_path / "data", size=16, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr("shards.packing.merge._remove_build", lambda build: None)
        pack(options)
    build = tmp_path / ".data.packing"
    if swept == "records":
        shutil.rmtree(build / "records")
    elif swept == "plan.json":
        (build / "plan.json").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    if swept != "plan.json":
        with raises("output-exists"):
            pack(dataclasses.replace(options, seed=1))
    assert len(pack(options)) == 20
    assert not build.exists()
    assert {path: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before
    with raises("output-exists"):
        pack(options)


def test_tags_that_are_left_out_are_listed_in_a_file(tmp_path: Path) -> None:
    rows = ["id,tags"]
    for i in range(300):
        Image.new("RGB", (4, 4), (i % 256, i // 256, 0)).save(tmp_path / f"{i}.png")
        rows.append(f'{i},"cat, name {i // 2}, {"big" if i % 3 else "small"} ears"')
    (tmp_path / "tags.csv").write_text("\n".join(rows))
    dataset = pack(Pack(tmp_path, tmp_path.with_name("out"), size=4, workers=1))
    listed = (dataset.path / "left-out-tags.csv").read_text().splitlines()
    assert listed[:3] == ["tag,images", "name 0,2", "name 1,2"] and len(listed) == 151
    assert "left-out-tags.csv" in dataset.manifest["sidecars"] and "name 0" not in dataset.schema.values
    schema = (dataset.path / "schema.yaml").read_text()
    assert "# cat: in 300 of 300 images" in schema and "# ears: tags that end in 'ears'" in schema
    assert Schema.load(dataset.path / "schema.yaml") == dataset.schema


def test_packing_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    src = tagged(tmp_path / "src")
    monkeypatch.setattr(os, "link", refuse)
    assert len(pack(Pack(src, tmp_path / "out", workers=1))) == 24 and not list(tmp_path.glob(".*"))
