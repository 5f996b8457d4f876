"""Frozen levels of a discriminator never change, in any family, and the others train."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch import nn

from support.errors import raises
from support.training import make_state
from trainer.compilation import compile_networks
from trainer.networks import Architecture, build
from trainer.run import checkpoint


def frozen_names(d: nn.Module) -> set[str]:
    return {name for name, parameter in d.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize(
    ("family", "count", "expected"),
    [
        ("residual", 1, {"from_picture", "blocks.0", "widen.0"}),
        ("residual", 3, {"from_picture", "blocks.0", "blocks.1", "blocks.2", "widen.0", "widen.1"}),
        ("r3gan", 2, {"from_picture", "levels.0", "levels.1", "transitions.0", "transitions.1"}),
        ("article", 1, {"layers.0"}),
    ],
)
def test_levels_from_the_image_on_are_frozen(family: str, count: int, expected: set[str]) -> None:
    shape = {"size": 96} if family == "article" else {"size": 16, "channels": (8, 16, 8)}
    d = build(Architecture(family=family, widths=(2, 1), noise=4, embedding=4, **shape))[1]  # type: ignore[arg-type]
    d.freeze(count)
    names = frozen_names(d)
    assert names and all(name.startswith(tuple(expected)) for name in names)
    assert {name for name, _ in d.named_parameters() if name.startswith(tuple(expected))} == names
    d.train()
    assert d.training and not d.trunk_levels()[0][0].training


METHODS = {
    "alternating": (),
    "penalty in each step": ("--penalty-every", "1"),
    "joint": ("--updates", "joint", "--label-loss", "0.5", "--family", "r3gan"),
    "joint and accumulated": ("--updates", "joint", "--accumulate", "2"),
    "normalized": ("--spectral-norm", "--loss", "hinge", "--gamma", "0"),
    "early label": ("--conditioning", "plane"),
}


@pytest.mark.parametrize("words", METHODS.values(), ids=METHODS)
def test_frozen_levels_keep_every_bit(words: tuple[str, ...], tmp_path: Path) -> None:
    state, stream = make_state(tmp_path, "--init-from", "runs/x", "--freeze-d", "2", *words)
    names = frozen_names(state.d.module)
    levels = [name for name, _ in state.d.module.named_modules() if name]
    before = {name: tensor.clone() for name, tensor in state.d.module.state_dict().items()}
    for number in range(2):
        assert all(value.isfinite() for value in state.step(stream[number]).metrics.values())
    after = state.d.module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    roots = ("from_picture", "blocks.0", "blocks.1", "levels.0", "levels.1", "widen.0", "widen.1", "transitions.0")
    assert names and levels and not any(name.startswith(roots) for name in changed), "vectors of spectral norm included"
    assert any(name.startswith("head") for name in changed) and any(".2." in name for name in changed)
    assert not any(key.startswith(tuple(names)) for key in state.tensors()["optimizer_d"])
    saved = checkpoint.read(checkpoint.save(tmp_path, state.values(), state.tensors(), keep=1))
    other, _ = make_state(tmp_path / "other", "--init-from", "runs/x", "--freeze-d", "2", *words)
    other.load(saved)
    for resumed in (state, other):
        resumed.step(stream[2])
    assert all(torch.equal(t, other.d.module.state_dict()[name]) for name, t in state.d.module.state_dict().items())


def test_more_levels_than_there_are_is_an_error(tmp_path: Path) -> None:
    with raises("invalid-value", "--freeze-d 4", "3 levels"):
        make_state(tmp_path, "--freeze-d", "4")


@pytest.mark.parametrize("joint", [False, True])
def test_compiled_networks_stay_frozen(joint: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a backend that needs no C++ compiler."""
    compiled = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(nn.Module, "compile", lambda self, dynamic: None)
    shape = {"size": 16, "channels": (8, 8, 8)}
    architecture = Architecture(family="residual", widths=(3, 2), noise=4, embedding=4, **shape)  # type: ignore[arg-type]
    g, d = build(architecture)
    d.freeze(2)
    names = frozen_names(d)
    full = functools.partial(torch.autocast, "cpu", enabled=False)
    compile_networks(g, d, architecture, generated=[4], scored=8, joint=joint, autocast=full)
    assert names and frozen_names(d) == names and d.training
