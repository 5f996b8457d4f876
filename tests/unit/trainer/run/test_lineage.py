"""The record of what touched a training: complete through ancestors, hashed, and never losing what it had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.errors import raises
from support.launching import TINY, make_dataset, train
from trainer.config import Config
from trainer.run import lineage
from trainer.run.lineage import Influence

TEACHER = Influence("network", "features of the discriminator", "lite0", "5793", ("1723",), ())


def test_record_keeps_what_it_has_and_is_read_back(tmp_path: Path) -> None:
    images = Influence("images", "training images", "faces", "1723", sample=("00", "01"))
    assert lineage.read(tmp_path) is None
    lineage.record(tmp_path, [images], starts=True)
    lineage.record(tmp_path, [TEACHER, images], starts=False)
    assert lineage.read(tmp_path) == (images, TEACHER)
    written = lineage.path_of(tmp_path).stat()
    lineage.record(tmp_path, [images], starts=False)
    assert lineage.path_of(tmp_path).stat().st_ino == written.st_ino, "a resumed run changes nothing"


def test_resumed_run_without_a_record_gets_none(tmp_path: Path) -> None:
    lineage.record(tmp_path, [TEACHER], starts=False)
    assert lineage.read(tmp_path) is None, "what touched it before is unknown"


def test_run_that_starts_forgets_one_that_ended_before_its_first_checkpoint(tmp_path: Path) -> None:
    lineage.record(tmp_path, [TEACHER], starts=True)
    lineage.record(tmp_path, [], starts=True)
    assert lineage.read(tmp_path) == ()
    lineage.path_of(tmp_path).write_text("damaged")
    lineage.record(tmp_path, [TEACHER], starts=True)
    assert lineage.read(tmp_path) == (TEACHER,)


@pytest.mark.parametrize("change", ["identity", "truncated", "kind", "version"])
def test_damaged_record_is_an_error(tmp_path: Path, change: str) -> None:
    lineage.record(tmp_path, [TEACHER], starts=True)
    path = lineage.path_of(tmp_path)
    text = path.read_text()
    content = json.loads(text)
    if change == "kind":
        content["influences"][0]["kind"] = "rumour"
    if change == "version":
        content["format_version"] = 2
    damaged = {"identity": text.replace("5793", "5794"), "truncated": text[:-9]}.get(change, json.dumps(content))
    path.write_text(damaged)
    with raises("newer-format" if change == "version" else "lineage-damaged", "lineage.json"):
        lineage.record(tmp_path, [], starts=False)


def test_run_records_its_images_and_a_descendant_all_of_them(tmp_path: Path) -> None:
    first, second = (make_dataset(tmp_path / name, count) for name, count in (("one", 12), ("two", 20)))
    train(*TINY, "--shards", first.path, "--run", tmp_path / "parent", "--total-images", 16)
    child = ("--shards", second.path, "--run", tmp_path / "child", "--init-from", tmp_path / "parent")
    train(*TINY, *child, "--total-images", 16)
    recorded = lineage.read(tmp_path / "parent")
    assert recorded is not None and len(recorded) == 1
    (images,) = recorded
    assert (images.kind, images.role, images.identity) == ("images", "training images", first.fingerprint)
    assert len(images.sample) == 12
    recorded = lineage.read(tmp_path / "child") or ()
    assert [influence.role for influence in recorded] == ["training images", "initial weights", "training images"]
    assert [influence.identity for influence in recorded] == [second.fingerprint, "", first.fingerprint]


def test_training_resumed_without_its_record_stays_without(tmp_path: Path) -> None:
    run, data = tmp_path / "run", make_dataset(tmp_path / "data", 12)
    run.mkdir()
    lineage.record(run, [TEACHER], starts=True)  # of a run that was killed at once
    words = (*TINY, "--shards", data.path, "--run", run)
    train(*words, "--total-images", 16)
    assert [influence.role for influence in lineage.read(run) or ()] == ["training images"]
    lineage.path_of(run).unlink()
    train(*words, "--total-images", 32)
    assert lineage.read(run) is None


def test_images_are_recognised_in_another_packing_and_labels_that_were_learned_are_recorded(tmp_path: Path) -> None:
    small, large = (make_dataset(tmp_path / str(count), count) for count in (30, 40))
    some, more = lineage.image_sample(small), lineage.image_sample(large)  # the same drawings and ten more
    assert small.fingerprint != large.fingerprint and len(some) < len(more)
    assert lineage.shared_images(some, more) == len(some) / len(more)
    assert lineage.shared_images(["a", "b"], ["c"]) == 0 == lineage.shared_images([], ["c"])
    plain, learning = Config(), Config().replace(label_loss=0.5, conditioning="projection")
    roles = [[i.role for i in lineage.influences_of(config, small, None)] for config in (plain, learning)]
    assert roles == [["training images"], ["training images", "label classifier in the discriminator"]]
    assert lineage.influences_of(learning, small, None)[1].learned_from == (small.fingerprint,)
