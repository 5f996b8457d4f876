"""Compiled networks have the gradients of uncompiled ones and share their weights; errors are explained."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from shards.dataset.image_shape import ImageShape
from shards.stream.batch import Batch
from support.errors import raises
from support.launching import TINY, assert_same_run, make_dataset, metrics, tensors, train
from trainer import config
from trainer.compilation import _different, compile_networks
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.networks import Architecture, build
from trainer.networks.resampling import double_size
from trainer.state import TrainingState

FAMILIES = {
    "residual": ["--channels", "16,8,8", "--modulation", "--image-kernel", "3"],
    "r3gan": ["--channels", "16,16,16", "--group-width", "8", "--blocks", "1", "--modulation", "--level-means"],
    "article": [],
}
WIDTHS = (3, 2)


@pytest.mark.parametrize("side", [1, 4, 6])
def test_explicit_doubling_equals_interpolation(side: int) -> None:
    """Only trace: the graph that dynamo captures runs with torch's own operators."""
    x = torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(2, 3, 2 * side, 2 * side, dtype=torch.float64)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    traced: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        traced.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    found = torch.compile(double_size, backend=backend, dynamic=False)(x)
    assert traced and not any("interpolate" in name or "index" in name for name in traced)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, direction)[0] for y in (found, expected)))


def test_wrong_gradients_are_found_and_rounding_is_tolerated() -> None:
    right = (torch.randn(50), torch.randn(5, 5), 1e-6 * torch.randn(3))
    rounded = (right[0] * (1 + 1e-5), right[1], torch.zeros(3))  # the last one is negligible
    names = ["basis", "widen", "bias"]
    assert _different(right, rounded, names, 1e-3) == []
    assert _different(right, (torch.zeros(50), *right[1:]), names, 0.1) == ["basis"]
    assert _different(right, (right[0], right[1] * float("nan"), right[2]), names, 0.1) == ["widen"]
    coarse = (right[0] * 1.15, *right[1:])  # half precision rounds the first gradient that far
    assert _different(right, coarse, names, 0.1) == ["basis"]
    assert _different(right, coarse, names, 0.1, (right[0] * 0.9, *right[1:])) == []
    assert _different(right, (torch.zeros(50), *right[1:]), names, 0.1, (right[0] * 0.9, *right[1:])) == ["basis"]


def test_a_missing_compiler_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/no/such/compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    architecture = Architecture(family="residual", size=8, widths=WIDTHS, noise=4, embedding=4, channels=(8, 8))
    g, d = build(architecture)
    before = {name: tensor.clone() for name, tensor in g.state_dict().items()}
    with raises("compile-failed", "--compile", "C++ compiler"):
        plain = functools.partial(torch.autocast, "cpu", enabled=False)
        compile_networks(g, d, architecture, generated=[4, 8], scored=8, joint=False, autocast=plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in g.state_dict().items())


def image_size(family: str) -> int:
    return 96 if family == "article" else 16


def make_states(family: str, *words: str) -> tuple[TrainingState, TrainingState]:
    """Return two equal training states, uncompiled and compiled."""
    torch._dynamo.reset()
    size = image_size(family)
    states = []
    for compiled in ("false", "true"):
        asked = config.load(["--family", family, *FAMILIES[family], "--batch", "4", *words, "--compile", compiled])
        env = Distributed("cpu", "no" if asked.machine.dtype == "float64" else asked.machine.mixed_precision, 1)
        states.append(build_state(asked, env, ImageShape.of(size), WIDTHS, ("exclusive",) * len(WIDTHS)))
    return states[0], states[1]


def make_batch(size: int, number: int) -> Batch:
    torch.manual_seed(number)
    label, known = torch.zeros(4, sum(WIDTHS)), torch.ones(4, len(WIDTHS))
    label[:, [0, 3]] = 1
    images = torch.randint(256, (4, 3, size, size), dtype=torch.uint8)
    position = torch.arange(4) + 4 * number
    return Batch(images, label, known, label.flip(1), known, torch.ones(4), position, 4)


@pytest.mark.long  # compiling takes minutes
@pytest.mark.parametrize(
    ("family", "updates"),
    [
        ("residual", "joint"),
        ("r3gan", "alternating"),
        pytest.param("residual", "alternating", marks=pytest.mark.exhaustive),
        pytest.param("article", "alternating", marks=pytest.mark.exhaustive),
    ],
)
def test_compiled_steps_have_the_gradients_of_uncompiled_ones(family: str, updates: str) -> None:
    """G also runs under no_grad, in D's step; some steps have a penalty, and in others G generates second images."""
    words = (*"--dtype float64 --penalty-every 2 --mode-seeking 0.3 --lr-g 1e-4 --updates".split(), updates)
    plain, compiled = make_states(family, *words)
    for one, other in ((plain.g, compiled.g), (plain.d, compiled.d), (plain.ema, compiled.ema)):
        assert list(one.module.state_dict()) == list(other.module.state_dict())
        assert all(map(torch.equal, one.module.state_dict().values(), other.module.state_dict().values()))
    for number in range(4):
        batch = make_batch(image_size(family), number)
        scalars = [state.step(batch).metrics for state in (plain, compiled)]
        assert ("loss/penalty" in scalars[1]) == (number % 2 == 0)
        for one, other in ((plain.g, compiled.g), (plain.d, compiled.d)):
            pairs = zip(one.module.named_parameters(), other.module.parameters(), strict=True)
            gradients = [(name, a.grad, b.grad) for (name, a), b in pairs]
            labels = [name for name, _, _ in gradients]
            expected, found = (tuple(g[side] for g in gradients if g[side] is not None) for side in (1, 2))
            assert len(expected) == len(found) == len(labels)
            assert _different(expected, found, labels, 1e-6) == []  # type: ignore[arg-type]
    assert compiled.ema.module._compiled_call_impl is None  # the averaged generator is not compiled


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_passes_the_comparison(family: str) -> None:
    """Torch 2.13 returned zeros here; the comparison would raise."""
    _, compiled = make_states(family, "--mixed-precision", "bf16")
    assert compiled.step(make_batch(image_size(family), 0)).losses["loss/g"].isfinite()


@pytest.mark.long
def test_a_compiled_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    words = [*TINY, "--shards", tmp_path / "data", "--compile", "true"]
    train(*words, "--run", tmp_path / "whole", "--total-images", 128)
    train(*words, "--run", tmp_path / "parts", "--total-images", 64)
    train(*words, "--run", tmp_path / "parts", "--total-images", 128)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert not [name for name in tensors(tmp_path / "whole") if "_orig_mod" in name]
    train(*words, "--compile", "false", "--run", tmp_path / "parts", "--total-images", 160)  # it may resume uncompiled


@pytest.mark.exhaustive
def test_two_processes_compile_and_agree(tmp_path: Path) -> None:
    """Gradients are all-reduced: the losses are those of one uncompiled process."""
    make_dataset(tmp_path)
    words = [*TINY, "--shards", tmp_path / "data", "--dtype", "float64", "--total-images", 128]
    done = train(*words, "--compile", "true", "--run", tmp_path / "two", processes=2)
    assert "compiling the networks" in done.stdout
    train(*words, "--run", tmp_path / "one")
    for two, one in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        assert two["loss/d"] == pytest.approx(one["loss/d"], rel=1e-6)
        assert two["grad/g"] == pytest.approx(one["grad/g"], rel=1e-6)
