"""Spectral normalization: singular values, one power iteration per step, and its vectors in checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from support.training import BATCH, NOISE, SIZE, WIDTHS, make_batch, make_env, make_method, make_state, same_labels
from trainer.finetuning.transfer import transfer
from trainer.networks import CONDITIONINGS, FAMILIES, Architecture, build
from trainer.networks.discriminator import Discriminator
from trainer.networks.spectral import ChannelNorm
from trainer.run import checkpoint, state_dicts
from trainer.step import Player, discriminator_step, generator_step


def made(
    family: str = "residual", conditioning: str = "projection", size: int = SIZE
) -> tuple[nn.Module, Discriminator]:
    torch.manual_seed(0)
    fields = {"size": size, "widths": WIDTHS, "noise": NOISE, "embedding": 4, "spectral_norm": True}
    return build(Architecture(family=family, conditioning=conditioning, **fields))  # type: ignore[arg-type]


def players(dtype: torch.dtype = torch.float64) -> tuple[Player, Player]:
    g, d = (module.to(dtype) for module in made())
    return tuple(Player(m, m, torch.optim.Adam(m.parameters(), 1e-2)) for m in (d, g))  # type: ignore[return-value]


def matrices(network: nn.Module) -> dict[str, tuple[Tensor, nn.Module]]:
    """Return each normalized weight with its parametrization."""
    found = {}
    for path, layer in network.named_modules():
        if parametrize.is_parametrized(layer):
            for name, parametrization in layer.parametrizations.items():  # type: ignore[union-attr, operator]
                found[f"{path}.{name}"] = getattr(layer, name), parametrization[0]
    return found


def vectors(network: nn.Module) -> dict[str, Tensor]:
    return {n: b.clone() for n, b in network.named_buffers() if n.endswith(("_u", "_v"))}


def largest_singular_value(matrix: Tensor) -> float:
    """Compute it from the eigenvalues of the smaller of WWᵀ and WᵀW: a second, where an SVD takes a minute."""
    square = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    return torch.linalg.eigvalsh(square.detach())[-1].sqrt().item()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_largest_singular_value_of_every_discriminator_weight_is_one(family: str, conditioning: str) -> None:
    _, d = made(family, conditioning, 96 if family == "article" else 16)
    side = 96 if family == "article" else 16
    with torch.no_grad():
        for _ in range(5 if family == "article" else 20):
            d(torch.randn(1, 3, side, side), torch.zeros(1, 4), torch.ones(1, 2))
    d.eval()
    found = matrices(d)
    for name, (weight, norm) in found.items():
        if isinstance(norm, ChannelNorm):  # one row per channel, normalized on its own
            sigmas = weight.flatten(1).norm(dim=1)
            torch.testing.assert_close(sigmas, torch.ones_like(sigmas))
        else:
            assert largest_singular_value(weight.flatten(1)) == pytest.approx(1, abs=0.05), name
    plain = [n for n, p in d.named_parameters() if p.dim() > 1 and "parametrizations" not in n]
    assert all(n.startswith("plane.") for n in plain)
    assert bool(plain) == (CONDITIONINGS[conditioning].early is not None)
    assert len(found) >= 4


@pytest.mark.parametrize("family", ["residual", "r3gan"])
def test_generator_is_bounded_and_not_normalized(family: str) -> None:
    """Trap: against a discriminator whose slope does not decay, unbounded images grow without limit."""
    g, _ = made(family)
    assert not matrices(g)
    x = g(100 * torch.randn(4, NOISE), torch.zeros(4, 4), torch.ones(4, 2))
    assert 0.9 < x.abs().max() <= 1


def iterated(before: dict[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return u and v after one power iteration, by hand: u = Wv / ‖Wv‖, then v = Wᵀu / ‖Wᵀu‖."""
    after = {}
    for name in before:
        if name.endswith("_u"):
            weight = weights[name.replace("0._u", "original")].flatten(1)
            u = weight @ before[name.replace("_u", "_v")]
            u = u / u.norm()
            v = weight.T @ u
            after |= {name: u, name.replace("_u", "_v"): v / v.norm()}
    return after


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("penalise", [False, True])
@pytest.mark.parametrize("mismatch", ["real", "generated"])
def test_one_power_iteration_per_step_of_d_and_none_per_step_of_g(parts: int, penalise: bool, mismatch: str) -> None:
    d, g = players()
    method, env = make_method("relativistic", mismatch), make_env()
    for _ in range(2):  # the second step starts from the vectors of the first
        before, weights = vectors(d.module), {n: p.detach().clone() for n, p in d.module.named_parameters()}
        micro_batches = make_batch().split(parts)
        discriminator_step(d, g, micro_batches, BATCH, method, env, penalise=penalise)
        after = vectors(d.module)
        expected = iterated(before, weights)
        assert len(after) == len(expected) >= 10
        for name, vector in expected.items():
            torch.testing.assert_close(after[name], vector, rtol=1e-10, atol=1e-12)
        generator_step(d, g, micro_batches, BATCH, method, env)
        assert all(torch.equal(vector, after[name]) for name, vector in vectors(d.module).items())


def test_accumulation_equals_the_large_batch() -> None:
    results = []
    for parts in (1, 4):
        d, g = players()
        batches, method, env = make_batch().split(parts), make_method("hinge"), make_env()
        for penalise in (True, False):
            discriminator_step(d, g, batches, BATCH, method, env, penalise=penalise)
            generator_step(d, g, batches, BATCH, method, env)
        results.append([*d.module.state_dict().values(), *g.module.state_dict().values()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_article_discriminator_iterates_once_per_forward_pass() -> None:
    """It accesses the first convolution's weight a second time, for the memory format."""
    _, d = made("article", size=96)
    before, weights = vectors(d), dict(d.named_parameters())
    with torch.no_grad():
        d(torch.randn(1, 3, 96, 96), torch.zeros(1, 4), torch.ones(1, 2))
    for name, vector in iterated(before, weights).items():
        torch.testing.assert_close(vectors(d)[name], vector)


def test_norms_are_computed_in_float32_under_autocast() -> None:
    d, g = players(torch.float32)
    dtypes = []
    for _, norm in matrices(d.module).values():
        norm.register_forward_hook(lambda _m, _args, out: dtypes.append((out.dtype, torch.is_autocast_enabled("cpu"))))
    env = make_env("bf16")
    batch = make_batch(torch.float32)
    discriminator_step(d, g, [batch], BATCH, make_method("hinge"), env, penalise=False)
    assert len(dtypes) == len(matrices(d.module)), "each norm is computed once"
    generator_step(d, g, [batch], BATCH, make_method("hinge"), env)
    assert set(dtypes) == {(torch.float32, False)}


SAME = same_labels((4, 3))  # of the dataset of `make_state`
SPECTRAL = ("--spectral-norm", "--loss", "hinge", "--gamma", "0")


def test_checkpoints_contain_the_power_iteration_vectors(tmp_path: Path) -> None:
    state, stream = make_state(tmp_path, *SPECTRAL)
    state.step(stream[0])
    saved = checkpoint.read(checkpoint.save(tmp_path, state.values(), state.tensors(), keep=1))
    assert vectors(state.d.module).keys() < saved.tensors("discriminator").keys()
    other, _ = make_state(tmp_path / "other", *SPECTRAL)
    for number in (7, 8):
        other.step(stream[number])
    assert any(not torch.equal(v, vectors(other.d.module)[n]) for n, v in vectors(state.d.module).items())
    other.load(saved)
    for resumed in (state, other):
        resumed.step(stream[1])
    for name, tensor in state.d.module.state_dict().items():
        assert torch.equal(tensor, other.d.module.state_dict()[name]), name


def test_weights_are_transferred_with_their_vectors(tmp_path: Path) -> None:
    state, stream = make_state(tmp_path, *SPECTRAL)
    state.step(stream[0])
    other, _ = make_state(tmp_path / "other", *SPECTRAL, "--seed", "1")
    assert transfer(other.d.module, state_dicts.module_tensors(state.d.module), SAME).fresh == ()
    for name, tensor in state.d.module.state_dict().items():
        assert torch.equal(tensor, other.d.module.state_dict()[name]), name
    plain, _ = make_state(tmp_path / "plain")
    fresh = transfer(plain.d.module, state_dicts.module_tensors(state.d.module), SAME).fresh
    assert "head.psi.weight" in fresh and "head.psi.bias" not in fresh, "weights without normalization have other names"


def test_partially_transferred_normalized_network_starts_finite(tmp_path: Path) -> None:
    """Trap: old vectors v with fresh weights could make σ negative, so the first step iterates before it divides."""
    state, stream = make_state(tmp_path, *SPECTRAL)
    other, _ = make_state(tmp_path / "other", *SPECTRAL, "--seed", "1", "--channels", "16,8,16")
    assert transfer(other.d.module, state_dicts.module_tensors(state.d.module), SAME).fresh
    assert all(value.isfinite() for value in other.step(stream[0]).metrics.values())


def test_architectures_of_older_checkpoints_get_the_defaults() -> None:
    fields = {"family": "residual", "size": SIZE, "widths": WIDTHS, "noise": NOISE, "embedding": 4, "channels": ()}
    older = Architecture(**fields)  # type: ignore[arg-type]
    assert dataclasses.asdict(older) == fields | {
        **{"blocks": None, "expansion": 2, "group_width": 16, "conditioning": "auto", "spectral_norm": False},
        **{"modulation": False, "resize": "average", "image_channels": 3, "aspect": (1, 1)},
        **{"image_kernel": 1, "level_means": False},
    }
