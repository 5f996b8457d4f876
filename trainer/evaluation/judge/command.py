"""`cgan judge DATASET`: train a judge, and show how well it recognises each attribute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.core import cli
from shards.core.atomic_io import require_unused
from shards.core.cli import argument, option, seed_option
from shards.dataset.dataset import Dataset
from trainer.evaluation.judge.judge import judge_of
from trainer.evaluation.metrics.label_accuracy import AttributeAccuracy, LabelAccuracy, reason_to_doubt

_MAX_VALUES = 5  # of an attribute that are listed as badly recognised
_WELL_RECOGNISED = 0.9


@dataclass(frozen=True)
class JudgeOptions:
    """Train a judge of a dataset's labels (or load the cached one), and show how far to trust it."""

    shards: str = argument("dataset directory or URL")
    out: Path | None = option(None, "new folder to write the judge to, in addition to the cache")
    seed: int = seed_option("determines which images are held out, and the training")
    cache: Path | None = option(None, "cache folder of remote shards (default: ~/.cache/cgan-trainer/shards)")
    device: str = option("auto", "compute device", choices=("auto", "cpu", "cuda", "mps"))

    def __post_init__(self) -> None:
        """Check the values."""
        cli.validate(self)


def main(argv: Sequence[str]) -> None:
    """Run `cgan judge`.

    Raises:
        UserError: there is no such dataset, or it cannot be judged; or --out exists.
    """
    options = cli.parse(JudgeOptions, argv, command="cgan judge")
    out = require_unused(options.out) if options.out is not None else None
    judge = judge_of(Dataset.open(options.shards, cache=options.cache), seed=options.seed, device=options.device)
    print("\n".join(table(judge.accuracy)))
    if out is not None:
        judge.save(out)
        print(f"judge written to {out}")


def table(accuracy: LabelAccuracy) -> Iterator[str]:
    """Yield the lines of a table of a judge's accuracy on held-out real images."""
    head = ("attribute", "values", "chance", "accuracy", "balanced", "held-out", "verdict")
    rows = [head, *map(_row, accuracy.attributes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for name in accuracy.wordless:
        yield f"{name}: numbers without words, which cannot be judged"
    for attribute in accuracy.attributes:
        if values := _badly_recognised(attribute):
            yield f"{attribute.name}: recognised least well: {values}"


def _row(attribute: AttributeAccuracy) -> tuple[str, ...]:
    tally = attribute.tally
    if not tally.count:
        numbers = (f"{attribute.chance:.0%}", "-", "-", "0")
    else:
        low, high = attribute.balanced_interval
        balanced = f"{attribute.balanced:.1%} ({low:.0%} to {high:.0%})"
        numbers = (f"{attribute.chance:.0%}", f"{tally.fraction:.1%}", balanced, f"{tally.count:,}")
    return (attribute.name, str(len(attribute.values)), *numbers, reason_to_doubt(attribute) or "trusted")


def _badly_recognised(attribute: AttributeAccuracy) -> str:
    """Return the values that are right in less than nine tenths, the worst first."""
    low = [
        (t.fraction, value, t) for value, t in attribute.by_value.items() if t.count and t.fraction < _WELL_RECOGNISED
    ]
    return ", ".join(f"{value} ({t.right} of {t.count})" for _, value, t in sorted(low)[:_MAX_VALUES])
