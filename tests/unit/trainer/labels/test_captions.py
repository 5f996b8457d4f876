"""Captions are scaled by what tells them apart, and the loss of labels tells them from others of the dataset."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from shards.dataset.dataset import Dataset
from shards.packing.pack import Pack, pack
from support.launching import TINY, metrics, train
from support.text_models import write_onnx
from trainer.labels import captions
from trainer.labels.captions import sample_captions
from trainer.labels.scaling import measure_scaling, scale_of_text

pytest.importorskip("tokenizers")
pytest.importorskip("onnxruntime")

HAIR = list(itertools.product(("blue", "red", "green"), ("long", "the")))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 images of a caption and a number; a tenth has no caption."""
    return captioned(tmp_path_factory.mktemp("captions"), 60, lambda i: i % 10 > 0, {"label": [0.5]})


def captioned(folder: Path, count: int, has: Callable[[int], bool], more: dict[str, object]) -> Dataset:
    """Pack images of which some have one of six captions."""
    rows = []
    (folder / "source").mkdir()
    for i in range(count):
        Image.new("RGB", (16, 16), (4 * i % 256, i // 64, 0)).save(folder / "source" / f"{i}.png")
        colour, length = HAIR[i % len(HAIR)]
        said = {"text": f"a girl with {length} {colour} hair"} if has(i) else {}
        rows.append(json.dumps({"file_name": f"{i}.png"} | more | said))
    (folder / "source" / "metadata.jsonl").write_text("\n".join(rows))
    model = str(write_onnx(folder / "model"))
    return pack(Pack(folder / "source", folder / "data", size=16, workers=1, text_encoder=model))


def entries(dataset: Dataset) -> slice:
    (index,) = (i for i, a in enumerate(dataset.schema.attributes) if a.kind == "text")
    start = int(dataset.schema.starts[index])
    return slice(start, start + dataset.schema.attributes[index].width)


def test_each_caption_of_the_data_once(dataset: Dataset) -> None:
    found = sample_captions(dataset)
    assert found is not None and found.dtype == np.float32
    text = entries(dataset)
    assert len(found) == len(np.unique(found[:, text], axis=0)) == len(HAIR)
    assert {row.tobytes() for row in found[:, text]} < {row.tobytes() for row in np.asarray(dataset.labels)[:, text]}
    assert np.abs(found[:, text]).sum(1).all(), "an image without a caption has none to tell from"


def test_no_more_than_asked_for_and_the_same_each_time(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "MOST", 4)
    one, other = (sample_captions(dataset) for _ in range(2))
    assert one is not None and other is not None
    assert len(one) == 4 and np.array_equal(one, other)


def test_what_captions_have_in_common_does_not_enter(dataset: Dataset) -> None:
    text = entries(dataset)
    index = [a.kind for a in dataset.schema.attributes].index("text")
    vectors = np.asarray(dataset.labels)[np.asarray(dataset.known, bool)[:, index], text]
    common = np.linalg.norm(vectors.mean(0))
    assert common > 0.9, "nearly all of a vector of length 1"
    centre, scale = (each[text] for each in measure_scaling(dataset))
    scaled = (vectors - centre) * scale
    assert np.allclose(scaled.mean(0), 0, atol=1e-5)
    assert np.square(scaled).sum(1).mean() == pytest.approx(1, rel=0.05)


def test_a_caption_counts_however_many_images_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "MOST", 2)
    found = sample_captions(captioned(tmp_path, 100, lambda i: i == 77, {}))
    assert found is not None and len(found) == 1 and found.any()


def test_a_dataset_may_have_lost_all_its_captions(dataset: Dataset) -> None:
    class Lost:
        schema, labels, known = dataset.schema, dataset.labels, np.zeros_like(dataset.known)

        def __len__(self) -> int:
            return len(dataset)

    assert sample_captions(cast(Dataset, Lost())) is None
    assert (measure_scaling(cast(Dataset, Lost())).scale == 1).all()


def test_numbers_that_no_caption_uses_stay_unused() -> None:
    """As three of the 384 numbers of minilm's vectors."""
    values = np.zeros((50, 4))
    values[:, :2] = np.random.default_rng(0).normal(size=(50, 2))
    values[::2, 2] = 1e-33
    scale = scale_of_text(values)
    assert np.square((values - values.mean(0)) * scale).sum(1).mean() == pytest.approx(1)
    assert abs(values[:, 2] * scale).max() < 1e-32


def test_captions_that_are_nearly_all_the_same_leave_room_for_others() -> None:
    values = np.zeros((1_000, 4))
    values[:, 0], values[7] = 1, (0, 1, 0, 0)
    others = np.eye(4) - values.mean(0)
    assert np.linalg.norm(others * scale_of_text(values), axis=1).max() < 6
    assert scale_of_text(np.ones((1, 4))) == 1


def test_a_run_begins_with_the_loss_of_chance(tmp_path: Path) -> None:
    """A caption is among all those of the data, of which it is one."""
    data = captioned(tmp_path, 60, lambda _: True, {})
    words = [*TINY, "--shards", data.path, "--run", tmp_path / "run", "--mixed-precision", "no"]
    train(*words, "--label-loss", 1, "--log-every", 16, "--total-images", 32)
    losses = [row["loss/classes"] for row in metrics(tmp_path / "run") if "loss/classes" in row]
    assert losses[0] == pytest.approx(math.log(len(HAIR) + 1), rel=0.1)
