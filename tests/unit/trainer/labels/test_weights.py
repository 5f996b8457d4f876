"""Weights of attributes: those that images show count, others together no more than four."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from shards.dataset.dataset import Dataset
from shards.dataset.image_shape import ImageShape
from shards.examples.shapes import draw
from shards.packing.pack import Pack, pack
from support.training import make_env
from trainer import config
from trainer.fresh_state import build_state
from trainer.labels.measured import MeasuredLabels
from trainer.labels.weights import correlations, measure_weights, weights_of
from trainer.networks.conditioning import LabelEmbedding
from trainer.run import checkpoint
from trainer.state import TrainingState

ATTRIBUTES = 12
KINDS, WIDTHS = ("exclusive", *["tag"] * 4), (3, 1, 1, 1, 1)
WEIGHTS = np.array([1.0, 0.25, 0.5, 0.25, 0.25])


def test_shown_attributes_count_and_all_others_count_as_much_as_four() -> None:
    shown = np.arange(300) < 3
    weights = weights_of(shown)
    assert (weights[shown] == 1).all() and weights[~shown].sum() == pytest.approx(4 * 297 / 300)
    for count in (5, 40, 300):
        assert np.square(weights_of(np.ones(count, bool))).sum() == pytest.approx(4), "no more than four in any case"


def test_correlations_tell_what_features_show() -> None:
    """A binary and a continuous entry with weak traces in the features; a rare tag; what is known in few images."""
    draws = np.random.default_rng(0)
    features = draws.normal(size=(2_000, 30))
    hidden = draws.normal(size=2_000)
    tags = draws.random((2_000, 4)) < [0.5, 0.02, 0.5, 0.5]
    features[:, 3] += 0.7 * tags[:, 0]
    features[:, 4] += 2 * tags[:, 1]
    features[:, 5] += 0.3 * hidden
    features[:, 6] += 5 * tags[:, 2]
    known = np.ones((2_000, 6), bool)
    known[80:, 2] = False  # 40 in each half
    exclusive = np.eye(3)[draws.integers(3, size=2_000)]
    labels = np.hstack([tags, hidden[:, None], exclusive])
    found = correlations(features, labels, known, (1, 1, 1, 1, 1, 3))
    assert (found > 5).tolist() == [True, True, False, False, True, False], found
    assert found[2] == 0


def test_correlations_do_not_depend_on_the_entries_of_others() -> None:
    draws = np.random.default_rng(0)
    features, labels = draws.normal(size=(300, 8)), draws.random((300, 2_500)).round()
    known = draws.random((300, 2_500)) < 0.8
    found = correlations(features, labels * known, known, (1,) * 2_500)
    alone = correlations(features, (labels * known)[:, 2_000:2_001], known[:, 2_000:2_001], (1,))
    assert found[2_000] == pytest.approx(alone[0]) and np.abs(found).max() < 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four hundred images with an ink, a shape, and ten tags that they do not show."""
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "images").mkdir()
    draws = np.random.default_rng(0)
    with (folder / "tags.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "tags"])
        for number in range(400):
            image, tags = draw(number, 16)
            image.save(folder / "images" / f"{number:03d}.png")
            more = [f"tag{tag}" for tag in range(ATTRIBUTES - 2) if draws.random() < 0.4]
            writer.writerow([f"{number:03d}", ", ".join([tags, *more])])
    pack(Pack(src=folder, out=folder / "data", size=16, workers=1))
    return Dataset.open(folder / "data")


def test_images_are_looked_at(dataset: Dataset) -> None:
    weights = measure_weights(dataset)
    shown = [attribute.kind == "exclusive" for attribute in dataset.schema.attributes]
    assert len(weights) == ATTRIBUTES and sum(shown) == 2
    assert (weights == weights_of(np.array(shown))).all(), weights


def make_state(weights: np.ndarray | None) -> TrainingState:
    options = config.load(["--preset", "smoke", "--batch", "8", "--label-loss", "0.5", "--dtype", "float64"])
    return build_state(options, make_env(), ImageShape.of(16), WIDTHS, KINDS, MeasuredLabels(weights=weights))


def embeddings(state: TrainingState) -> list[LabelEmbedding]:
    networks = (state.g.module, state.d.module, state.ema.module)
    return [layer for network in networks for layer in network.modules() if isinstance(layer, LabelEmbedding)]


def test_vectors_enter_by_their_weights_and_are_as_long_as_those_of_four() -> None:
    weighted, plain = make_state(WEIGHTS), make_state(None)
    label, known = torch.rand(3, 7).double(), torch.ones(3, 5).double()
    known[0] = 0
    assert len(embeddings(weighted)) == 3
    for layer, other in zip(embeddings(weighted), embeddings(plain), strict=True):
        parts = []
        for attribute, weight in enumerate(WEIGHTS):
            one, alone = torch.zeros(7), torch.zeros(5)
            one[other.mask.attribute_of == attribute] = alone[attribute] = 1
            e = other.value(label * one * known[:, other.mask.attribute_of]) + other.null((1 - known) * alone)
            parts.append(weight * (5 / 4) ** 0.5 * e)
        torch.testing.assert_close(layer(label, known), sum(parts))


def test_the_loss_of_labels_is_weighted() -> None:
    scores, label, known = torch.randn(3, 7).double(), torch.rand(3, 7).double().round(), torch.ones(3, 5).double()
    weighted, plain = (make_state(weights).method.class_loss for weights in (WEIGHTS, None))
    assert weighted is not None and plain is not None
    each = [plain(scores, label, known * torch.eye(5)[attribute]) for attribute in range(5)]
    expected = sum(weight * part for weight, part in zip(WEIGHTS.tolist(), each, strict=True))
    torch.testing.assert_close(weighted(scores, label, known), expected)


def test_a_resumed_run_has_the_weights_of_its_checkpoint(tmp_path: Path) -> None:
    state = make_state(WEIGHTS)
    state.images_seen = 8
    saved = checkpoint.save(tmp_path / "run", state.values(), state.tensors(), keep=9)
    resumed = make_state(None)
    resumed.load(checkpoint.read(saved))
    for file, held in state.tensors().items():
        for name, tensor in held.items():
            assert torch.equal(resumed.tensors()[file][name], tensor), (file, name)
    assert all(
        layer.weights is not None and layer.weights.tolist() == WEIGHTS.tolist() for layer in embeddings(resumed)
    )
    scores, label, known = torch.randn(3, 7).double(), torch.rand(3, 7).double().round(), torch.ones(3, 5).double()
    ours, theirs = resumed.method.class_loss, state.method.class_loss
    assert ours is not None and theirs is not None
    assert torch.equal(ours(scores, label, known), theirs(scores, label, known))


def test_attributes_of_older_checkpoints_all_weigh_1(tmp_path: Path) -> None:
    state = make_state(None)
    state.images_seen = 8
    tensors = state.tensors()
    for file in ("generator", "discriminator", "ema"):
        (name,) = (name for name in tensors[file] if name.endswith("embedding.weights"))
        del tensors[file][name]
    resumed = make_state(WEIGHTS)
    resumed.load(checkpoint.read(checkpoint.save(tmp_path / "run", state.values(), tensors, keep=9)))
    assert all(layer.weights is not None and (layer.weights == 1).all() for layer in embeddings(resumed))


def test_up_to_four_attributes_have_no_weights(dataset: Dataset) -> None:
    options = config.load(["--preset", "smoke", "--label-loss", "0.5"])
    weights = np.ones(4)
    state = build_state(options, make_env(), ImageShape.of(16), WIDTHS[:4], KINDS[:4], MeasuredLabels(weights=weights))
    assert all(layer.weights is None for layer in embeddings(state))
    assert not [name for held in state.tensors().values() for name in held if name.endswith("embedding.weights")]
