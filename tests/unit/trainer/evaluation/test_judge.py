"""The judge: what it learns of real pictures, what it does not pretend to, how it is kept."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.schema import Attribute, Schema
from shards.examples import shapes
from shards.packing.pack import Pack, pack
from support.launching import decoded, make_dataset
from trainer.evaluation.judge import classifier, command, data
from trainer.evaluation.judge.classifier import Loss
from trainer.evaluation.judge.data import choose, factor, gather, shrink
from trainer.evaluation.judge.judge import Judge, judge_of
from trainer.evaluation.metrics.combinations import Combinations
from trainer.evaluation.metrics.fidelity import weakness

COUNT, SIZE = 360, 16


def all_pictures(dataset: Dataset) -> np.ndarray:
    """uint8 (N, 3, S, S)."""
    return np.stack([decoded(dataset.read(i), dataset.size) for i in range(len(dataset))])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Shapes in four inks and three forms."""
    return make_dataset(tmp_path_factory.mktemp("shapes"), COUNT, SIZE, 200)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of judges."""
    return tmp_path_factory.mktemp("judges")


@pytest.fixture(scope="module")
def judge(dataset: Dataset, kept: Path) -> Judge:
    """The judge of the shapes."""
    return judge_of(dataset, cache=kept)


@pytest.fixture
def hasty() -> Iterator[None]:
    """Train for a single pass, where it does not matter what was learned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "_PASSES", (1, 1))
        yield


def packed(folder: Path, rows: list[str], size: int = SIZE, **more: object) -> Dataset:
    """A data set of drawn shapes with these tags; "" for a picture without a row."""
    (folder / "source" / "images").mkdir(parents=True)
    for number, _ in enumerate(rows):
        shapes.draw(number, size)[0].save(folder / "source" / "images" / f"{number:03d}.png")
    lines = [f'{number:03d},"{tags}"' for number, tags in enumerate(rows) if tags]
    (folder / "source" / "tags.csv").write_text("\n".join(["id,tags", *lines]) + "\n")
    pack(Pack(src=folder / "source", out=folder / "data", size=size, workers=1, **more))  # type: ignore[arg-type]
    return Dataset.open(folder / "data")


def tags(count: int) -> list[str]:
    """What the drawn shapes are."""
    return [shapes.draw(number, SIZE)[1] for number in range(count)]


# ---------------------------------------------------------------- what it sees


def test_it_sees_what_real_pictures_show(judge: Judge, dataset: Dataset) -> None:
    assert [weakness(a) for a in judge.real.attributes] == ["", ""]
    assert all(a.balanced > 0.95 and 0.1 * COUNT <= a.tally.count <= 0.5 * COUNT for a in judge.real.attributes)
    found = judge.fidelity(all_pictures(dataset), dataset.labels, dataset.known)
    assert found.whole.count == COUNT and found.whole.share > 0.95


def test_pictures_under_the_labels_of_others_are_right_as_often_as_chance(judge: Judge, dataset: Dataset) -> None:
    pictures = np.repeat(all_pictures(dataset), 4, axis=0)
    shuffled = np.random.default_rng(0).permutation(len(pictures)) % COUNT
    seen = Combinations.of(dataset.schema, dataset.labels, dataset.known)
    found = judge.fidelity(pictures, dataset.labels[shuffled], dataset.known[shuffled], seen)
    for attribute in found.attributes:
        assert attribute.balanced == pytest.approx(attribute.chance, abs=0.06)
    assert found.seen is not None and found.seen.count == 4 * COUNT and found.unseen is not None
    assert not found.unseen.count, "every combination of four inks and three forms is there"
    assert found.worst and all(c.tally.share < 0.5 for c in found.worst)


def test_its_logits_are_probabilities_and_its_features_tell_pictures_apart(judge: Judge, dataset: Dataset) -> None:
    pictures = all_pictures(dataset)[:40]
    logits, features = judge.logits(pictures), judge.features(pictures)
    assert logits.shape == (40, 7) and logits.dtype == np.float32 and features.dtype == np.float32
    assert features.shape[0] == 40 and np.ptp(features, axis=0).max() > 0
    assert np.array_equal(judge.logits(pictures[:0]), logits[:0])
    np.testing.assert_allclose(judge.logits(pictures[:3]), logits[:3], atol=1e-4)
    for wrong in (pictures.astype(np.float32), pictures[:, :, :8, :8], pictures.transpose(0, 2, 3, 1)):
        with pytest.raises(ValueError, match=r"uint8 \(N, 3, 16, 16\)"):
            judge.logits(wrong)


# ---------------------------------------------------------------- how it is kept


def test_it_is_taken_from_the_cache_and_a_damaged_one_is_made_anew(
    judge: Judge, dataset: Dataset, kept: Path, tmp_path: Path, hasty: None
) -> None:
    (folder,) = kept.iterdir()
    again = judge_of(dataset, cache=kept)
    pictures = all_pictures(dataset)[:20]
    assert np.array_equal(again.logits(pictures), judge.logits(pictures)) and again.real == judge.real
    assert np.array_equal(again.features(pictures), judge.features(pictures))

    shutil.copytree(kept, tmp_path / "copy")
    weights = tmp_path / "copy" / folder.name / "judge.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"damaged .*its hash does not fit"):
        Judge.load(weights.parent)
    judge_of(dataset, cache=tmp_path / "copy")  # hasty: other weights than before, and whole
    assert Judge.load(weights.parent).identity == judge.identity
    judge_of(dataset, seed=1, cache=tmp_path / "copy")
    assert len(list((tmp_path / "copy").iterdir())) == 2, "a judge a seed, and nothing half-written"


def test_a_changed_note_and_a_later_format_are_seen(judge: Judge, tmp_path: Path) -> None:
    judge.save(tmp_path / "judge")
    notes = tmp_path / "judge" / "judge.json"
    content = json.loads(notes.read_text())
    notes.write_text(json.dumps({**content, "size": 32}))
    with pytest.raises(UserError, match="damaged"):
        Judge.load(tmp_path / "judge")
    notes.write_text(json.dumps({**content, "format_version": 99}))
    with pytest.raises(UserError, match="judge format 99"):
        Judge.load(tmp_path / "judge")
    with pytest.raises(UserError, match="is no judge"):
        Judge.load(tmp_path)
    with pytest.raises(UserError, match="already holds something"):
        judge.save(tmp_path / "judge")


def test_a_seed_decides_everything(dataset: Dataset, tmp_path: Path, hasty: None) -> None:
    one, same = (judge_of(dataset, cache=tmp_path / name) for name in "ab")
    other = judge_of(dataset, seed=7, cache=tmp_path / "c")
    pictures = all_pictures(dataset)[:20]
    assert np.array_equal(one.logits(pictures), same.logits(pictures))
    assert not np.array_equal(one.logits(pictures), other.logits(pictures))


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(
    dataset: Dataset, tmp_path: Path, hasty: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert judge_of(dataset, cache=tmp_path / "file").size == SIZE
    assert "warning: the judge could not be kept" in capsys.readouterr().err


# ---------------------------------------------------------------- which pictures


def test_no_picture_is_on_two_sides(dataset: Dataset) -> None:
    sides = gather(dataset, None, 0, lambda _: None)
    parts = [{picture.tobytes() for picture in p.images} for p in (sides.learn, sides.tune, sides.held_out)]
    assert sum(map(len, (sides.learn, sides.tune, sides.held_out))) == COUNT
    assert all(parts) and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert sum(map(len, parts)) < COUNT, "there are copies among them, or this says nothing"
    again = gather(dataset, None, 1, lambda _: None)
    assert {p.tobytes() for p in again.held_out.images} != parts[2]


def test_the_validation_part_is_what_it_is_tried_on(tmp_path: Path) -> None:
    dataset = packed(tmp_path, tags(120), validation=0.2)
    aside = data.validation_part(dataset)
    assert aside is not None
    sides = gather(dataset, aside, 0, lambda _: None)
    learned = {p.tobytes() for p in (*sides.learn.images, *sides.tune.images)}
    apart = {p.tobytes() for p in all_pictures(aside)}
    assert {p.tobytes() for p in sides.held_out.images} == apart - learned


def test_few_of_many_are_read_and_rare_values_among_them(tmp_path: Path) -> None:
    rows = ["red ink"] * 200 + ["blue ink"] * 3 + [""] * 50
    dataset = packed(tmp_path, rows)
    chosen = choose(dataset, 40, 0)
    label = dataset.labels[chosen]
    assert 40 <= len(chosen) <= 45 and len(set(chosen.tolist())) == len(chosen)
    assert (label.sum(0) >= [3, 20]).all() and dataset.known[chosen].all()
    assert np.array_equal(choose(dataset, 1000, 0), np.flatnonzero(dataset.known[:, 0]))


def test_large_pictures_are_made_small() -> None:
    assert [factor(size) for size in (4, 16, 48, 64, 96, 100, 128, 192, 512, 77)] == [1, 1, 1, 1, 2, 2, 2, 4, 8, 1]
    picture = np.zeros((1, 3, 4, 4), np.uint8)
    picture[0, 0, :2, :2] = [[255, 255], [255, 254]]
    assert shrink(picture, 2)[0, 0].tolist() == [[255, 0], [0, 0]]


# ---------------------------------------------------------------- data as it comes


def test_one_attribute_a_rare_value_and_pictures_without_labels(tmp_path: Path, hasty: None) -> None:
    rows = [row.split(",")[0] for row in tags(120)] + [""] * 20
    rows[5] = "violet ink"
    dataset = packed(tmp_path, rows)
    judge = judge_of(dataset, cache=tmp_path / "judges")
    (ink,) = judge.real.attributes
    assert ink.values == ("blue ink", "green ink", "red ink", "violet ink", "yellow ink")
    assert ink.tally.count == judge.real.whole.count <= 40, "what has no label is not counted"
    found = judge.fidelity(all_pictures(dataset), dataset.labels, dataset.known)
    assert found["ink"].tally.count == 120


def test_tags_and_damaged_pictures(tmp_path: Path, hasty: None, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{row.split(' ')[0]}, shape" if n % 3 else "shape" for n, row in enumerate(tags(90))]
    dataset = packed(tmp_path, rows)
    entry = dataset.entries[4]
    with dataset.shards[int(entry["shard"])].open("r+b") as file:
        file.seek(int(entry["offset"]))
        file.write(b"\0" * int(entry["length"]))
    judge = judge_of(dataset, cache=tmp_path / "judges")
    assert "warning: 1 damaged pictures" in capsys.readouterr().err
    assert {a.kind for a in judge.real.attributes} == {"tag"}
    assert weakness(judge.real["shape"]) != "", "every picture has it: nobody can tell whether the judge sees it"


@pytest.mark.parametrize("size", [4, 12, 48, 96])
def test_any_size(tmp_path: Path, size: int, hasty: None) -> None:
    dataset = packed(tmp_path, tags(40), size)
    judge = judge_of(dataset, cache=tmp_path / "judges")
    assert judge.logits(np.zeros((2, 3, size, size), np.uint8)).shape == (2, 7)


def test_too_few_pictures_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="12 pictures with labels could be read, and a judge needs 16"):
        judge_of(packed(tmp_path / "few", tags(12) + [""] * 30), cache=tmp_path / "judges")
    copies = tmp_path / "copies"
    (copies / "a").mkdir(parents=True)
    (copies / "b").mkdir()
    for number in range(40):
        Image.new("RGB", (8, 8), (9, 9, 9)).save(copies / "ab"[number % 2] / f"{number}.png")
    pack(Pack(src=copies, out=tmp_path / "data", size=8, workers=1))
    with pytest.raises(UserError, match="copies of one picture"):
        judge_of(Dataset.open(tmp_path / "data"), cache=tmp_path / "judges")
    assert not (tmp_path / "judges").exists()


def test_labels_that_nobody_can_see_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    labels = []
    for number in range(20):
        shapes.draw(number, 8)[0].save(tmp_path / "source" / f"{number}.png")
        labels.append([f"{number}.png", [number / 7, 1.5]])
    (tmp_path / "source" / "dataset.json").write_text(json.dumps({"labels": labels}))
    pack(Pack(src=tmp_path / "source", out=tmp_path / "data", size=8, workers=1))
    with pytest.raises(UserError, match="of kind vector, of which nobody can see"):
        judge_of(Dataset.open(tmp_path / "data"), cache=tmp_path / "judges")


def test_an_attribute_of_one_value_is_not_judged(tmp_path: Path) -> None:
    """There is nothing to learn, and a judge of nothing else would stay as it was made."""
    (tmp_path / "source" / "cats").mkdir(parents=True)
    for number in range(60):
        shapes.draw(number, 8)[0].save(tmp_path / "source" / "cats" / f"{number}.png")
    pack(Pack(src=tmp_path / "source", out=tmp_path / "data", size=8, workers=1, source="classes"))
    with pytest.raises(UserError, match="a judge needs tags or exclusive attributes of two values or more"):
        judge_of(Dataset.open(tmp_path / "data"), cache=tmp_path / "judges")


def test_the_loss_of_many_tags_is_the_mean_of_each() -> None:
    tags = [Attribute(f"t{i}", "tag", (f"t{i}",)) for i in range(3)]
    schema = Schema((*tags, Attribute("c", "exclusive", ("a", "b"))))
    chance = np.random.default_rng(0)
    label = np.zeros((40, 5), np.float32)
    label[:, :3] = chance.random((40, 3)) < (0.1, 0.5, 0.9)
    label[np.arange(40), 3 + chance.integers(2, size=40)] = 1
    known = chance.random((40, 4)) < 0.7
    logits = chance.normal(size=(40, 5)).astype(np.float32)
    labelled: Any = SimpleNamespace(label=label, known=known)
    found = Loss(schema, labelled, torch.device("cpu"))(torch.from_numpy(logits), label, known)
    parts = []
    for a in range(3):
        rows = known[:, a]
        y, s = label[rows, a], logits[rows, a]
        counts = np.array([len(y) - y.sum(), y.sum()])
        weight = np.sqrt(counts.max() / counts)[y.astype(int)]
        parts.append((np.log1p(np.exp(-np.where(y > 0, s, -s))) * weight).sum() / weight.sum())
    rows = known[:, 3]
    y, s = label[rows, 3:].argmax(1), logits[rows, 3:]
    counts = np.bincount(y, minlength=2)
    weight = np.sqrt(counts.max() / counts)[y]
    surprise = np.log(np.exp(s).sum(1)) - s[np.arange(len(y)), y]
    parts.append((surprise * weight).sum() / weight.sum())
    assert found.item() == pytest.approx(np.mean(parts), rel=1e-5)


def test_features_are_known_by_the_weights_that_make_them(judge: Judge, tmp_path: Path) -> None:
    """The same data set's judge, trained anew on another machine, has another identity, for caches and evaluations."""
    judge.save(tmp_path / "same")
    anew = replace(judge, net=copy.deepcopy(judge.net))
    assert Judge.load(tmp_path / "same", "cpu").extractor().identity == judge.extractor().identity
    with torch.no_grad():
        anew.net.trunk[0].weight[0, 0, 0, 0] += 1e-3  # type: ignore[index, union-attr]
    assert anew.extractor().identity != judge.extractor().identity
    assert anew.extractor().name == judge.extractor().name


# ---------------------------------------------------------------- the command


def test_the_command_prints_a_table_and_writes_the_judge(
    judge: Judge,
    dataset: Dataset,
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(kept, tmp_path / "cgan-trainer" / "judges")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command.main([str(dataset.path), "--out", str(tmp_path / "mine")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["attribute", "values", "chance", "right", "balanced", "held", "out", "verdict"]
    assert lines[1].startswith("ink") and "25%" in lines[1] and lines[1].endswith("judges it")
    assert lines[2].startswith("shape") and "33%" in lines[2] and lines[-1] == f"the judge: {tmp_path / 'mine'}"
    assert Judge.load(tmp_path / "mine").real == judge.real
    with pytest.raises(UserError, match="already holds something"):
        command.main([str(dataset.path), "--out", str(tmp_path / "mine")])
