"""Which sample stands at which position of the endless stream, and which wrong label goes with it.

Pure numpy. Nothing here knows of files, ranks or workers. An *order* maps places of an endless stream to sample
ids, so a rank, a worker or a resumed run works out its own share in O(1) time and memory, at any position of any
length of data set. `Shuffled` and `Windowed` show each of their samples once an epoch; `Mixed` interleaves orders
at fixed shares, and nests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from shards.core import rng
from shards.core.permutation import permute

_EPOCHS_KEPT = 3  # a batch crosses the end of one epoch, and workers run a little ahead


# ---------------------------------------------------------------- orders


class Share(NamedTuple):
    """A part of an order: how many samples it shuffles, and how many of the stream's places are its own."""

    samples: int
    share: float


class Order(Protocol):
    """Sample ids for places of an endless stream."""

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """int64 ids at int64 places ≥ 0, of the same shape (n,)."""
        ...

    def epoch(self) -> int:
        """How many places it takes until every sample has stood at one of them."""
        ...

    def shares(self) -> list[Share]:
        """The parts that are shuffled each for itself; their shares add up to 1."""
        ...

    def shards(self, index: np.ndarray) -> list[int]:
        """Shards in use at these places and soon after, the most urgent first; none if it may be any."""
        ...


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Every sample once an epoch, each epoch in another order.

    Attributes:
        key: 32 bits that decide the order.
        n: how many samples.
        ids: int64 (n,), which samples; ``range(n)`` if None.
    """

    key: int
    n: int
    ids: np.ndarray | None = None

    def __call__(self, index: np.ndarray) -> np.ndarray:
        epoch, place = np.divmod(index, self.n)
        chosen = permute(rng.bits(self.key, epoch), self.n, place)
        return chosen if self.ids is None else self.ids[chosen]

    def epoch(self) -> int:
        return self.n

    def shares(self) -> list[Share]:
        return [Share(self.n, 1.0)]

    def shards(self, index: np.ndarray) -> list[int]:
        return []


class _Epoch(NamedTuple):
    """One epoch of a windowed order; the shards stand in their order of this epoch."""

    shards: np.ndarray  # int64 (S,)
    ends: np.ndarray  # int64 (S + 1,), samples before each of them
    windows: np.ndarray  # int64 (W + 1,), samples before each window


@dataclass(frozen=True, eq=False)
class Windowed:
    """Every sample once an epoch, with few shards in use at a time.

    Each epoch shuffles the shards, takes ``window`` of them at a time, and shuffles the samples of those. Working
    out an epoch costs O(S), and a place in it O(log S).

    Attributes:
        key: 32 bits that decide the order.
        bounds: int64 (S + 1,): the samples of shard s are bounds[s] to bounds[s + 1].
        window: shards that are shuffled together, at least 1.
        ids: int64, ascending, which samples; all if None. Then ``bounds`` count among these (`bounds_of`).
    """

    key: int
    bounds: np.ndarray
    window: int
    ids: np.ndarray | None = None
    _epochs: dict[int, _Epoch] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        epochs, place = np.divmod(index, self.epoch())
        chosen = np.empty_like(place)
        for epoch in np.unique(epochs).tolist():
            inside = epochs == epoch
            chosen[inside] = self._at(epoch, place[inside])
        return chosen if self.ids is None else self.ids[chosen]

    def _at(self, number: int, place: np.ndarray) -> np.ndarray:
        epoch = self._epoch(number)
        window = np.searchsorted(epoch.windows, place, side="right") - 1
        start = epoch.windows[window]
        key = rng.bits(rng.bits(self.key, number, 1), window)
        place = start + permute(key, epoch.windows[window + 1] - start, place - start)
        turn = np.searchsorted(epoch.ends, place, side="right") - 1
        return self.bounds[epoch.shards[turn]] + place - epoch.ends[turn]

    def _epoch(self, number: int) -> _Epoch:
        epoch = self._epochs.get(number)
        if epoch is None:
            count = len(self.bounds) - 1
            shards = permute(rng.bits(self.key, number), count, np.arange(count, dtype=np.int64))
            ends = np.concatenate([[0], np.cumsum(np.diff(self.bounds)[shards])])
            epoch = _Epoch(shards, ends, np.append(ends[: -1 : self.window], ends[-1]))
            while len(self._epochs) >= _EPOCHS_KEPT:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[number] = epoch
        return epoch

    def epoch(self) -> int:
        return int(self.bounds[-1])

    def shares(self) -> list[Share]:
        return [Share(self.epoch(), 1.0)]

    def shards(self, index: np.ndarray) -> list[int]:
        found: dict[int, None] = {}
        for ahead in (False, True):
            for place in (int(index.min()), int(index.max())):
                found |= dict.fromkeys(self._window(place, ahead))
        return list(found)

    def _window(self, index: int, ahead: bool) -> Iterator[int]:
        """The shards of the window at a place, or of the window after it, that hold samples."""
        number, place = divmod(index, self.epoch())
        epoch = self._epoch(number)
        window = int(np.searchsorted(epoch.windows, place, side="right")) - 1 + ahead
        if epoch.windows[window] >= self.epoch():  # what comes after the last window with samples
            epoch, window = self._epoch(number + 1), 0
        turns = slice(window * self.window, (window + 1) * self.window)
        filled = np.diff(epoch.ends)[turns] > 0
        return iter(epoch.shards[turns][filled].tolist())


def bounds_of(bounds: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The bounds (S + 1,) of each shard's samples among some of them, ``ids`` (ascending)."""
    return np.searchsorted(ids, bounds).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Mixed:
    """Several orders, each with a fixed number of places in every cycle, scattered over it by a key.

    Every sample of part k stands once in each epoch of that part, which goes on from cycle to cycle.

    Attributes:
        key: 32 bits that decide where in a cycle each part's places are.
        weights: places of each part in a cycle of sum(weights), each at least 1.
        parts: the orders.
    """

    key: int
    weights: tuple[int, ...]
    parts: tuple[Order, ...]

    def __call__(self, index: np.ndarray) -> np.ndarray:
        chosen = np.empty_like(index)
        for part, inside, inner in self._split(index):
            chosen[inside] = part(inner)
        return chosen

    def _split(self, index: np.ndarray) -> Iterator[tuple[Order, np.ndarray, np.ndarray]]:
        """The parts that have places among these: which, and how many the part had before each."""
        cycle, slot = np.divmod(index, sum(self.weights))
        slot = permute(rng.bits(self.key, cycle), sum(self.weights), slot)
        start = 0
        for part, weight in zip(self.parts, self.weights, strict=True):
            inside = (slot >= start) & (slot < start + weight)
            if inside.any():
                yield part, inside, cycle[inside] * weight + slot[inside] - start
            start += weight

    def epoch(self) -> int:
        cycles = max(-(-part.epoch() // weight) for part, weight in zip(self.parts, self.weights, strict=True))
        return cycles * sum(self.weights)

    def shares(self) -> list[Share]:
        total = sum(self.weights)
        return [
            Share(samples, share * weight / total)
            for part, weight in zip(self.parts, self.weights, strict=True)
            for samples, share in part.shares()
        ]

    def shards(self, index: np.ndarray) -> list[int]:
        return list(dict.fromkeys(shard for part, _, inner in self._split(index) for shard in part.shards(inner)))


# ---------------------------------------------------------------- replacements of damaged samples


def substitutes(seed: int, position: int, shard: range, n: int, candidates: int = 32) -> np.ndarray:
    """Which samples may stand in, one after another, for a damaged one at a position.

    Args:
        shard: the sample ids of the damaged one's own shard, from which the first half is drawn.
        n: samples of the data set, from which the others are drawn.

    Returns:
        int64 (candidates,), values in [0, n).
    """
    draws = rng.bits(rng.key(seed, "substitute"), position, np.arange(candidates, dtype=np.int64))
    near = shard.start + rng.below(len(shard), draws)
    return np.where(np.arange(candidates) < candidates // 2, near, rng.below(n, draws))
