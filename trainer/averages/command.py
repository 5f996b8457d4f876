"""The command `cgan ema RUN --length 0.07`: rebuild averages of a run's generator after its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.core import cli
from shards.core.atomic_io import require_unused, write_json
from shards.core.cli import argument, option, seed_option
from shards.core.errors import UserError
from trainer.averages import rebuild
from trainer.averages.profiles import LONGEST
from trainer.averages.rebuild import SavedAverages

_METRICS = ("fidelity", "fid", "kid")
_SHORTEST = 0.005
_OF_EVALUATIONS = ("best_by", "count", "seed", "shards", "device")


@dataclass(frozen=True)
class EmaOptions:
    """Rebuild averages of any length from the snapshots of a run that was trained with --ema-snapshots."""

    run: Path = argument("run directory")
    length: float | None = option(
        None,
        "standard deviation of the times that the average covers, as a fraction of the images seen",
        minimum=_SHORTEST,
        maximum=LONGEST,
    )
    lengths: tuple[float, ...] = option(
        (), "several lengths to evaluate, of which the best is kept (default: none)", minimum=_SHORTEST, maximum=LONGEST
    )
    best_by: str = option("fid", "metric that chooses among --lengths", choices=_METRICS)
    at: int | None = option(None, "images seen of the snapshot to rebuild at (default: the newest)", minimum=1)
    out: Path | None = option(
        None, "new run directory to write the average to (default: RUN/ema/LENGTH, which may exist)"
    )
    count: int = option(5000, "number of images to generate for each of --lengths", minimum=16)
    seed: int = seed_option("determines what the evaluations generate and compare with")
    shards: str | None = option(None, "dataset of the run (default: where it was during training)", literal=True)
    device: str = option("auto", "compute device of the evaluations", choices=("auto", "cpu", "cuda", "mps"))

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: a value is out of bounds, there is not exactly one of --length and --lengths, or an option of
                the evaluations has no effect.
        """
        cli.validate(self)
        if (self.length is None) == (not self.lengths):
            code = "option-missing" if self.length is None else "option-conflict"
            raise UserError(code, "give either --length, such as 0.07, or --lengths, such as 0.02,0.05,0.1,0.15")
        if self.length is not None:
            self._check_no_evaluation()

    def _check_no_evaluation(self) -> None:
        for name in _OF_EVALUATIONS:
            if getattr(self, name) != getattr(EmaOptions, name):
                raise UserError(
                    "option-without-effect",
                    f"{cli.flag(name)}: --length evaluates nothing; use --lengths with several, or `cgan evaluate` "
                    "afterwards",
                )


def main(argv: Sequence[str]) -> None:
    """Run `cgan ema`.

    Raises:
        UserError: the run has no such snapshots, or they cannot express a length; nothing has been written.
    """
    options = cli.parse(EmaOptions, argv, command="cgan ema")
    out = None if options.out is None else require_unused(options.out)
    averages = rebuild.open_averages(options.run, options.at)
    lengths = options.lengths if options.length is None else (options.length,)
    for length in lengths:
        averages.fit(length)  # all are checked before the first evaluation, which takes minutes
    length = lengths[0] if options.length is not None else _best(options, averages)
    out = out or rebuild.directory_of(options.run, length)
    saved = rebuild.write(averages, length, out)
    print(f'average of length {length:g} at {saved.images_seen:,} images: {out}; try `cgan sample {out} "anything"`')


def _best(options: EmaOptions, averages: SavedAverages) -> float:
    """Evaluate the average of each of --lengths, keep the results, and return the best length."""
    from trainer.evaluation.evaluate import evaluate
    from trainer.evaluation.metrics.registry import describe

    values: dict[float, float] = {}
    for length in options.lengths:
        out = rebuild.directory_of(options.run, length)
        rebuild.write(averages, length, out)
        evaluation = evaluate(
            out,
            count=options.count,
            metrics=(options.best_by,),
            seed=options.seed,
            shards=options.shards,
            device=options.device,
        )
        if options.best_by not in evaluation:
            raise UserError("metric-missing", f"--best-by {options.best_by}: {' '.join(evaluation.notes)}")
        values[length] = evaluation[options.best_by]
        print(f"length {length:g}: {options.best_by} {values[length]:.5g}")
    choose = min if describe(options.best_by).lower_is_better else max
    best = choose(values, key=values.__getitem__)
    content = {"images_seen": averages.moments[-1], "metric": options.best_by, "best": best, "values": values}
    write_json(options.run / "ema" / "best.json", content)
    return best
