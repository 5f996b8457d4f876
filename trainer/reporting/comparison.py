"""Compare runs: `cgan compare runs/a runs/b`.

Prints one table of the options that differ and of the results. ``--out`` also writes it as a page with curves over
images seen and over training time, as an image of the curves, or as a CSV file.
"""

from __future__ import annotations

import csv
import io
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.core import cli, text_files
from shards.core.atomic_io import explain_disk_errors, write_bytes
from shards.core.cli import argument, option
from shards.core.errors import UserError
from trainer import metric_names
from trainer.config import Config
from trainer.generation import image_grid
from trainer.reporting import raster, svg
from trainer.reporting.curves import Curve, curves
from trainer.reporting.html_page import escape, page, table
from trainer.reporting.marks import explanations, symbols
from trainer.reporting.number_format import format_duration, format_option, format_value
from trainer.reporting.plot import Line, Plot
from trainer.reporting.run_report import require_run
from trainer.run import evaluation_file, metrics_file

_SUFFIXES = (".html", ".csv", ".png")
# Options that do not affect the result.
_IGNORED = {"run", "dry_run", "init_from"}
_IGNORED |= {f"wandb_{end}" for end in ("project", "entity", "group", "mode", "artifacts")}
# Keys of an image of runs that were not evaluated during training.
_MAIN_KEYS = (metric_names.LOSS_D, metric_names.LOSS_G, metric_names.SPREAD)
_MOST_KEYS = 6  # in an image


@dataclass(frozen=True)
class CompareOptions:
    """Compare runs: options that differ, newest metrics, evaluations and curves."""

    runs: tuple[str, ...] = argument("run directories")
    out: Path | None = option(
        None,
        "a .html file (table and curves), .png (curves) or .csv (table with one row per run); overwritten if it exists",
    )
    metrics: tuple[str, ...] = option(
        (), "keys of the curves, such as loss/d,samples/spread (default: all; in a .png the main ones)"
    )

    def __post_init__(self) -> None:
        """Check every value against its bounds."""
        cli.validate(self)


@dataclass
class Run:
    """Everything read from one run directory."""

    name: str
    config: dict[str, Any]
    images_seen: int = 0
    seconds: float = 0.0
    curves: dict[str, Curve] = field(default_factory=dict)  # over images seen
    timed: dict[str, Curve] = field(default_factory=dict)  # over minutes of training
    evaluation: tuple[int, dict[str, Any]] | None = None  # images seen, the newest evaluation


def main(argv: Sequence[str]) -> None:
    """Run `cgan compare`.

    Raises:
        UserError: a directory is not a run directory, or no run has a requested metric; nothing has been written.
    """
    options = cli.parse(CompareOptions, argv, command="cgan compare")
    if options.out is not None and options.out.suffix.lower() not in _SUFFIXES:
        raise UserError("invalid-output-name", f"--out {options.out}: give a name that ends in {', '.join(_SUFFIXES)}")
    runs = read_runs([Path(name) for name in options.runs])
    known = list(dict.fromkeys(key for run in runs for key in run.curves))
    if missing := next((key for key in options.metrics if key not in known), None):
        raise UserError(
            "unknown-metric",
            f"--metrics {missing}: no run has logged it; available are {', '.join(sorted(known)) or 'none'}",
        )
    rows = list(facts(runs))
    print(_terminal(runs, rows))
    if options.out is not None:
        _write(options.out, runs, rows, options.metrics)
        print(f"\n{options.out}")


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run directories, each once; runs whose directory names collide are named by their paths.

    Raises:
        UserError: one is not a run directory, or its files are damaged.
    """
    unique = list({folder.resolve(): folder for folder in folders}.values())
    names = [folder.resolve().name for folder in unique]
    collide = len(set(names)) < len(names)
    return [_read(folder, str(folder) if collide else name) for folder, name in zip(unique, names, strict=True)]


def _read(folder: Path, name: str) -> Run:
    require_run(folder)
    path = folder / "config.yaml"
    try:
        config = text_files.read_yaml(path)
    except (OSError, ValueError) as error:
        raise UserError("run-damaged", f"{path} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise UserError("run-damaged", f"{path} contains no options; give the --run directory of a training")
    run = Run(name, Config().to_dict() | config)  # options that did not exist yet had their default values
    run.curves = curves(metrics_file.rows(folder / "metrics.jsonl"))
    run.timed = curves(_over_time(folder / "metrics.jsonl", run))
    run.evaluation = evaluation_file.newest(folder)
    return run


def _over_time(path: Path, run: Run) -> Iterator[dict[str, float]]:
    """Yield rows with minutes of training instead of images seen, and update the run's totals.

    The time is computed from the logged speeds; it excludes sample grids, checkpoints, evaluations, and the time
    between a stop and a resume.
    """
    for row in metrics_file.rows(path):
        rate = row.get(metric_names.SPEED, math.nan)
        if rate > 0:
            run.seconds += (row[metric_names.CLOCK] - run.images_seen) / rate
            run.images_seen = int(row[metric_names.CLOCK])
        yield {**row, metric_names.CLOCK: run.seconds / 60}


# ---------------------------------------------------------------- the table


@dataclass(frozen=True)
class Fact:
    """A row of the table: one value per run (None if it has none), with that of real images, and `marks`, if any."""

    group: str
    name: str
    values: Sequence[Any]
    real: Sequence[float | None] = ()
    marks: Sequence[str] = ()

    def cell(self, run: int) -> str:
        """Return the text of one cell."""
        value = _cell(self.values[run]) + (self.marks[run] if self.marks else "")
        real = self.real[run] if self.real else None
        return f"{value} (real {format_value(real)})" if value and real is not None else value


def facts(runs: Sequence[Run]) -> Iterator[Fact]:
    """Yield all rows of the table: progress, options that differ, metrics, evaluations."""
    yield Fact("run", "images seen", [f"{run.images_seen:,}" for run in runs])
    yield Fact("run", "training time", [format_duration(run.seconds) if run.seconds else None for run in runs])
    for name in dict.fromkeys(name for run in runs for name in run.config):
        values = [run.config.get(name) for run in runs]
        if name not in _IGNORED and any(value != values[0] for value in values):
            yield Fact("option", str(name).replace("_", "-"), [format_option(value) for value in values])
    for key in sorted({key for run in runs for key in run.curves}):
        yield Fact("metric", key, [_newest(key, run.curves.get(key)) for run in runs])
    if any(run.evaluation for run in runs):
        entries = [run.evaluation[1] if run.evaluation else {} for run in runs]
        yield Fact("evaluation", "checkpoint", [run.evaluation and f"{run.evaluation[0]:,}" for run in runs])
        yield Fact("evaluation", "images", [entry.get("count") for entry in entries])
        names = [", ".join(each["name"] for each in evaluation_file.extractors(entry)) or None for entry in entries]
        yield Fact("evaluation", "extractor", names)
        learned = [_judged(entry) for entry in entries]
        if len(set(learned) - {None}) > 1:  # judges of different images do not err alike
            yield Fact("evaluation", "judge learned from", learned)
        figures, real = ([entry.get(part, {}) for entry in entries] for part in ("figures", "real"))
        for key in dict.fromkeys(key for each in figures for key in each):
            marks = [symbols(entry, key) for entry in entries]
            yield Fact("evaluation", key, [f.get(key) for f in figures], [r.get(key) for r in real], marks)
        explained = ["; ".join(explanations(entry)) or None for entry in entries]
        if any(explained):
            yield Fact("evaluation", "marks", explained)


def _judged(entry: Mapping[str, Any]) -> str | None:
    """Return which images the judge of an evaluation learned from; None without one."""
    judge = entry.get("judge")
    if not judge or "data" not in judge:
        return None
    part = "all images" if judge["data"] == entry.get("data") else "validation"
    return f"{part} ({judge['data'][:8]})"


def _newest(key: str, curve: Curve | None) -> float | None:
    """Return the last value of a curve, smoothed unless it is an evaluation: a row of metrics is of one batch."""
    if curve is None or not curve.x:
        return None
    return curve.mean[-1] if key.startswith(metric_names.EVALUATE) else curve.smooth()[-1]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else format_value(value) if math.isfinite(value) else "not finite"


def _terminal(runs: Sequence[Run], rows: Sequence[Fact]) -> str:
    """Return the table as plain text, one column per run, with an empty line between groups."""
    cells = [["", *(run.name for run in runs)]]
    cells += [[row.name, *(row.cell(i) for i in range(len(runs)))] for row in rows]
    room = max(24, (shutil.get_terminal_size().columns - 2) // (len(runs) + 1) - 2)
    cells = [[_cut(cell, room) for cell in line] for line in cells]
    widths = [max(len(line[i]) for line in cells) for i in range(len(runs) + 1)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    text, group = [lines[0]], ""
    for line, row in zip(lines[1:], rows, strict=True):
        text += [""] if row.group != group else []
        text.append(line)
        group = row.group
    return "\n".join(text)


def _cut(cell: str, room: int) -> str:
    return cell if len(cell) <= room else cell[: room - 1] + "…"


# ---------------------------------------------------------------- files


def _write(out: Path, runs: Sequence[Run], rows: Sequence[Fact], metrics: Sequence[str]) -> None:
    suffix = out.suffix.lower()
    with explain_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".csv":
        write_bytes(out, _csv(runs, rows).encode("utf-8", "replace"))
    elif suffix == ".html":
        write_bytes(out, _page(runs, rows, metrics).encode("utf-8", "replace"))
    else:
        plots = _plots(runs, metrics or _main_keys(runs))
        if not plots:
            raise UserError("no-metrics", f"--out {out}: no run has logged metrics yet")
        names = [run.name for run in runs]
        image_grid.save(raster.draw_plots(plots, names, 2), out, names)


def _csv(runs: Sequence[Run], rows: Sequence[Fact]) -> str:
    """Return one row per run and one column per fact; values of real images have columns of their own."""
    columns: list[tuple[str, Sequence[Any]]] = [("run", [run.name for run in runs])]
    columns += [("images seen", [run.images_seen for run in runs]), ("seconds", [run.seconds for run in runs])]
    for row in rows:
        if row.group != "run":
            columns.append((f"{row.group} {row.name}", row.values))
        if any(value is not None for value in row.real):
            columns.append((f"{row.group} {row.name} (real)", row.real))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    for number in range(len(runs)):
        writer.writerow(["" if values[number] is None else values[number] for _, values in columns])
    return text.getvalue()


def _page(runs: Sequence[Run], rows: Sequence[Fact], metrics: Sequence[str]) -> str:
    names = [run.name for run in runs]
    plots = _plots(runs, metrics or sorted({key for run in runs for key in run.curves}))
    head = '<th scope="col"></th>' + "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    sections = []
    for group in dict.fromkeys(row.group for row in rows):
        lines = "".join(_row(row, len(runs)) for row in rows if row.group == group)
        sections.append((_TITLES[group], table("options", head, lines)))
    for clock in dict.fromkeys(plot.clock for plot in plots):
        figures = "".join(svg.chart(plot, i) for i, plot in enumerate(plots) if plot.clock == clock)
        sections.append((f"Over {clock}", f'{svg.legend(names)}<div class="curves">{figures}</div>'))
    return page("Comparison of runs", [("Runs", ", ".join(names))], sections)


_TITLES = {"run": "Progress", "option": "Options that differ", "metric": "Newest metrics", "evaluation": "Evaluations"}


def _row(row: Fact, count: int) -> str:
    cells = "".join(f"<td>{escape(row.cell(i))}</td>" for i in range(count))
    return f'<tr><th scope="row">{escape(row.name)}</th>{cells}</tr>'


def _plots(runs: Sequence[Run], keys: Sequence[str]) -> list[Plot]:
    """Return two plots per key, over images seen and over training time, of the runs that have logged it."""
    clocks = {"images seen": [run.curves for run in runs], "minutes of training": [run.timed for run in runs]}
    found = []
    for key in keys:
        for clock, each in clocks.items():
            drawn = [(i, curve) for i, of_run in enumerate(each) if (curve := of_run.get(key)) and curve.x]
            lines = [Line(runs[i].name, i, curve.x, curve.smooth()) for i, curve in drawn]
            found += [Plot(key, clock, lines)] if lines else []
    return found


def _main_keys(runs: Sequence[Run]) -> list[str]:
    """Return the keys of an image: evaluations during training, or else losses and batch diversity."""
    known = sorted({key for run in runs for key in run.curves})
    evaluated = [key for key in known if key.startswith(metric_names.EVALUATE)]
    return (evaluated or [key for key in _MAIN_KEYS if key in known] or known)[:_MOST_KEYS]
