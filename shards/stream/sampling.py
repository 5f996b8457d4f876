"""How a run draws from a data set: plain or windowed, with a quota of unlabelled pictures, balanced by an attribute.

What a person asks for, made into an `order.Order` for one data set, and put into words.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from shards.core import rng
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.stream.order import Mixed, Order, Shuffled, Windowed, bounds_of

ORDERS = ("full", "windowed")
_FINEST = 64  # places of each value in a cycle, at most, to give the unknown ones their natural share
_BALANCED = ("exclusive", "tag")


@dataclass(frozen=True)
class Sampling:
    """What decides the order, beside the seed.

    Attributes:
        order: "full" (an epoch is one shuffle) or "windowed" (few shards in use at a time).
        window: shards that are shuffled together; for "windowed".
        unlabelled_share: share of pictures without any label in each global batch, in [0, 1); None: as they come.
        balance: name of an attribute whose values come equally often.
    """

    order: str = "full"
    window: int = 16
    unlabelled_share: float | None = None
    balance: str | None = None


def order_of(dataset: Dataset, sampling: Sampling, batch: int, seed: int) -> Order:
    """The order of a data set's samples.

    Args:
        batch: samples of a global batch; the quota of unlabelled pictures holds in each.

    Raises:
        UserError: the data set does not have what is asked for: such an attribute, unlabelled pictures, sorted shards.
    """
    if sampling.unlabelled_share is None and sampling.balance is None:
        return _Leaves(dataset, sampling, seed).order("order", None)
    return _Leaves(dataset, sampling, seed).mixed(batch)


def describe(order: Order, sampling: Sampling, dataset: Dataset, batch: int) -> str:
    """One line for the start of a log: the order, the quota, and how long an epoch really is."""
    words = [sampling.order + (f", {sampling.window} shards at a time" if sampling.order == "windowed" else "")]
    if sampling.unlabelled_share is not None:
        words.append(f"{_quota(sampling.unlabelled_share, batch)} of each {batch} pictures unlabelled")
    if sampling.balance is not None:
        words.append(f"balanced by {sampling.balance}")
    if len(words) > 1:
        epoch = order.epoch()
        most = max(epoch * share / samples for samples, share in order.shares())
        left_out = len(dataset) - sum(samples for samples, _ in order.shares())
        words.append(f"every picture seen once after {epoch:,} images, the most repeated {most:.1f} times by then")
        words += [f"{left_out:,} pictures left out"] if left_out else []
    return "; ".join(words)


def check_cache(order: Order, sampling: Sampling, dataset: Dataset, limit: int) -> None:
    """Make sure that the shards in use at a time fit into the cache: this window's, the next one's and one to spare.

    Args:
        limit: bytes.

    Raises:
        UserError: they may not; the sentence says how large a cache, or how small a window, would do.
    """
    if not dataset.remote or sampling.order != "windowed":
        return
    parts = len(order.shares())
    # Index and labels stay in the cache for as long as the data set is open.
    largest = dataset.sidecar_bytes + np.cumsum(np.sort(dataset.shard_bytes)[::-1])
    needed = int(largest[min(len(largest), parts * (2 * sampling.window) + 1) - 1])
    if needed <= limit:
        return
    fits = (int(np.searchsorted(largest, limit, side="right")) - 1) // (2 * parts)
    smaller = f", or give --window {fits}" if fits > 0 else ""
    raise UserError(
        f"--window {sampling.window} may need {needed / 1e9:,.2f} GB at a time for shards, index and labels, and "
        f"--cache-limit allows {limit / 1e9:,.2f}; raise --cache-limit{smaller}"
    )


class _Leaves:
    """Orders over parts of one data set."""

    def __init__(self, dataset: Dataset, sampling: Sampling, seed: int) -> None:
        if sampling.order not in ORDERS:
            raise UserError(f"order: {sampling.order!r} is none of {', '.join(ORDERS)}")
        self.dataset, self.sampling, self.seed = dataset, sampling, seed

    def order(self, purpose: str, ids: np.ndarray | None) -> Order:
        """Each of some samples (all if None) once an epoch."""
        key = rng.key(self.seed, purpose)
        if self.sampling.order == "full":
            return Shuffled(key, len(self.dataset) if ids is None else len(ids), ids)
        bounds = self.dataset.shard_bounds
        return Windowed(key, bounds if ids is None else bounds_of(bounds, ids), self.sampling.window, ids)

    def mixed(self, batch: int) -> Order:
        """The quota outside, the balance inside it."""
        share = self.sampling.unlabelled_share
        if share is None:
            return self.balanced(np.arange(len(self.dataset), dtype=np.int64))
        labelled = np.array(self.dataset.known).any(axis=1)
        some, none = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        quota = _quota(share, batch)
        self._check_quota(len(some), len(none), quota, batch)
        inner = self.order("order of the labelled", some) if self.sampling.balance is None else self.balanced(some)
        if not quota:
            return inner
        outer = rng.key(self.seed, "places of the unlabelled")
        return Mixed(outer, (batch - quota, quota), (inner, self.order("order of the unlabelled", none)))

    def _check_quota(self, labelled: int, unlabelled: int, quota: int, batch: int) -> None:
        share = self.sampling.unlabelled_share or 0
        if share and not 0 < quota < batch:
            raise UserError(
                f"--unlabelled-share {share} of --batch {batch} is {quota} pictures; "
                f"give a share from {1 / batch:.3g} to {(batch - 1) / batch:.3g}, or 0"
            )
        if not labelled or (quota and not unlabelled):
            missing = "labelled" if not labelled else "unlabelled"
            raise UserError(
                f"--unlabelled-share {share}: {self.dataset.where} holds no {missing} pictures; leave it out"
            )

    def balanced(self, ids: np.ndarray) -> Order:
        """Each value of the attribute equally often; pictures where it is unknown about as often as they come."""
        values, unknown = self._by_value(ids)
        parts = [(name, group) for name, group in values if len(group)]
        if len(parts) < 2:
            raise UserError(
                f"--balance {self.sampling.balance}: {'only ' + parts[0][0] if parts else 'nothing'} is known of the "
                "pictures in this attribute, so there is nothing to balance; leave it out"
            )
        weights = [1] * len(parts)
        if len(unknown):
            natural = Fraction(len(unknown) * len(parts), len(ids) - len(unknown))
            ratio = natural.limit_denominator(_FINEST) or Fraction(1, round(1 / natural))
            weights = [ratio.denominator] * len(parts) + [ratio.numerator]
            parts.append(("", unknown))
        orders = tuple(self.order(f"order of {self.sampling.balance}: {name}", group) for name, group in parts)
        return Mixed(rng.key(self.seed, f"places of {self.sampling.balance}"), tuple(weights), orders)

    def _by_value(self, ids: np.ndarray) -> tuple[list[tuple[str, np.ndarray]], np.ndarray]:
        """The samples of each value of the attribute, and those in which it is unknown."""
        schema = self.dataset.schema
        names = [a.name for a in schema.attributes if a.kind in _BALANCED]
        if self.sampling.balance not in names:
            there = f"there are {', '.join(names)}" if names else "the data set has none with values"
            raise UserError(f"--balance {self.sampling.balance}: no such attribute with values; {there}")
        place = [a.name for a in schema.attributes].index(self.sampling.balance)
        attribute, start = schema.attributes[place], int(schema.starts[place])
        entries = np.asarray(self.dataset.labels[ids, start : start + attribute.width]) > 0.5
        known = np.asarray(self.dataset.known[ids, place])
        groups = [(value, ids[known & entries[:, v]]) for v, value in enumerate(attribute.values)]
        if attribute.kind == "tag":
            groups.append((f"no {attribute.values[0]}", ids[known & ~entries[:, 0]]))
        else:
            known = known & entries.any(axis=1)
        return groups, ids[~known]


def _quota(share: float, batch: int) -> int:
    """How many pictures of a global batch are unlabelled."""
    return round(share * batch)


def check_division(batch: int, world: int, accumulate: int) -> None:
    """Make sure that processes x accumulation divide the batch.

    Raises:
        UserError: they do not; the sentence names the nearest sizes that would do.
    """
    parts = world * accumulate
    if batch % parts:
        below, above = batch // parts * parts, (batch // parts + 1) * parts
        near = f"{below} or {above}" if below else str(above)
        raise UserError(
            f"--batch {batch} cannot be shared by {world} processes x {accumulate} accumulation steps; use {near}"
        )
