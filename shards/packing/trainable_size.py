"""The image sizes that networks support, for those who choose one before a network is involved."""

from __future__ import annotations

_BASES = (4, 6)  # pixels, doubled level by level; `trainer.networks.architecture.levels` has the same rule


def is_trainable(size: int) -> bool:
    """Return whether there are networks for images of this size: 4·2ⁿ or 6·2ⁿ."""
    return size == largest_trainable(size)


def largest_trainable(size: int) -> int:
    """Return the largest supported size that is not larger than ``size``, at least 4."""
    return max((base << n for base in _BASES for n in range(size.bit_length()) if base << n <= size), default=4)


def advice(size: int) -> str:
    """Return what to say about a size that no network supports; "" if there are networks for it."""
    if is_trainable(size):
        return ""
    below = largest_trainable(size)
    above = min(base << n for base in _BASES for n in range(size.bit_length()) if base << n > size)
    return (
        f"images of {size} x {size} cannot be trained on: networks support sizes such as 32, 48, 64, 96 and 128; set "
        f"--size {below} or --size {above}"
    )
