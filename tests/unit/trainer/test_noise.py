"""Keyed numbers: several purposes are drawn at once, and each gets the numbers that it gets alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.noise import draw, normal, uniform

POSITIONS = 2**33 + 977 * torch.arange(40)
Z = [
    [0.1852380188628573, 1.3258789606171046, -0.19371231817167983],
    [-1.457656113272362, -0.876308790664839, -0.2070376119205885],
]
U = [
    [0.9869316102704033, 0.9971226752968505, 0.4394773027161136],
    [0.03501715755555779, 0.7577975055901334, 0.7399911555694416],
]


class Operations(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func._schema.name] += 1
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_numbers_drawn_at_once_are_those_drawn_alone(dtype: torch.dtype) -> None:
    normals, uniforms = {"noise": 33, "bell": 6}, {"even": 21, "more": 1}
    found = draw(3, POSITIONS, dtype, normal=normals, uniform=uniforms)
    assert list(found) == [*normals, *uniforms]
    for sizes, alone in ((normals, normal), (uniforms, uniform)):
        for purpose, size in sizes.items():
            expected = alone(3, purpose, POSITIONS, size, dtype)
            assert expected.shape == (40, size) and expected.dtype == dtype
            assert torch.equal(found[purpose], expected)


def test_numbers_stay_the_same_in_every_version() -> None:
    """Other numbers would make a resumed run another one."""
    z = normal(3, "noise of G", POSITIONS[:2], 3, torch.float64)
    u = uniform(3, "augmentation of x in D, even", POSITIONS[:2], 3, torch.float64)
    torch.testing.assert_close(z, torch.tensor(Z, dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(u, torch.tensor(U, dtype=torch.float64), rtol=0, atol=0)


def test_trap_more_purposes_take_no_more_hashes() -> None:
    """A hash is fifty small operations, which a GPU starts one by one."""
    with Operations() as one:
        normal(0, "noise", POSITIONS, 64)
    with Operations() as many:
        draw(0, POSITIONS, normal={str(n): 8 for n in range(4)}, uniform={f"even {n}": 21 for n in range(3)})
    for name in ("aten::bitwise_xor", "aten::mul", "aten::__rshift__", "aten::bitwise_and", "aten::log"):
        assert one.counts[name] and many.counts[name] <= one.counts[name], name
