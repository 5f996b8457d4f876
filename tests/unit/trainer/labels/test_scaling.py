"""Continuous label entries are scaled to the magnitude of one-hot entries, whatever their unit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shards.dataset.dataset import Dataset
from shards.packing.pack import Pack, pack
from support.launching import TINY, tensors, train
from support.training import same_labels
from trainer.finetuning.transfer import transfer
from trainer.labels.scaling import measure_scaling
from trainer.networks.conditioning import LabelEmbedding, set_label_scaling
from trainer.run import state_dicts
from trainer.sampling import command as sample


def measured(folder: Path, count: int = 40) -> Dataset:
    """Return images with a height in centimetres, a yaw in radians and a flag that is rarely set; some without."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    rows = []
    for i in range(count):
        Image.new("RGB", (16, 16), (6 * i, 0, 0)).save(folder / f"{i}.png")
        numbers = [round(chance.normal(175, 8), 2), round(chance.normal(0, 0.3), 3), float(i == 7)]
        rows.append(json.dumps({"file_name": f"{i}.png"} | ({"label": numbers} if i % 10 else {})))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return pack(Pack(folder, folder.with_name("data"), size=16, workers=1))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return measured(tmp_path_factory.mktemp("scaling") / "source")


def test_scaled_entries_have_zero_mean_and_unit_norm(dataset: Dataset) -> None:
    known = dataset.known[:, 0]
    centre, scale = measure_scaling(dataset)
    scaled = (dataset.labels[known] - centre) * scale
    assert np.allclose(scaled.mean(0), 0, atol=1e-5)
    assert np.allclose(scaled[:, :2].std(0), 3**-0.5, rtol=1e-4), "each entry has the same weight, whatever its unit"
    assert np.abs(scaled).max() <= 4 / 3**0.5 + 1e-6, "the scale of a rare entry is limited"


def test_words_and_constants_are_not_scaled(tmp_path: Path) -> None:
    rows = ["id,tags,size", *(f"{i},{'red' if i % 2 else 'blue'} hair,2.5" for i in range(8))]
    (tmp_path / "source").mkdir()
    for i in range(8):
        Image.new("RGB", (4, 4), (9 * i, 0, 0)).save(tmp_path / "source" / f"{i}.png")
    (tmp_path / "source" / "tags.csv").write_text("\n".join(rows))
    dataset = pack(Pack(tmp_path / "source", tmp_path / "data", size=4, workers=1, columns=("size",), min_count=1))
    kinds = {
        attribute.kind: int(start)
        for attribute, start in zip(dataset.schema.attributes, dataset.schema.starts, strict=True)
    }
    centre, scale = measure_scaling(dataset)
    words = np.arange(dataset.schema.width) != kinds["vector"]
    assert not centre[words].any() and (scale[words] == 1).all()
    assert centre[kinds["vector"]] == 2.5 and scale[kinds["vector"]] == 1


def test_embeddings_have_the_magnitude_of_noise(dataset: Dataset) -> None:
    torch.manual_seed(0)
    embedding = LabelEmbedding(dataset.schema.widths, 512).double()
    labels, known = (
        torch.from_numpy(np.array(dataset.labels)).double(),
        torch.from_numpy(np.array(dataset.known)).double(),
    )
    assert embedding(labels, known).std() > 50, "noise would be negligible"
    centre, scale = map(torch.from_numpy, measure_scaling(dataset))
    set_label_scaling(embedding, centre, scale)
    scaled = embedding(labels, known)
    assert 0.5 < scaled.std() < 1.5
    unknown = torch.zeros_like(known)
    assert torch.equal(embedding(labels, unknown), embedding(0 * labels, unknown)), "unknown entries do not matter"


@pytest.mark.parametrize("conditioning", ["projection", "classifier"])
def test_the_scaling_is_saved_with_the_weights(dataset: Dataset, tmp_path: Path, conditioning: str) -> None:
    run = tmp_path / "run"
    words = [*TINY, "--shards", dataset.path, "--run", run, "--conditioning", conditioning, "--mixed-precision", "no"]
    train(*words, "--total-images", 32)
    train(*words, "--total-images", 64)
    centre, scale = measure_scaling(dataset)
    held = {name: value for name, value in tensors(run).items() if name.endswith((".centre", ".scale"))}
    assert {name.split("/")[0] for name in held} >= {"ema", "generator"}
    for name, value in held.items():
        assert np.allclose(value, centre if name.endswith("centre") else scale, rtol=1e-6), name
    sample.main([str(run), "180.5, 0.2, 0", "--count", "2", "--out", str(tmp_path / "tall.png")])
    assert (tmp_path / "tall.png").exists()


def test_older_checkpoints_have_no_scaling() -> None:
    embedding = LabelEmbedding((1, 2), 4)
    saved = {name: value.clone() for name, value in embedding.state_dict().items() if "mask" not in name}
    for load in (state_dicts.load_module, lambda module, saved: transfer(module, saved, same_labels((1, 2)))):
        set_label_scaling(embedding, torch.tensor([1.0, 2, 3]), torch.tensor([4.0, 5, 6]))
        load(embedding, saved)
        assert not embedding.mask.centre.any() and (embedding.mask.scale == 1).all()
