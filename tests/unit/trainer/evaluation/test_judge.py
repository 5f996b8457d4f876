"""The judge: what it recognises in real images, when it is not trusted, how it is cached."""

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
from shards.dataset.image_shape import ImageShape
from shards.dataset.schema import Attribute, Schema
from shards.examples import shapes
from shards.packing.pack import Pack, pack
from support.errors import raises
from support.launching import decoded, make_dataset
from trainer.evaluation.judge import classifier, command, data
from trainer.evaluation.judge.classifier import ARCHITECTURES, Loss
from trainer.evaluation.judge.data import choose_rows, load_split, shrink, shrunk
from trainer.evaluation.judge.judge import Judge, judge_of
from trainer.evaluation.metrics.combinations import Combinations
from trainer.evaluation.metrics.label_accuracy import label_accuracy, reason_to_doubt

COUNT, SIZE = 360, 16


def all_images(dataset: Dataset) -> np.ndarray:
    """uint8 (N, 3, S, S)."""
    return np.stack([decoded(dataset.read(i), dataset.size) for i in range(len(dataset))])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Shapes in four inks and three forms."""
    return make_dataset(tmp_path_factory.mktemp("shapes"), COUNT, SIZE, 200)


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of judges."""
    return tmp_path_factory.mktemp("judges")


@pytest.fixture(scope="module")
def judge(dataset: Dataset, judges: Path) -> Judge:
    """The judge of the shapes."""
    return judge_of(dataset, cache=judges)


@pytest.fixture
def hasty() -> Iterator[None]:
    """Train for a single epoch, for tests in which it does not matter what the judge learned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "_EPOCHS", (1, 1))
        yield


def packed(folder: Path, rows: list[str], size: int = SIZE, **more: object) -> Dataset:
    """Pack a dataset of drawn shapes with these tags; "" for an image without a row."""
    (folder / "source" / "images").mkdir(parents=True)
    for number, _ in enumerate(rows):
        shapes.draw(number, size)[0].save(folder / "source" / "images" / f"{number:03d}.png")
    lines = [f'{number:03d},"{tags}"' for number, tags in enumerate(rows) if tags]
    (folder / "source" / "tags.csv").write_text("\n".join(["id,tags", *lines]) + "\n")
    pack(Pack(src=folder / "source", out=folder / "data", size=size, workers=1, **more))  # type: ignore[arg-type]
    return Dataset.open(folder / "data")


def tags(count: int) -> list[str]:
    """Return the tags of drawn shapes."""
    return [shapes.draw(number, SIZE)[1] for number in range(count)]


# ---------------------------------------------------------------- accuracy


def test_judge_recognises_what_real_images_show(judge: Judge, dataset: Dataset) -> None:
    assert [reason_to_doubt(a) for a in judge.accuracy.attributes] == ["", ""]
    assert all(a.balanced > 0.95 and 0.1 * COUNT <= a.tally.count <= 0.5 * COUNT for a in judge.accuracy.attributes)
    found = judge.label_accuracy(all_images(dataset), dataset.labels[:], dataset.known)
    assert found.whole.count == COUNT and found.whole.fraction > 0.95


def test_images_with_shuffled_labels_are_right_as_often_as_chance(judge: Judge, dataset: Dataset) -> None:
    images = np.repeat(all_images(dataset), 4, axis=0)
    shuffled = np.random.default_rng(0).permutation(len(images)) % COUNT
    seen = Combinations.of(dataset.schema, dataset.labels[:], dataset.known)
    found = judge.label_accuracy(images, dataset.labels[shuffled], dataset.known[shuffled], seen)
    for attribute in found.attributes:
        assert attribute.balanced == pytest.approx(attribute.chance, abs=0.06)
    assert found.seen is not None and found.seen.count == 4 * COUNT and found.unseen is not None
    assert not found.unseen.count, "every combination of four inks and three forms occurs"
    assert found.worst and all(c.tally.fraction < 0.5 for c in found.worst)


def test_logits_and_features_have_their_shapes_and_do_not_depend_on_the_batch(judge: Judge, dataset: Dataset) -> None:
    images = all_images(dataset)[:40]
    logits, features = judge.logits(images), judge.features(images)
    assert logits.shape == (40, 7) and logits.dtype == np.float32 and features.dtype == np.float32
    assert features.shape[0] == 40 and np.ptp(features, axis=0).max() > 0
    assert np.array_equal(judge.logits(images[:0]), logits[:0])
    np.testing.assert_allclose(judge.logits(images[:3]), logits[:3], atol=1e-4)
    for wrong in (images.astype(np.float32), images[:, :, :8, :8], images.transpose(0, 2, 3, 1)):
        with pytest.raises(ValueError, match=r"uint8 \(N, 3, 16, 16\)"):
            judge.logits(wrong)


# ---------------------------------------------------------------- files and cache


def test_judge_is_loaded_from_the_cache_and_a_damaged_one_is_trained_again(
    judge: Judge, dataset: Dataset, judges: Path, tmp_path: Path, hasty: None
) -> None:
    (folder,) = judges.iterdir()
    again = judge_of(dataset, cache=judges)
    images = all_images(dataset)[:20]
    assert np.array_equal(again.logits(images), judge.logits(images)) and again.accuracy == judge.accuracy
    assert np.array_equal(again.features(images), judge.features(images))

    shutil.copytree(judges, tmp_path / "copy")
    weights = tmp_path / "copy" / folder.name / "judge.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with raises("judge-damaged", weights.parent):
        Judge.load(weights.parent)
    judge_of(dataset, cache=tmp_path / "copy")  # hasty: other weights than before, and intact
    assert Judge.load(weights.parent).identity == judge.identity
    judge_of(dataset, seed=1, cache=tmp_path / "copy")
    assert len(list((tmp_path / "copy").iterdir())) == 2, "one judge per seed, and nothing half-written"


def test_changed_notes_and_a_newer_format_are_errors(judge: Judge, tmp_path: Path) -> None:
    judge.save(tmp_path / "judge")
    notes = tmp_path / "judge" / "judge.json"
    content = json.loads(notes.read_text())
    notes.write_text(json.dumps({**content, "size": 32}))
    with raises("judge-damaged", tmp_path / "judge"):
        Judge.load(tmp_path / "judge")
    notes.write_text(json.dumps({**content, "format_version": 99}))
    with raises("newer-format", tmp_path / "judge", 99):
        Judge.load(tmp_path / "judge")
    with raises("judge-missing", tmp_path):
        Judge.load(tmp_path)
    with pytest.raises(UserError, match="judge"):
        judge.save(tmp_path / "judge")


def test_seed_determines_the_judge(dataset: Dataset, tmp_path: Path, hasty: None) -> None:
    one, same = (judge_of(dataset, cache=tmp_path / name) for name in "ab")
    other = judge_of(dataset, seed=7, cache=tmp_path / "c")
    images = all_images(dataset)[:20]
    assert np.array_equal(one.logits(images), same.logits(images))
    assert not np.array_equal(one.logits(images), other.logits(images))


def test_second_architecture_recognises_real_images_and_is_cached_apart(
    judge: Judge, dataset: Dataset, judges: Path, tmp_path: Path
) -> None:
    second = judge_of(dataset, seed=1, architecture="pooled", cache=tmp_path)
    assert [reason_to_doubt(a) for a in second.accuracy.attributes] == ["", ""]
    assert type(second.net) is not type(judge.net) and second.identity["architecture"] == "pooled"
    assert "architecture" not in judge.identity, "judges cached before there were two are still found"
    again = judge_of(dataset, seed=1, architecture="pooled", cache=tmp_path)
    images = all_images(dataset)[:20]
    assert np.array_equal(again.logits(images), second.logits(images)) and len(list(tmp_path.iterdir())) == 1
    assert not np.array_equal(judge.logits(images), second.logits(images))


def test_unwritable_cache_is_a_warning(
    dataset: Dataset, tmp_path: Path, hasty: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert judge_of(dataset, cache=tmp_path / "file").shape == ImageShape.of(SIZE)
    assert "warning: the judge could not be cached" in capsys.readouterr().err


# ---------------------------------------------------------------- choice and split of images


def test_parts_share_no_image_and_no_copy(dataset: Dataset) -> None:
    split = load_split(dataset, None, 0, lambda _: None)
    parts = [{image.tobytes() for image in p.images} for p in (split.train, split.tune, split.held_out)]
    assert sum(map(len, (split.train, split.tune, split.held_out))) == COUNT
    assert all(parts) and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert sum(map(len, parts)) < COUNT, "without copies this test would say nothing"
    again = load_split(dataset, None, 1, lambda _: None)
    assert {p.tobytes() for p in again.held_out.images} != parts[2]


def test_validation_part_is_held_out(tmp_path: Path) -> None:
    dataset = packed(tmp_path, tags(120), validation=0.2)
    validation = data.validation_part(dataset)
    assert validation is not None
    split = load_split(dataset, validation, 0, lambda _: None)
    seen = {p.tobytes() for p in (*split.train.images, *split.tune.images)}
    held_out = {p.tobytes() for p in all_images(validation)}
    assert {p.tobytes() for p in split.held_out.images} == held_out - seen


def test_rare_values_are_among_the_images_read(tmp_path: Path) -> None:
    rows = ["red ink"] * 200 + ["blue ink"] * 3 + [""] * 50
    dataset = packed(tmp_path, rows)
    chosen = choose_rows(dataset, 40, 0)
    label = dataset.labels[chosen]
    assert 40 <= len(chosen) <= 45 and len(set(chosen.tolist())) == len(chosen)
    assert (label.sum(0) >= [3, 20]).all() and dataset.known[chosen].all()
    assert np.array_equal(choose_rows(dataset, 1000, 0), np.flatnonzero(dataset.known[:, 0]))


def test_large_images_are_shrunk() -> None:
    sizes = (4, 16, 48, 64, 96, 100, 128, 192, 512, 77)
    assert [size // shrunk(ImageShape.of(size)).size for size in sizes] == [1, 1, 1, 1, 2, 2, 2, 4, 8, 1]
    assert shrunk(ImageShape(4, 96, 128)) == ImageShape(4, 48, 64)
    image = np.zeros((1, 3, 96, 128), np.uint8)
    image[0, 0, :2, :2] = [[255, 255], [255, 254]]
    small = shrink(image)
    assert small.shape == (1, 3, 48, 64) and small[0, 0, :2, :2].tolist() == [[255, 0], [0, 0]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "shape", [ImageShape(1, 32, 32), ImageShape(4, 64, 48), ImageShape(3, 24, 32), ImageShape(3, 64, 32)]
)
def test_classifiers_take_images_of_any_shape(architecture: str, shape: ImageShape) -> None:
    net = ARCHITECTURES[architecture](shape, 5).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, shape.channels, shape.height, shape.width), np.uint8)
    assert classifier.logits(net, images).shape == (3, 5)
    shifted = classifier._shift(torch.from_numpy(images), 0, np.arange(3))
    assert shifted.shape == images.shape


def test_a_judge_of_transparent_images_sees_alpha_but_no_invisible_colors(tmp_path: Path) -> None:
    shape = ImageShape(4, 8, 12)
    schema = Schema((Attribute("ink", "exclusive", ("blue ink", "red ink")),))
    torch.manual_seed(0)
    net = ARCHITECTURES["strided"](shape, 2).eval()
    label = np.eye(2, dtype=np.float32)[[0, 1] * 20]
    accuracy = label_accuracy(schema, label, label, np.ones((40, 1), bool))
    judge = Judge(schema, shape, accuracy, {"data": "x"}, np.ones(2, np.float32), net)
    image = np.zeros((1, 4, 8, 12), np.uint8)
    painted, opaque = image.copy(), image.copy()
    painted[:, :3] = 200
    opaque[:] = np.array([128, 128, 128, 255], np.uint8)[:, None, None]
    assert np.array_equal(judge.logits(image), judge.logits(painted))
    assert not np.array_equal(judge.logits(image), judge.logits(opaque))
    judge.save(tmp_path / "judge")
    again = Judge.load(tmp_path / "judge", "cpu")
    assert again.shape == shape and np.array_equal(again.logits(opaque), judge.logits(opaque))
    with pytest.raises(ValueError, match="N, 4, 8, 12"):
        judge.logits(np.zeros((1, 4, 12, 8), np.uint8))


# ---------------------------------------------------------------- kinds of datasets


def test_one_attribute_with_a_rare_value_and_unlabelled_images(tmp_path: Path, hasty: None) -> None:
    rows = [row.split(",")[0] for row in tags(120)] + [""] * 20
    rows[5] = "violet ink"
    dataset = packed(tmp_path, rows)
    judge = judge_of(dataset, cache=tmp_path / "judges")
    (ink,) = judge.accuracy.attributes
    assert ink.values == ("blue ink", "green ink", "red ink", "violet ink", "yellow ink")
    assert ink.tally.count == judge.accuracy.whole.count <= 40, "unlabelled images are not counted"
    found = judge.label_accuracy(all_images(dataset), dataset.labels[:], dataset.known)
    assert found["ink"].tally.count == 120


def test_tags_and_damaged_images(tmp_path: Path, hasty: None, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{row.split(' ')[0]}, shape" if n % 3 else "shape" for n, row in enumerate(tags(90))]
    dataset = packed(tmp_path, rows)
    entry = dataset.entries[4]
    with dataset.shards[int(entry["shard"])].open("r+b") as file:
        file.seek(int(entry["offset"]))
        file.write(b"\0" * int(entry["length"]))
    judge = judge_of(dataset, cache=tmp_path / "judges")
    assert "warning: 1 damaged images" in capsys.readouterr().err
    assert {a.kind for a in judge.accuracy.attributes} == {"tag"}
    assert reason_to_doubt(judge.accuracy["shape"]) != "", (
        "every image has it, so it cannot be told whether the judge recognises it"
    )


@pytest.mark.parametrize("size", [4, 12, 48, 96])
def test_images_of_any_size_can_be_judged(tmp_path: Path, size: int, hasty: None) -> None:
    dataset = packed(tmp_path, tags(40), size)
    judge = judge_of(dataset, cache=tmp_path / "judges")
    assert judge.logits(np.zeros((2, 3, size, size), np.uint8)).shape == (2, 7)


def test_too_few_images_are_an_error(tmp_path: Path) -> None:
    with raises("too-few-images", 12, 16):
        judge_of(packed(tmp_path / "few", tags(12) + [""] * 30), cache=tmp_path / "judges")
    copies = tmp_path / "copies"
    (copies / "a").mkdir(parents=True)
    (copies / "b").mkdir()
    for number in range(40):
        Image.new("RGB", (8, 8), (9, 9, 9)).save(copies / "ab"[number % 2] / f"{number}.png")
    pack(Pack(src=copies, out=tmp_path / "data", size=8, workers=1))
    with raises("too-few-images", tmp_path / "data", "copies"):
        judge_of(Dataset.open(tmp_path / "data"), cache=tmp_path / "judges")
    assert not (tmp_path / "judges").exists()


def test_vector_labels_cannot_be_judged(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    labels = []
    for number in range(20):
        shapes.draw(number, 8)[0].save(tmp_path / "source" / f"{number}.png")
        labels.append([f"{number}.png", [number / 7, 1.5]])
    (tmp_path / "source" / "dataset.json").write_text(json.dumps({"labels": labels}))
    pack(Pack(src=tmp_path / "source", out=tmp_path / "data", size=8, workers=1))
    with raises("not-judgeable", "vector"):
        judge_of(Dataset.open(tmp_path / "data"), cache=tmp_path / "judges")


def test_attribute_of_one_value_cannot_be_judged(tmp_path: Path) -> None:
    """There is nothing to learn, so the judge would stay as it was initialized."""
    (tmp_path / "source" / "cats").mkdir(parents=True)
    for number in range(60):
        shapes.draw(number, 8)[0].save(tmp_path / "source" / "cats" / f"{number}.png")
    pack(Pack(src=tmp_path / "source", out=tmp_path / "data", size=8, workers=1, source="classes"))
    with raises("not-judgeable", "exclusive"):
        judge_of(Dataset.open(tmp_path / "data"), cache=tmp_path / "judges")


def test_loss_of_many_tags_is_the_mean_over_tags() -> None:
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


def test_features_are_identified_by_the_weights(judge: Judge, tmp_path: Path) -> None:
    """A judge of the same dataset that was trained on another machine has another identity."""
    judge.save(tmp_path / "same")
    other = replace(judge, net=copy.deepcopy(judge.net))
    assert Judge.load(tmp_path / "same", "cpu").extractor().identity == judge.extractor().identity
    with torch.no_grad():
        other.net.trunk[0].weight[0, 0, 0, 0] += 1e-3  # type: ignore[index, union-attr]
    assert other.extractor().identity != judge.extractor().identity
    assert other.extractor().name == judge.extractor().name


# ---------------------------------------------------------------- the command


def test_command_prints_a_table_and_writes_the_judge(
    judge: Judge,
    dataset: Dataset,
    judges: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(judges, tmp_path / "cgan-trainer" / "judges")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command.main([str(dataset.path), "--out", str(tmp_path / "mine")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["attribute", "values", "chance", "accuracy", "balanced", "held-out", "verdict"]
    assert lines[1].startswith("ink") and "25%" in lines[1] and lines[1].endswith("trusted")
    assert lines[2].startswith("shape") and "33%" in lines[2] and str(tmp_path / "mine") in lines[-1]
    assert Judge.load(tmp_path / "mine").accuracy == judge.accuracy
    with pytest.raises(UserError, match="mine"):
        command.main([str(dataset.path), "--out", str(tmp_path / "mine")])
