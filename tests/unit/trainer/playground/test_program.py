"""Generators as lists of operators: the same images, for any family."""

from __future__ import annotations

import pytest
import torch

from support.small_runs import random_generator
from trainer.playground.program import Program, trace

WIDTHS = (3, 1, 2)


def inputs(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    known = (torch.rand(count, len(WIDTHS)) < 0.7).float()
    return torch.randn(count, 12), torch.rand(count, sum(WIDTHS)).round(), known


def traced(family: str, size: int) -> tuple[torch.nn.Module, Program]:
    generator, architecture = random_generator(family, WIDTHS, size)
    return generator, trace(generator, architecture.noise, WIDTHS)


@pytest.mark.parametrize(("family", "size"), [("residual", 16), ("r3gan", 24), ("article", 96)])
def test_program_draws_what_the_generator_draws(family: str, size: int) -> None:
    generator, program = traced(family, size)
    given = inputs(2)
    with torch.no_grad():
        expected = generator(*given)
    assert expected.std() > 0.01
    torch.testing.assert_close(program.run(*given), expected, rtol=1e-5, atol=1e-5)


def test_what_does_not_depend_on_the_inputs_is_computed_once() -> None:
    generator, program = traced("r3gan", 16)
    names = [step.name for step in program.steps]
    assert "aten.permute.default" not in names and "aten.expand.default" not in names
    stored = sum(constant.numel() for constant in program.constants)
    assert stored < 1.1 * sum(parameter.numel() for parameter in generator.parameters())


def test_generator_stays_as_it_is_and_the_layout_of_its_memory_does_not_matter() -> None:
    generator, architecture = random_generator("residual", WIDTHS)
    generator = generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    program = trace(generator, architecture.noise, WIDTHS)
    weights = [p for p in generator.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert all(constant.is_contiguous() for constant in program.constants)


def test_rounding_touches_numbers_but_no_indices() -> None:
    _, program = traced("residual", 16)
    rounded = program.rounded(torch.float16)
    pairs = list(zip(program.constants, rounded.constants, strict=True))
    assert any(not torch.equal(a, b) for a, b in pairs if a.is_floating_point())
    assert any(not a.is_floating_point() for a, _ in pairs)
    assert all(torch.equal(a, b) for a, b in pairs if not a.is_floating_point())
