"""Which sample is at which position of the endless stream.

Pure numpy, without files, ranks or workers. An *order* maps positions of an endless stream to samples, so a rank, a
worker or a resumed run computes its part in O(1) time and memory, at any position and for any size of dataset.
`Shuffled` and `Windowed` show each of their samples once per epoch; `Mixed` interleaves orders, also mixed ones, in
fixed proportions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from shards.core import rng
from shards.core.permutation import permute

_EPOCHS_KEPT = 3  # a batch may cross the end of an epoch, and workers are a little ahead


class Component(NamedTuple):
    """A part of an order that is shuffled separately: its number of samples, and its fraction of the positions."""

    samples: int
    fraction: float


class Order(Protocol):
    """Samples for the positions of an endless stream."""

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return the samples at ``positions`` (int64, ≥ 0): int64 of the same shape (n,)."""
        ...

    def epoch_length(self) -> int:
        """Return the number of positions after which every sample has been shown."""
        ...

    def components(self) -> list[Component]:
        """Return the parts that are shuffled separately; their fractions add up to 1."""
        ...

    def shards_in_use(self, positions: np.ndarray) -> list[int]:
        """Return the shards needed at ``positions`` and soon after, the most urgent first; empty if any may be."""
        ...


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Every sample once per epoch; each epoch is a new permutation.

    Attributes:
        key: 32 bits that decide the order.
        n: number of samples.
        ids: int64 (n,), the samples; ``range(n)`` if None.
    """

    key: int
    n: int
    ids: np.ndarray | None = None

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        epoch, place = np.divmod(positions, self.n)
        chosen = permute(rng.bits(self.key, epoch), self.n, place)
        return chosen if self.ids is None else self.ids[chosen]

    def epoch_length(self) -> int:
        return self.n

    def components(self) -> list[Component]:
        return [Component(self.n, 1.0)]

    def shards_in_use(self, positions: np.ndarray) -> list[int]:
        return []


class _Epoch(NamedTuple):
    """One epoch of a windowed order; S shards in this epoch's order, and W windows."""

    shards: np.ndarray  # int64 (S,)
    ends: np.ndarray  # int64 (S + 1,), samples before each shard
    windows: np.ndarray  # int64 (W + 1,), samples before each window


@dataclass(frozen=True, eq=False)
class Windowed:
    """Every sample once per epoch, with few shards in use at a time.

    Each epoch shuffles the shards, takes ``window`` of them at a time, and shuffles the samples of these. The table of
    an epoch costs O(S), and a position in it O(log S).

    Attributes:
        key: 32 bits that decide the order.
        bounds: int64 (S + 1,): shard s holds the samples bounds[s] to bounds[s + 1].
        window: shards that are shuffled together, at least 1.
        ids: int64, ascending, the samples; all if None. Otherwise ``bounds`` count among these (see `bounds_among`).
    """

    key: int
    bounds: np.ndarray
    window: int
    ids: np.ndarray | None = None
    _epochs: dict[int, _Epoch] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        epochs, place = np.divmod(positions, self.epoch_length())
        chosen = np.empty_like(place)
        for epoch in np.unique(epochs).tolist():
            inside = epochs == epoch
            chosen[inside] = self._in_epoch(epoch, place[inside])
        return chosen if self.ids is None else self.ids[chosen]

    def _in_epoch(self, number: int, place: np.ndarray) -> np.ndarray:
        """Return the samples at some places of an epoch."""
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

    def epoch_length(self) -> int:
        return int(self.bounds[-1])

    def components(self) -> list[Component]:
        return [Component(self.epoch_length(), 1.0)]

    def shards_in_use(self, positions: np.ndarray) -> list[int]:
        found: dict[int, None] = {}
        for ahead in (False, True):
            for position in (int(positions.min()), int(positions.max())):
                found |= dict.fromkeys(self._window(position, ahead))
        return list(found)

    def _window(self, position: int, ahead: bool) -> Iterator[int]:
        """Return the non-empty shards of the window at a position, or of the window after it."""
        number, place = divmod(position, self.epoch_length())
        epoch = self._epoch(number)
        window = int(np.searchsorted(epoch.windows, place, side="right")) - 1 + ahead
        if epoch.windows[window] >= self.epoch_length():  # after the last window with samples
            epoch, window = self._epoch(number + 1), 0
        turns = slice(window * self.window, (window + 1) * self.window)
        filled = np.diff(epoch.ends)[turns] > 0
        return iter(epoch.shards[turns][filled].tolist())


def bounds_among(bounds: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the bounds (S + 1,) of each shard's samples among a subset ``ids`` (ascending) of all samples."""
    return np.searchsorted(ids, bounds).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Mixed:
    """Several orders, each with a fixed number of positions in every cycle, scattered over the cycle by a key.

    Every sample of part k is shown once in each epoch of that part, which continues from cycle to cycle.

    Attributes:
        key: 32 bits that decide where in a cycle each part's positions are.
        weights: positions of each part in a cycle of sum(weights), each at least 1.
        parts: the orders.
    """

    key: int
    weights: tuple[int, ...]
    parts: tuple[Order, ...]

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        chosen = np.empty_like(positions)
        for part, inside, inner in self._split(positions):
            chosen[inside] = part(inner)
        return chosen

    def _split(self, positions: np.ndarray) -> Iterator[tuple[Order, np.ndarray, np.ndarray]]:
        """Yield (part, mask of its positions, their positions within the part) for each part that has any."""
        cycle, slot = np.divmod(positions, sum(self.weights))
        slot = permute(rng.bits(self.key, cycle), sum(self.weights), slot)
        start = 0
        for part, weight in zip(self.parts, self.weights, strict=True):
            inside = (slot >= start) & (slot < start + weight)
            if inside.any():
                yield part, inside, cycle[inside] * weight + slot[inside] - start
            start += weight

    def epoch_length(self) -> int:
        cycles = max(-(-part.epoch_length() // weight) for part, weight in zip(self.parts, self.weights, strict=True))
        return cycles * sum(self.weights)

    def components(self) -> list[Component]:
        total = sum(self.weights)
        return [
            Component(samples, fraction * weight / total)
            for part, weight in zip(self.parts, self.weights, strict=True)
            for samples, fraction in part.components()
        ]

    def shards_in_use(self, positions: np.ndarray) -> list[int]:
        shards = (shard for part, _, inner in self._split(positions) for shard in part.shards_in_use(inner))
        return list(dict.fromkeys(shards))


def replacement_candidates(seed: int, position: int, shard: range, n: int, count: int = 32) -> np.ndarray:
    """Return samples that may replace a damaged one at a position, to be tried one after another.

    Args:
        shard: the samples of the damaged one's shard, from which the first half is drawn.
        n: samples of the dataset, from which the other half is drawn.

    Returns:
        int64 (count,), values in [0, n).
    """
    draws = rng.bits(rng.key(seed, "substitute"), position, np.arange(count, dtype=np.int64))
    near = shard.start + rng.below(len(shard), draws)
    return np.where(np.arange(count) < count // 2, near, rng.below(n, draws))
