"""What a page can hold of a program, and what it cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from support.errors import raises
from support.small_runs import random_generator
from trainer.playground.encoding import choose_dtype, encode, require_operators
from trainer.playground.program import Program, trace

WIDTHS = (3, 1)


def program() -> Program:
    generator, architecture = random_generator("residual", WIDTHS)
    return trace(generator, architecture.noise, WIDTHS)


class Unusual(nn.Module):
    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        return torch.linalg.qr(z.view(3, 4))[0].erf() + known.to(torch.float64).sum()


def test_operator_that_the_page_lacks_is_one_error_that_names_all() -> None:
    with raises("operator-unsupported", "aten.linalg_qr.default", "aten.erf.default", "torch.float64"):
        require_operators(trace(Unusual(), 12, WIDTHS))


def test_weights_are_stored_one_after_another_in_the_chosen_precision() -> None:
    exact = program()
    content, weights = encode(exact, torch.float16)
    for stored, constant in zip(content["constants"], exact.constants, strict=True):
        dtype = np.dtype(stored["dtype"]).newbyteorder("<")
        read = np.frombuffer(weights, dtype, constant.numel(), stored["start"]).reshape(stored["shape"])
        expected = constant.half() if constant.is_floating_point() else constant
        assert np.array_equal(read, expected.numpy())


class Difference(nn.Module):
    """z (a - b): what float16 rounds in a and b of 1000 is as large as their difference."""

    a: Tensor
    b: Tensor

    def __init__(self, loud: float) -> None:
        super().__init__()
        self.register_buffer("a", torch.tensor(loud + 0.3))
        self.register_buffer("b", torch.tensor(loud))

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        return (z * self.a - z * self.b).view(1, 3, 2, 2)


@pytest.mark.parametrize(("loud", "dtype"), [(0.5, torch.float16), (1000, torch.float32), (1e6, torch.float32)])
def test_half_precision_is_chosen_only_if_no_pixel_moves(loud: float, dtype: torch.dtype) -> None:
    inputs = [np.full((2, n), 0.5, np.float32) for n in (12, sum(WIDTHS), len(WIDTHS))]
    assert choose_dtype(trace(Difference(loud), 12, WIDTHS), *inputs) == dtype
