"""Label conditioning of the discriminator: contracts of the step for every conditioning in every family."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainer.networks import CONDITIONINGS, FAMILIES, Architecture, build
from trainer.networks.conditioning import LabelEmbedding, LabelPlane, ProjectionHead
from trainer.networks.discriminator import Discriminator

WIDTHS = (3, 2)


def size_of(family: str) -> int:
    return 96 if family == "article" else 8


def make_discriminator(family: str, conditioning: str, spectral_norm: bool = False) -> Discriminator:
    """Build a discriminator in float64 whose residual blocks are not the identity."""
    torch.manual_seed(0)
    fields = {"size": size_of(family), "widths": WIDTHS, "noise": 2, "embedding": 4}
    made = Architecture(family=family, conditioning=conditioning, spectral_norm=spectral_norm, **fields)  # type: ignore[arg-type]
    _, d = build(made)
    with torch.no_grad():
        for p in d.parameters():
            if not p.any():
                p.normal_(0, 0.1)
    return d.double().eval()


def make_images(count: int, family: str) -> Tensor:
    size = size_of(family)
    return torch.randn(count, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(count))


def make_labels(count: int) -> tuple[Tensor, Tensor]:
    """Return labels with one value in both attributes; the first label is unknown, the second partly known."""
    number = torch.arange(count)
    label = torch.zeros(count, 5, dtype=torch.float64)
    label[number, number % 3] = label[number, 3 + number % 2] = 1
    known = torch.ones(count, 2, dtype=torch.float64)
    known[0] = known[1, 0] = 0
    return label, known


def every_discriminator(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test for every family, conditioning and normalization."""
    test = pytest.mark.parametrize("conditioning", CONDITIONINGS)(test)
    test = pytest.mark.parametrize("spectral_norm", [False, True])(test)
    return pytest.mark.parametrize("family", FAMILIES)(test)


@every_discriminator
def test_discriminator_treats_samples_independently(family: str, conditioning: str, spectral_norm: bool) -> None:
    """The step's single concatenated pass requires D(cat)[:B] == D(real)."""
    d = make_discriminator(family, conditioning, spectral_norm)
    real, fake = make_images(6, family).chunk(2)
    label, known = make_labels(3)
    wrong = label.roll(1, 0)
    together = d(torch.cat([real, fake]), torch.cat([label, label, wrong]), known.repeat(3, 1))
    separate = [d(x, y, known) for x, y in ((real, label), (fake, label), (real, wrong))]
    torch.testing.assert_close(together, torch.cat(separate), rtol=1e-10, atol=1e-12)
    label_matters = (together[:3] - together[6:]).abs().max() > 1e-6
    assert label_matters != CONDITIONINGS[conditioning].classifies


@every_discriminator
def test_logits_do_not_depend_on_unknown_entries(family: str, conditioning: str, spectral_norm: bool) -> None:
    d = make_discriminator(family, conditioning, spectral_norm)
    x, (label, _) = make_images(2, family), make_labels(2)
    known = torch.tensor([[0.0, 1.0]] * 2, dtype=torch.float64)
    other = label.clone()
    other[:, :3] = torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(d(x, label, known), d(x, other, known))
    other[:, 3:] += 1  # an attribute that is known
    assert torch.equal(d(x, label, known), d(x, other, known)) == CONDITIONINGS[conditioning].classifies


@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_entries_do_not_reach_a_generator(family: str) -> None:
    g, _ = build(Architecture(family=family, size=size_of(family), widths=WIDTHS, noise=2, embedding=4))
    g.eval()
    z, known = torch.randn(2, 2), torch.tensor([[0.0, 1.0]] * 2)
    label = torch.zeros(2, 5)
    other = label.clone()
    other[:, :3] = 1
    assert torch.equal(g(z, label, known), g(z, other, known))
    other[:, 3:] = 1
    assert not torch.equal(g(z, label, known), g(z, other, known))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_late_conditioning_runs_the_trunk_once_per_image(family: str, conditioning: str) -> None:
    d = make_discriminator(family, conditioning)
    seen: list[tuple[int, ...]] = []
    first = d.layers[0] if family == "article" else d.from_picture  # type: ignore[index]
    first.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))  # type: ignore[union-attr]
    label, known = make_labels(4)
    d(make_images(2, family), label, known)
    way = CONDITIONINGS[conditioning]
    assert seen == [(2 if way.early is None else 4, 3 + way.planes)]


def test_planes_by_hand() -> None:
    planes = {name: conditioning.planes for name, conditioning in CONDITIONINGS.items()}
    assert planes == {"projection": 0, "concatenation": 0, "plane": 1, "classifier": 0}


@pytest.mark.parametrize(("family", "own"), [("article", "plane"), ("residual", "projection"), ("r3gan", "projection")])
def test_auto_is_the_conditioning_of_the_family(family: str, own: str) -> None:
    auto, named = (make_discriminator(family, name).state_dict() for name in ("auto", own))
    assert all(torch.equal(auto[name], named[name]) for name in named) and auto.keys() == named.keys()


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_trap_heads_score_unlabelled_images(conditioning: str) -> None:
    """Trap: without ψ and null embeddings the projection of an image without a label is identically 0."""
    head = CONDITIONINGS[conditioning].head(WIDTHS, 8)
    h = torch.randn(4, 8, requires_grad=True)
    logits = head(h, torch.zeros(4, 5), torch.zeros(4, 2))
    logits.sum().backward()
    assert logits.shape == ((4, 1 + 5) if CONDITIONINGS[conditioning].classifies else (4,))
    assert h.grad is not None and h.grad.abs().min() > 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_scores_of_entries_are_what_they_add_to_the_logit(family: str, spectral_norm: bool) -> None:
    """Setting an entry of a label adds its score to the logit; the logit itself stays as it is."""
    d = make_discriminator(family, "projection", spectral_norm)
    x, (label, _), known = make_images(2, family), make_labels(2), torch.ones(2, 2, dtype=torch.float64)
    logits = d(x, label, known)
    d.score_labels()
    scores = d(x, label, known)
    assert scores.shape == (2, 1 + sum(WIDTHS))
    torch.testing.assert_close(scores[:, 0], logits, rtol=1e-12, atol=1e-14)
    for entry in range(sum(WIDTHS)):
        more = label.clone()
        more[:, entry] += 1
        torch.testing.assert_close(d(x, more, known)[:, 0] - logits, scores[:, 1 + entry], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("conditioning", [name for name, way in CONDITIONINGS.items() if not way.embeds_entries])
def test_only_an_embedding_scores_labels(conditioning: str) -> None:
    with pytest.raises(ValueError, match="projection"):
        make_discriminator("residual", conditioning).score_labels()


def test_head_parameters_by_hand() -> None:
    def count(conditioning: str) -> int:
        return sum(p.numel() for p in CONDITIONINGS[conditioning].head(WIDTHS, 8).parameters())

    assert count("projection") == (5 + 2) * 8 + 8 + 1
    assert count("concatenation") == (5 + 2) * 128 + (8 + 128 + 1) * 8 + 8 + 1
    assert count("plane") == 8 + 1
    assert count("classifier") == (8 + 1) * (1 + 5)


def test_projection_by_hand() -> None:
    head = ProjectionHead((2,), 4)
    label, known, h = torch.tensor([[0.0, 1]]), torch.ones(1, 1), torch.tensor([[1.0, 2, 3, 4]])
    expected = (head.embedding.value.weight[:, 1] @ h[0]) / 2 + head.psi(h)[0, 0]
    torch.testing.assert_close(head(h, label, known)[0], expected)


def test_label_embedding_by_hand() -> None:
    embedding = LabelEmbedding((2, 1), 2)
    with torch.no_grad():
        embedding.value.weight.copy_(torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
        embedding.null.weight.copy_(torch.tensor([[10.0, 20], [30, 40]]))
    label, known = torch.tensor([[0.0, 1, 1]]), torch.tensor([[1.0, 0]])
    assert embedding(label, known).tolist() == [[2 + 20, 5 + 40]]


def test_label_plane_has_a_null_plane_and_unit_variance() -> None:
    torch.manual_seed(0)
    plane = LabelPlane(WIDTHS, (16, 16))
    label, known = (t.float() for t in make_labels(6))
    x = torch.randn(6, 3, 16, 16)
    out = plane(x, label, known)
    assert out.shape == (6, 4, 16, 16)
    assert torch.equal(out[:, :3], x)
    drawn = out[:, 3]
    assert drawn.std().item() == pytest.approx(1, rel=0.15)
    assert drawn[0].abs().max() > 0
    torch.testing.assert_close(drawn[0].flatten(), plane.embedding.null.weight.sum(1))
