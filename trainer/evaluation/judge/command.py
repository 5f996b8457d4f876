"""``python -m trainer judge SHARDS``: how well a judge sees each attribute of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.core import cli
from shards.core.atomic_io import vacant
from shards.core.cli import argument, option
from shards.dataset.dataset import Dataset
from trainer.evaluation.judge.judge import judge_of
from trainer.evaluation.metrics.fidelity import AttributeFidelity, Fidelity, weakness

_SHOWN = 5  # values of an attribute that are named
_WELL = 0.9


@dataclass(frozen=True)
class JudgeOptions:
    """Train a judge of a data set's labels (or take the one that was kept), and say how far it can be believed."""

    shards: str = argument("data set directory, or its URL")
    out: Path | None = option(None, "new folder to write the judge into, beside the one that is kept")
    seed: int = option(0, "decides which pictures are held out, and how it learns", minimum=0)
    cache: Path | None = option(None, "folder for shards that lie elsewhere; ~/.cache/cgan-trainer/shards if not given")
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda", "mps"))

    def __post_init__(self) -> None:
        """Hold the values against their bounds."""
        cli.validate(self)


def main(argv: Sequence[str]) -> None:
    """`python -m trainer judge`.

    Raises:
        UserError: no data set, or none that can be judged; something lies at --out.
    """
    asked = cli.parse(JudgeOptions, argv, command="python -m trainer judge")
    out = vacant(asked.out) if asked.out is not None else None
    judge = judge_of(Dataset.open(asked.shards, cache=asked.cache), seed=asked.seed, device=asked.device)
    print("\n".join(table(judge.real)))
    if out is not None:
        judge.save(out)
        print(f"the judge: {out}")


def table(real: Fidelity) -> Iterator[str]:
    """The lines that say how well held-out real pictures are judged."""
    head = ("attribute", "values", "chance", "right", "balanced", "held out", "verdict")
    rows = [head, *map(_row, real.attributes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for name in real.wordless:
        yield f"{name}: numbers without words, of which nobody can see whether a picture has them"
    for attribute in real.attributes:
        if low := _badly_seen(attribute):
            yield f"{attribute.name}: least well seen are {low}"


def _row(attribute: AttributeFidelity) -> tuple[str, ...]:
    tally = attribute.tally
    if not tally.count:
        numbers = (f"{attribute.chance:.0%}", "-", "-", "0")
    else:
        low, high = attribute.balanced_interval
        balanced = f"{attribute.balanced:.1%} ({low:.0%} to {high:.0%})"
        numbers = (f"{attribute.chance:.0%}", f"{tally.share:.1%}", balanced, f"{tally.count:,}")
    return (attribute.name, str(len(attribute.values)), *numbers, weakness(attribute) or "judges it")


def _badly_seen(attribute: AttributeFidelity) -> str:
    """The values that are right in less than nine tenths, the worst first."""
    low = [(t.share, value, t) for value, t in attribute.by_value.items() if t.count and t.share < _WELL]
    return ", ".join(f"{value} ({t.right} of {t.count})" for _, value, t in sorted(low)[:_SHOWN])
