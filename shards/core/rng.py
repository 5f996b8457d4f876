"""A counter-based random number generator: each draw is an integer hash of its key, position and channel.

``bits(key(seed, "noise"), position, channel)`` is the same number on every machine, in every process and after every
restart, because there is no state. The functions use integer operators only, so they accept numpy ``int64`` arrays and
torch ``int64`` tensors on any device. Unlike the streams of numpy's generators, its numbers do not depend on a version.
"""

from __future__ import annotations

import zlib
from typing import Any

LARGEST_SEED = 2**63 - 1  # of an option: a signed 64-bit integer, as in torch and numpy
_LOW = 0xFFFFFFFF  # draws are 32-bit words, held in signed 64-bit integers


def mix(word: Any) -> Any:
    """Apply a bijection of 32-bit words in which every input bit affects every output bit.

    An xorshift-multiply construction; both multipliers are below 2³¹, so the products of 32-bit words fit in signed
    64-bit integers.

    Args:
        word: int, numpy int64 array or torch int64 tensor, values in [0, 2³²).

    Returns:
        The same kind and shape, values in [0, 2³²).
    """
    word = word ^ (word >> 16)
    word = (word * 0x21F0AAAD) & _LOW
    word = word ^ (word >> 15)
    word = (word * 0x735A2D97) & _LOW
    return word ^ (word >> 15)


def key(seed: int, purpose: str) -> int:
    """Return the 32-bit key of one purpose under a seed: ``key(0, "noise")``, ``key(0, "order")``.

    Args:
        seed: any non-negative integer below 2⁶⁴; options take up to `LARGEST_SEED`.
        purpose: what the draws are for; draws for different purposes are independent.
    """
    word = mix(zlib.crc32(purpose.encode()))
    word = mix(word ^ (seed & _LOW))
    return mix(word ^ ((seed >> 32) & _LOW))


def bits(base: Any, position: Any, channel: Any = 0) -> Any:
    """Return 32 random bits for each (position, channel) under a key.

    Args:
        base: the result of `key`, or an array of earlier draws to derive further draws from.
        position: int64 array or tensor, values in [0, 2⁶³): which sample of the stream.
        channel: int, or int64 array that broadcasts against ``position``: which of the sample's draws.

    Returns:
        int64, values in [0, 2³²), of the broadcast shape.
    """
    word = mix(base ^ (position & _LOW))
    word = mix(word ^ (position >> 32))
    # A second pass that depends on `word` twice: with an xor alone, equal pairs of draws would recur.
    return mix((mix(word ^ channel) + word) & _LOW)


def below(limit: int, draw: Any) -> Any:
    """Map a 32-bit draw to an integer in [0, limit); the bias is at most limit / 2³²."""
    return (draw * limit) >> 32 if limit < 1 << 31 else draw % limit
