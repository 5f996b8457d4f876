"""Random numbers without a generator: each draw is an integer hash of what it is for.

``bits(key(seed, "noise"), position, channel)`` is the same number on every machine, in every process and
after every restart, because nothing is carried from one draw to the next. The functions use integer
operators only, so they serve numpy ``int64`` arrays and torch ``int64`` tensors (on any device) alike;
numpy does not promise its own generators' streams across versions, and this does.
"""

from __future__ import annotations

import zlib
from typing import Any

_LOW = 0xFFFFFFFF  # draws are 32-bit words, held in signed 64-bit integers


def mix(word: Any) -> Any:
    """A bijection of 32-bit words that scatters every bit over all others.

    The xorshift-multiply construction; both multipliers lie below 2³¹, so that the products of 32-bit
    words never leave a signed 64-bit integer.

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
    """The 32-bit key of one purpose under a seed: ``key(0, "noise")``, ``key(0, "order")``.

    Args:
        seed: any non-negative integer below 2⁶⁴.
        purpose: what the draws are for; draws of different purposes are unrelated.
    """
    word = mix(zlib.crc32(purpose.encode()))
    word = mix(word ^ (seed & _LOW))
    return mix(word ^ ((seed >> 32) & _LOW))


def bits(base: Any, position: Any, channel: Any = 0) -> Any:
    """32 random bits for each (position, channel) under a key.

    Args:
        base: what `key` returned (or an array of earlier draws, to draw on from them).
        position: int64 array or tensor, values in [0, 2⁶³): which picture of the stream.
        channel: int, or int64 array that broadcasts against ``position``: which of the picture's draws.

    Returns:
        int64, values in [0, 2³²), of the broadcast shape.
    """
    word = mix(base ^ (position & _LOW))
    word = mix(word ^ (position >> 32))
    # A second pass that depends on `word` twice: an xor alone would let equal pairs of draws recur.
    return mix((mix(word ^ channel) + word) & _LOW)


def below(limit: int, draw: Any) -> Any:
    """A 32-bit draw as an integer in [0, limit); the bias is at most limit / 2³²."""
    return (draw * limit) >> 32 if limit < 1 << 31 else draw % limit
