"""Weights come over into networks of another vocabulary, and compute what they did for the labels that both have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from shards.dataset.schema import Attribute, Schema
from trainer.finetuning.carried_labels import match
from trainer.finetuning.transfer import transfer
from trainer.networks import CONDITIONINGS, FAMILIES, Architecture, build
from trainer.networks.conditioning import set_label_scaling
from trainer.networks.label_axes import label_axes

HAIR = Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair"))
GLASSES, HAT = Attribute("glasses", "tag", ("glasses",)), Attribute("hat", "tag", ("hat",))
POSE = Attribute("pose", "vector", size=2)
EYES = Attribute("eyes", "exclusive", ("blue eyes", "red eyes"))
OLD = Schema((HAIR, GLASSES, POSE))
MORE = Schema((EYES, POSE, HAIR, HAT, GLASSES))  # reordered, with two more attributes
MORE_VALUES = Schema((POSE, Attribute("hair", "exclusive", ("black hair", *HAIR.values[::-1])), GLASSES, EYES))

# The article's networks are large: of theirs, the published one.
KINDS = [(family, way) for family in FAMILIES for way in CONDITIONINGS if family != "article" or way == "plane"]
NOISE = 5


def networks(family: str, conditioning: str, schema: Schema, seed: int, spectral: bool = False) -> tuple:
    """Return G and D in float64 with random weights everywhere."""
    torch.manual_seed(seed)
    levelled = {"size": 8, "channels": (8, 8), "modulation": True, "level_means": True}
    shape = {"size": 96} if family == "article" else levelled
    g, d = build(
        Architecture(
            family=family,
            widths=schema.widths,
            noise=NOISE,
            embedding=4,
            conditioning=conditioning,
            spectral_norm=spectral,
            **shape,  # type: ignore[arg-type]
        )
    )
    if conditioning == "projection":
        d.score_labels()
    with torch.no_grad():
        for parameter in (*g.parameters(), *d.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
    measured = torch.tensor([a.kind == "vector" for a in schema.attributes]).repeat_interleave(
        torch.tensor(schema.widths)
    )
    for network in (g, d):
        set_label_scaling(network, 0.25 * measured, 1.0 + measured * (1 + seed))
        network.double().eval()
    return g, d


def labels_of(schema: Schema) -> tuple[Tensor, Tensor]:
    """Return the same four labels in any vocabulary that has hair, glasses and pose; nothing else is known."""
    label, known = torch.zeros(4, schema.width).double(), torch.zeros(4, len(schema.attributes)).double()
    for row, (hair, glasses, pose) in enumerate([(0, 1, None), (2, 0, 0.5), (1, None, -1.0), (None, None, None)]):
        for attribute, value in ((HAIR, hair), (GLASSES, glasses), (POSE, pose)):
            index = [a.name for a in schema.attributes].index(attribute.name)
            start = int(schema.starts[index])
            if value is None:
                continue
            known[row, index] = 1
            if attribute is HAIR:
                label[row, start + schema.attributes[index].values.index(HAIR.values[int(value)])] = 1
            else:
                label[row, start : start + attribute.width] = value
    return label, known


@pytest.mark.parametrize(("family", "conditioning"), KINDS)
def test_every_tensor_that_depends_on_the_vocabulary_says_how(family: str, conditioning: str) -> None:
    spectral = family == "residual"
    pairs = zip(
        networks(family, conditioning, OLD, 0, spectral), networks(family, conditioning, MORE, 0, spectral), strict=True
    )
    for one, other in pairs:
        shapes, axes = {name: tensor.shape for name, tensor in one.state_dict().items()}, label_axes(other)
        # Few attributes have no weights.
        differing = {name for name, tensor in other.state_dict().items() if tensor.shape != shapes.get(name)}
        vectors = {name for name in differing if name.endswith((".0._u", ".0._v"))}
        assert differing - vectors == axes.keys()
        assert {f"{name.rpartition('.0.')[0]}.original" for name in vectors} <= axes.keys()


@pytest.mark.parametrize("schema", [OLD, MORE, MORE_VALUES], ids=["same", "more", "more values"])
@pytest.mark.parametrize(("family", "conditioning"), KINDS)
def test_labels_that_both_have_draw_and_score_the_same(family: str, conditioning: str, schema: Schema) -> None:
    """To rounding: sums of the same numbers are in another order. All else is zero, or fresh and not named."""
    old = networks(family, conditioning, OLD, 0)
    new = networks(family, conditioning, schema, 1)
    carried = match(OLD, schema, same_texts=True)
    for source, target in zip(old, new, strict=True):
        found = transfer(target, source.state_dict(), carried)
        assert found.fresh == () and not found.is_empty
    z = torch.randn(4, NOISE).double()
    images = old[0](z, *labels_of(OLD))
    assert torch.allclose(new[0](z, *labels_of(schema)), images, rtol=1e-9, atol=1e-9)
    scores = [d(images, *labels_of(s)).view(4, -1) for d, s in ((old[1], OLD), (new[1], schema))]
    assert torch.allclose(scores[0][:, 0], scores[1][:, 0], rtol=1e-9, atol=1e-9)
    if scores[0].shape[1] > 1:  # the scores of label entries, in the new order
        entries = torch.from_numpy(carried.entries)
        known = entries >= 0
        assert torch.allclose(scores[1][:, 1:][:, known], scores[0][:, 1:][:, entries[known]], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_new_attributes_start_without_effect(family: str) -> None:
    old, new = networks(family, "auto", OLD, 0), networks(family, "auto", MORE, 1)
    for source, target in zip(old, new, strict=True):
        transfer(target, source.state_dict(), match(OLD, MORE, same_texts=True))
    (label, known), z = labels_of(MORE), torch.randn(4, NOISE).double()
    before = new[0](z, label, known)
    known[:, [0, 3]], label[:, 1], label[:, int(MORE.starts[3])] = 1.0, 1.0, 1.0
    assert torch.equal(new[0](z, label, known), before)
    label[:, 1] = 1.0
    new[0](z, label, known).square().sum().backward()
    at = next(name for name, axis in label_axes(new[0]).items() if axis.added and axis.per == "entries")
    gradient = dict(new[0].named_parameters())[at].grad
    assert gradient is not None and gradient.abs().sum() > 0, "and learn"


@pytest.mark.parametrize("conditioning", ["projection", "concatenation", "plane", "classifier"])
def test_normalized_discriminators_keep_their_scores(conditioning: str) -> None:
    """Columns of zeros do not change a largest singular value, and its vectors are found at once."""
    reordered = Schema(OLD.attributes[::-1])
    source = networks("residual", conditioning, OLD, 0, spectral=True)[1]
    images, found = torch.randn(4, 3, 8, 8).double(), []
    for schema in (reordered, MORE):
        d = networks("residual", conditioning, schema, 1, spectral=True)[1]
        transfer(d, source.state_dict(), match(OLD, schema, same_texts=True))
        found.append(d(images, *labels_of(schema)).view(4, -1)[:, 0])
    assert torch.allclose(found[0], found[1], rtol=1e-6, atol=1e-6)


def test_equal_shapes_of_other_labels_are_not_copied() -> None:
    other = Schema((Attribute("mood", "exclusive", ("happy", "sad", "calm")), HAT, Attribute("age", "vector", size=2)))
    source, old = networks("residual", "auto", OLD, 0, spectral=True)
    target, new = networks("residual", "auto", other, 1, spectral=True)
    before = {name: tensor.clone() for name, tensor in target.embedding.state_dict().items()}
    for one, another in ((source, target), (old, new)):
        transfer(another, one.state_dict(), match(OLD, other, same_texts=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.embedding.state_dict().items())
    label, known = torch.ones(2, 6).double(), torch.ones(2, 3).double()
    assert new(torch.randn(2, 3, 8, 8).double(), label, known).isfinite().all(), "zeros could not be normalized"
    assert target.embedding.mask.scale.tolist() == [1, 1, 1, 1, 3, 3], "its own scaling"
    assert torch.equal(target.linear.weight, source.linear.weight)


def test_tensors_that_do_not_fit_are_fresh() -> None:
    source, target = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    labels = match(OLD, OLD, same_texts=True)
    found = transfer(target, source.state_dict(), labels)
    assert found.fresh == ("1.weight", "1.bias") and found.total == 4 and not found.is_empty
    assert torch.equal(target.state_dict()["0.weight"], source.state_dict()["0.weight"])
    assert transfer(nn.Linear(7, 3), source[0].state_dict(), labels).is_empty
