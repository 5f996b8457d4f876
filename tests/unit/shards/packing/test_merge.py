"""Many jobs pack one data set, and merging makes it whole; splits, duplicates and raw pixels on the way."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from webdataset.compat import WebDataset

from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.examples.shapes import write_folder
from shards.packing import plan, validation_split
from shards.packing.build_lock import building
from shards.packing.merge import Merge, merge
from shards.packing.pack import Pack, pack, pack_part
from shards.sources.item import ImageFile, Item, Source
from support.errors import raises


def drawn(folder: Path, count: int = 24, size: int = 8, copies: int = 0) -> Path:
    """Images that all differ, but for the last ``copies``, which are the first ones again."""
    (folder / "images").mkdir(parents=True)
    rows = ["id,tags"]
    for i in range(count):
        shown = i if i < count - copies else i - (count - copies)
        Image.new("RGB", (size, size), (shown % 256, shown // 256, 7)).save(folder / "images" / f"{i:04d}.png")
        rows.append(f'{i:04d},"{("blue", "red")[i % 2]} hair"')
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def samples(dataset: Dataset) -> list[dict[str, Any]]:
    reader: Any = WebDataset([str(path) for path in dataset.shards], shardshuffle=False)
    return list(reader.decode())


def test_parts_and_merge_give_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = drawn(tmp_path / "src"), tmp_path / "out"
    options: dict[str, Any] = {"size": 6, "per_shard": 3, "workers": 1, "validation": 0.25}
    pack(Pack(src, tmp_path / "whole", **options))
    assert "2 of 3 parts are missing (1/3, 3/3)" in pack_part(Pack(src, out, part="2/3", **options))
    with raises("shards-missing", "5 of 8", "src-000000.tar, src-000002.tar", "--part"):
        merge(Merge(out))
    assert "1 of 3 parts are missing (1/3)" in pack_part(Pack(src, out, part="3/3", **options))
    said = pack_part(Pack(src, out, part="1/3", **options))
    assert re.search(r"cgan merge .*out", said)
    shutil.rmtree(src)  # merging does without
    assert len(merge(Merge(out))) == 18
    assert content(out) == content(tmp_path / "whole") and not (tmp_path / ".out.packing").exists()
    capsys.readouterr()
    assert len(merge(Merge(out))) == 18
    assert "already merged" in capsys.readouterr().out


def test_build_folders_of_other_machines_are_copied_together(tmp_path: Path) -> None:
    src = drawn(tmp_path / "src")
    for i, machine in enumerate(("a", "b"), 1):
        (tmp_path / machine).mkdir()
        pack_part(Pack(src, tmp_path / machine / "out", per_shard=5, workers=1, part=f"{i}/2"))
    shutil.copytree(tmp_path / "b" / ".out.packing", tmp_path / "a" / ".out.packing", dirs_exist_ok=True)
    merge(Merge(tmp_path / "a" / "out"))
    pack(Pack(src, tmp_path / "whole", per_shard=5, workers=1))
    assert content(tmp_path / "a" / "out") == content(tmp_path / "whole")


def test_parts_of_different_plans_do_not_mix(tmp_path: Path) -> None:
    src, out = drawn(tmp_path / "src"), tmp_path / "out"
    pack_part(Pack(src, out, per_shard=5, workers=1, part="1/2"))
    others: list[dict[str, Any]] = [{"background": "black"}, {"format": "raw"}, {"min_size": 3}, {"validation": 0.5}]
    for other in others:
        with raises("packing-differs", next(iter(other)).replace("_", "-")):
            pack_part(Pack(src, out, per_shard=5, workers=1, part="2/2", **other))


def test_a_job_leaves_what_another_one_is_writing_of_the_other_part(tmp_path: Path) -> None:
    """Shards of the training part and of the validation part bear the same names."""
    src, out = drawn(tmp_path / "src"), tmp_path / "out"
    options: dict[str, Any] = {"per_shard": 6, "workers": 1, "validation": 0.25}
    pack_part(Pack(src, out, part="1/2", **options))
    build = tmp_path / ".out.packing"
    assert [part.split for part, _ in plan.load(build).every()] == ["train"] * 3 + ["validation"], "the second job's"
    name = plan.load(build).shards(plan.load(build).parts[1])[0]
    half = [build / "data" / f".{name}.7.tmp", build / "data" / "validation" / f".{name}.7.tmp"]
    for path in half:
        path.write_bytes(b"half")
    pack_part(Pack(src, out, part="2/2", **options))
    assert [path.exists() for path in half] == [True, False]


@pytest.mark.parametrize(
    ("one", "other"), [((1, 2), (1, 2)), (None, (1, 2)), ((1, 2), None), ((1, 2), (1, 3)), (None, None)]
)
def test_jobs_that_would_write_the_same_shards_exclude_each_other(
    tmp_path: Path, one: tuple[int, int] | None, other: tuple[int, int] | None
) -> None:
    out = tmp_path / "out"
    with (
        building(out, one),
        raises("in-use"),
        building(out, other),
    ):
        pass
    assert not (tmp_path / ".out.packing").exists()
    with building(out, (1, 2)), building(out, (2, 2)):
        pass


def test_a_validation_part_without_a_usable_image_says_what_to_do(tmp_path: Path) -> None:
    src, out = drawn(tmp_path / "src"), tmp_path / "out"
    dataset = pack(Pack(src, tmp_path / "whole", validation=0.1, workers=1))
    aside = Dataset.open(dataset.path / "validation")
    for note in (json.loads(s["json"]) if isinstance(s["json"], bytes) else s["json"] for s in samples(aside)):
        next(src.rglob(f"{Path(note['id']).stem}.png")).write_bytes(b"no image")
    with raises("no-images", 2, "validation", ".out.packing", "--seed"):
        pack(Pack(src, out, size=8, validation=0.1, workers=1))


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "1/2/3", "a/b", "-1/2", "1/99999999"])
def test_a_part_that_is_none_is_named(part: str, tmp_path: Path) -> None:
    with raises("invalid-value", "--part", "I/N"):
        Pack(tmp_path, tmp_path / "out", part=part)


def test_nothing_to_merge(tmp_path: Path) -> None:
    with raises("nothing-to-merge", ".out.packing"):
        merge(Merge(tmp_path / "out"))
    build = tmp_path / ".out.packing"
    build.mkdir()
    for text in ("", "[]", "{}", '{"parts": []}', "[" * 100_000):
        (build / "plan.json").write_text(text)
        with raises("plan-damaged", "plan.json"):
            merge(Merge(tmp_path / "out"))


@pytest.mark.long
def test_kill_9_during_parts_and_merge(tmp_path: Path) -> None:
    src, out = drawn(tmp_path / "src", 200, 64), tmp_path / "out"
    options: dict[str, Any] = {"size": 48, "per_shard": 5, "workers": 1}
    pack(Pack(src, tmp_path / "whole", **options))
    words = ["pack", str(src), str(out), "--size", "48", "--per-shard", "5", "--workers", "2"]
    for part, delay in (("1/2", 0.0), ("2/2", 0.05), ("1/2", 0.1)):
        process = subprocess.Popen(
            [sys.executable, "-m", "shards", *words, "--part", part], stderr=subprocess.DEVNULL, start_new_session=True
        )
        build = tmp_path / ".out.packing"
        deadline = time.monotonic() + 60
        while not list(build.glob("records/*.json")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    assert not out.exists()
    for part in ("1/2", "2/2"):
        pack_part(Pack(src, out, part=part, **options))
    program = (
        "import os, signal; from pathlib import Path; from shards.dataset import sidecars\n"
        "from shards.packing import merge\n"
        "save = sidecars.save_rows\n"
        "def dying(path, *rows):\n"
        "    save(path, *rows)\n"
        "    os.kill(os.getpid(), signal.SIGKILL) if path.name == 'known.npy' else None\n"
        "sidecars.save_rows = dying\n"
        f"merge.merge(merge.Merge(Path({str(out)!r})))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert not out.exists()
    merge(Merge(out))
    assert content(out) == content(tmp_path / "whole")


# ---------------------------------------------------------------- what is in it


def test_raw_pixels_are_read_by_numpy_webdataset_and_the_index(tmp_path: Path) -> None:
    src = drawn(tmp_path / "src", 12)
    dataset = pack(Pack(src, tmp_path / "out", format="raw", per_shard=5, workers=1))
    for i, sample in enumerate(samples(dataset)):
        shown = np.asarray(Image.open(src / sample["json"]["id"]))
        assert dataset.format(i) == "raw" and dataset.read(i) == shown.tobytes()
        assert np.array_equal(sample["image.npy"], shown)


def test_hashes_are_those_of_the_source(tmp_path: Path) -> None:
    src = drawn(tmp_path / "src", 12, 16)
    dataset = pack(Pack(src, tmp_path / "out", size=8, workers=1))
    hashes = np.load(tmp_path / "out" / "hashes.npy")
    for row, sample in zip(hashes, samples(dataset), strict=True):
        wanted = hashlib.sha256((src / sample["json"]["id"]).read_bytes()).hexdigest()
        assert sample["json"]["sha256"] == row.tobytes().hex() == wanted
    assert dataset.manifest["sidecars"]["hashes.npy"]


@pytest.mark.parametrize("workers", [1, 2])
def test_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int) -> None:
    src = drawn(tmp_path / "src", 24, copies=5)  # shifted by 19: each is labelled otherwise
    assert len(pack(Pack(src, tmp_path / "report", workers=workers))) == 24
    assert "same as another, but labelled otherwise (kept): 5 (images/" in capsys.readouterr().out
    dropped = pack(Pack(src, tmp_path / "drop", workers=workers, duplicates="drop"))
    assert "but labelled otherwise (left out): 5 (images/0019.png, images/0020.png" in capsys.readouterr().out
    assert len(dropped) == 19 and dropped.manifest["duplicates"] == 5
    ids = {sample["json"]["id"] for sample in samples(dropped)}
    assert ids == {f"images/{i:04d}.png" for i in range(19)}
    assert pack(Pack(src, tmp_path / "keep", workers=workers, duplicates="keep")).manifest["duplicates"] == 0
    assert "same as another" not in capsys.readouterr().out


def test_validation_is_a_data_set_of_its_own(tmp_path: Path) -> None:
    dataset = pack(Pack(drawn(tmp_path / "src"), tmp_path / "out", validation=0.25, per_shard=5, workers=2))
    aside = Dataset.open(tmp_path / "out" / "validation")
    assert (len(dataset), len(aside)) == (18, 6) and dataset.schema == aside.schema
    assert (dataset.manifest["split"], aside.manifest["split"]) == ("train", "validation")
    ids = [{sample["json"]["id"] for sample in samples(part)} for part in (dataset, aside)]
    assert not ids[0] & ids[1] and len(ids[0] | ids[1]) == 24


def test_images_in_both_parts_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = drawn(tmp_path / "src", copies=12)
    dataset = pack(Pack(src, tmp_path / "out", validation=0.25, workers=1))
    parts = [{s["json"]["sha256"] for s in samples(d)} for d in (dataset, Dataset.open(tmp_path / "out/validation"))]
    kind = "images in both parts (the same bytes; --duplicates drop keeps one)"
    assert dataset.manifest["problems"][kind] == len(parts[0] & parts[1]) > 0
    assert f"  note: {kind}: " in capsys.readouterr().out
    assert dataset.manifest["duplicates"] == len(dataset) - len(parts[0])
    dataset = pack(Pack(src, tmp_path / "dropped", validation=0.25, workers=1, duplicates="drop"))
    assert kind not in dataset.manifest["problems"] and kind not in capsys.readouterr().out


def test_a_folder_is_a_group(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for i in range(20):
        (src / f"kind{i % 2}" / f"person{i // 4}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, 0, 0)).save(src / f"kind{i % 2}" / f"person{i // 4}" / f"{i}.png")
    dataset = pack(Pack(src, tmp_path / "out", source="classes", validation=0.3, group="folder", workers=1))
    aside = Dataset.open(tmp_path / "out" / "validation")
    groups = [{sample["json"]["group"] for sample in samples(part)} for part in (dataset, aside)]
    assert len(dataset) + len(aside) == 20 and all(groups) and not groups[0] & groups[1]
    assert aside.manifest["group"] == "folder"


def test_background_and_minimum_reach_images_and_manifest(tmp_path: Path) -> None:
    src = drawn(tmp_path / "src", 6, 16)
    Image.new("RGBA", (16, 16), (9, 9, 9, 0)).save(src / "images" / "0000.png")
    Image.new("RGB", (5, 30)).save(src / "images" / "0001.png")
    dataset = pack(Pack(src, tmp_path / "out", size=8, background="#010203", min_size=6, format="raw", workers=1))
    assert len(dataset) == 5 and dataset.manifest["problems"] == {"images that cannot be used (left out)": 1}
    assert bytes((1, 2, 3)) * 64 in {dataset.read(i) for i in range(5)}
    assert "alpha on #010203" in dataset.manifest["resize_policy"]
    assert (dataset.manifest["fit"], dataset.manifest["background"]) == ("crop", "#010203")


def test_a_source_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    with pytest.raises(UserError):
        pack(Pack(tmp_path / "src", tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


GROUPS = st.lists(st.sampled_from([None, "a", "b", "c", "d", "e"]), min_size=2, max_size=60)


@given(GROUPS, st.floats(0.01, 0.5), st.integers(0, 5))
def test_a_split_keeps_groups_whole(groups: list[str | None], share: float, seed: int) -> None:
    items = [Item(str(i), ImageFile(Path(), ""), group=group) for i, group in enumerate(groups)]
    sizes = [groups.count(group) for group in set(groups) - {None}]
    if len(sizes) + groups.count(None) < 2:
        with raises("too-few-groups", "--validation"):
            validation_split.select_validation(Source("tags", items), share, seed)
        return
    chosen = validation_split.select_validation(Source("tags", items), share, seed)
    assert 0 < chosen.sum() < len(items)
    for name in set(groups) - {None}:
        assert len({bool(c) for c, group in zip(chosen, groups, strict=True) if group == name}) == 1
    assert abs(chosen.sum() - share * len(items)) <= max([*sizes, 1])
    backwards = validation_split.select_validation(Source("tags", items[::-1]), share, seed)[::-1]
    assert (chosen == backwards).all() or len(set(sizes)) != len(sizes) or chosen.sum() == backwards.sum()


def test_plain_numbers_of_the_notes(tmp_path: Path) -> None:
    dataset = pack(Pack(drawn(tmp_path / "src", 4), tmp_path / "out", workers=1))
    for sample in samples(dataset):
        assert list(sample["json"]) == ["id", "tags", "known", "sha256"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["duplicates"] == 0


def test_a_stray_copy_without_a_label_does_not_cost_the_label(tmp_path: Path) -> None:
    src = drawn(tmp_path / "src", 4)
    (src / "a-copy").mkdir()  # stands before images/ in the source's order
    shutil.copy(src / "images" / "0001.png", src / "a-copy" / "x.png")
    dataset = pack(Pack(src, tmp_path / "out", workers=1, duplicates="drop"))
    assert len(dataset) == 4 and dataset.known.all(), "the labelled one was kept"


def test_what_a_killed_merge_had_half_written_is_not_part_of_the_data_set(tmp_path: Path) -> None:
    """Its temporary files lie in the folder that becomes OUT."""
    write_folder(tmp_path / "source", 20, 16)
    out = tmp_path / "data"
    pack_part(Pack(src=tmp_path / "source", out=out, size=16, workers=1, validation=0.2, part="1/1"))
    data = plan.build_folder(out) / "data"
    for name in (".manifest.json.4771.tmp", ".schema.yaml.4771.tmp", "validation/.manifest.json.4771.tmp"):
        (data / name).write_text("{")
    merge(Merge(out=out))
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]
