"""How a run samples a dataset: full or windowed order, fraction of unlabelled images, balance over an attribute.

Turns these options into an `order.Order` for one dataset, and describes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from shards.core import rng
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.stream.order import Mixed, Order, Shuffled, Windowed, bounds_among

ORDERS = ("full", "windowed")
_MAX_WEIGHT = 64  # at most so many positions per value in a cycle, to approximate the natural fraction of unknown ones
_BALANCED_KINDS = ("exclusive", "tag")


@dataclass(frozen=True)
class Sampling:
    """The options that determine the order, besides the seed.

    Attributes:
        order: "full" (an epoch is one shuffle) or "windowed" (few shards in use at a time).
        window: shards that are shuffled together, if windowed.
        unlabelled_fraction: fraction of unlabelled images in each global batch, in [0, 1); None: natural proportion.
        balance: name of an attribute whose values are drawn equally often.
    """

    order: str = "full"
    window: int = 16
    unlabelled_fraction: float | None = None
    balance: str | None = None


def build_order(dataset: Dataset, sampling: Sampling, batch: int, seed: int) -> Order:
    """Return the order in which samples of a dataset are drawn.

    Args:
        batch: samples in a global batch; the fraction of unlabelled images holds in each.

    Raises:
        UserError: the dataset lacks what ``sampling`` needs: the attribute, unlabelled images, sorted shards.
    """
    builder = _OrderBuilder(dataset, sampling, seed)
    if sampling.unlabelled_fraction is None and sampling.balance is None:
        return builder.simple("order", None)
    return builder.mixed(batch)


def describe(order: Order, sampling: Sampling, dataset: Dataset, batch: int) -> str:
    """Return one line for the start of a log: the order, the composition of batches, and the true epoch length."""
    words = [sampling.order + (f", {sampling.window} shards at a time" if sampling.order == "windowed" else "")]
    if sampling.unlabelled_fraction is not None:
        words.append(f"{_unlabelled_count(sampling.unlabelled_fraction, batch)} of each {batch} images unlabelled")
    if sampling.balance is not None:
        words.append(f"balanced by {sampling.balance}")
    if len(words) > 1:
        epoch = order.epoch_length()
        most = max(epoch * fraction / samples for samples, fraction in order.components())
        left_out = len(dataset) - sum(samples for samples, _ in order.components())
        words.append(f"every image is shown at least once in {epoch:,} images, some up to {most:.1f} times")
        words += [f"{left_out:,} images left out"] if left_out else []
    return "; ".join(words)


def check_cache(order: Order, sampling: Sampling, dataset: Dataset, limit: int) -> None:
    """Check that the shards in use at a time fit in the cache: this window, the next one and one shard to spare.

    Args:
        limit: size of the cache in bytes.

    Raises:
        UserError: they may not fit; the message suggests a larger cache or a smaller window.
    """
    if not dataset.remote or sampling.order != "windowed":
        return
    parts = len(order.components())
    # Index and labels stay in the cache for as long as the dataset is open.
    largest = dataset.sidecar_bytes + np.cumsum(np.sort(dataset.shard_bytes)[::-1])
    needed = int(largest[min(len(largest), parts * (2 * sampling.window) + 1) - 1])
    if needed <= limit:
        return
    fits = (int(np.searchsorted(largest, limit, side="right")) - 1) // (2 * parts)
    smaller = f", or use --window {fits}" if fits > 0 else ""
    raise UserError(
        "cache-too-small",
        f"--window {sampling.window} may need {needed / 1e9:,.2f} GB of cache for shards, index and labels, and "
        f"--cache-limit allows {limit / 1e9:,.2f} GB; raise --cache-limit{smaller}",
    )


class _OrderBuilder:
    """Builds orders over parts of one dataset."""

    def __init__(self, dataset: Dataset, sampling: Sampling, seed: int) -> None:
        if sampling.order not in ORDERS:
            raise UserError("invalid-value", f"--order {sampling.order!r} is not one of {', '.join(ORDERS)}")
        self.dataset, self.sampling, self.seed = dataset, sampling, seed

    def simple(self, purpose: str, ids: np.ndarray | None) -> Order:
        """Return an order with each of some samples (all if None) once per epoch."""
        key = rng.key(self.seed, purpose)
        if self.sampling.order == "full":
            return Shuffled(key, len(self.dataset) if ids is None else len(ids), ids)
        bounds = self.dataset.shard_bounds
        return Windowed(key, bounds if ids is None else bounds_among(bounds, ids), self.sampling.window, ids)

    def mixed(self, batch: int) -> Order:
        """Return labelled and unlabelled samples in the wanted proportion, the labelled ones balanced if wanted."""
        fraction = self.sampling.unlabelled_fraction
        if fraction is None:
            return self.balanced(np.arange(len(self.dataset), dtype=np.int64))
        is_labelled = np.array(self.dataset.known).any(axis=1)
        labelled, unlabelled = np.flatnonzero(is_labelled), np.flatnonzero(~is_labelled)
        count = _unlabelled_count(fraction, batch)
        self._check_fraction(fraction, len(labelled), len(unlabelled), count, batch)
        balanced = self.sampling.balance is not None
        inner = self.balanced(labelled) if balanced else self.simple("order of the labelled", labelled)
        if not count:
            return inner
        outer = rng.key(self.seed, "places of the unlabelled")
        return Mixed(outer, (batch - count, count), (inner, self.simple("order of the unlabelled", unlabelled)))

    def _check_fraction(self, fraction: float, labelled: int, unlabelled: int, count: int, batch: int) -> None:
        if fraction and not 0 < count < batch:
            raise UserError(
                "invalid-value",
                f"--unlabelled-share {fraction} of --batch {batch} is {count} images; "
                f"use a value from {1 / batch:.3g} to {(batch - 1) / batch:.3g}, or 0",
            )
        if not labelled or (count and not unlabelled):
            missing = "labelled" if not labelled else "unlabelled"
            raise UserError(
                f"no-{missing}-images",
                f"--unlabelled-share {fraction}: {self.dataset.where} contains no {missing} images; omit the option",
            )

    def balanced(self, ids: np.ndarray) -> Order:
        """Return an order with each value of the attribute equally often, and unknown ones in natural proportion."""
        values, unknown = self._by_value(ids)
        parts = [(name, group) for name, group in values if len(group)]
        if len(parts) < 2:
            found = f"its only value is {parts[0][0]!r}" if parts else "no value is known"
            raise UserError(
                "nothing-to-balance",
                f"--balance {self.sampling.balance}: {found} among these images, so there is nothing to balance; "
                "omit the option",
            )
        weights = [1] * len(parts)
        if len(unknown):
            natural = Fraction(len(unknown) * len(parts), len(ids) - len(unknown))
            ratio = natural.limit_denominator(_MAX_WEIGHT) or Fraction(1, round(1 / natural))
            weights = [ratio.denominator] * len(parts) + [ratio.numerator]
            parts.append(("", unknown))
        orders = tuple(self.simple(f"order of {self.sampling.balance}: {name}", group) for name, group in parts)
        return Mixed(rng.key(self.seed, f"places of {self.sampling.balance}"), tuple(weights), orders)

    def _by_value(self, ids: np.ndarray) -> tuple[list[tuple[str, np.ndarray]], np.ndarray]:
        """Return the samples with each value of the attribute, and those for which it is unknown."""
        schema = self.dataset.schema
        names = [a.name for a in schema.attributes if a.kind in _BALANCED_KINDS]
        if self.sampling.balance not in names:
            available = f"available: {', '.join(names)}" if names else "the dataset has none with values"
            raise UserError(
                "unknown-attribute", f"--balance {self.sampling.balance}: no such attribute with values; {available}"
            )
        number = [a.name for a in schema.attributes].index(self.sampling.balance)
        attribute, start = schema.attributes[number], int(schema.starts[number])
        entries = np.asarray(self.dataset.labels[ids, start : start + attribute.width]) > 0.5
        known = np.asarray(self.dataset.known[ids, number])
        groups = [(value, ids[known & entries[:, v]]) for v, value in enumerate(attribute.values)]
        if attribute.kind == "tag":
            groups.append((f"no {attribute.values[0]}", ids[known & ~entries[:, 0]]))
        else:
            known = known & entries.any(axis=1)
        return groups, ids[~known]


def _unlabelled_count(fraction: float, batch: int) -> int:
    """Return how many images of a global batch are unlabelled."""
    return round(fraction * batch)


def check_division(batch: int, world: int, accumulate: int) -> None:
    """Check that the batch divides evenly over ranks and accumulation steps.

    Raises:
        UserError: it does not; the message names the nearest sizes that do.
    """
    parts = world * accumulate
    if batch % parts:
        below, above = batch // parts * parts, (batch // parts + 1) * parts
        near = f"{below} or {above}" if below else str(above)
        raise UserError(
            "batch-not-divisible",
            f"--batch {batch} is not divisible by {world} processes x {accumulate} accumulation steps; use {near}",
        )
