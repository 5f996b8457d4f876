"""Runs side by side: `python -m trainer compare runs/a runs/b`.

One table of what differs between them and of what came of it, on the terminal; the same with curves over images seen
and over training time as a page, the curves as a picture, or the table for a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shards.core import cli
from shards.core.atomic_io import explained, write_bytes
from shards.core.cli import argument, option
from shards.core.errors import UserError
from trainer import metric_names
from trainer.config import Config
from trainer.generation import image_grid
from trainer.reporting import raster
from trainer.reporting.curves import Curve, curves, escape, readable
from trainer.reporting.html_page import page, table
from trainer.reporting.raster import Line, Plot
from trainer.reporting.run_report import duration, shown
from trainer.run import evaluation_file, metrics_file

_KINDS = (".html", ".csv", ".png")
_NOT_OF_THE_METHOD = {"run", "dry_run", "init_from", "wandb_project", "wandb_entity", "wandb_group", "wandb_mode"}
_FIRST = (
    metric_names.LOSS_D,
    metric_names.LOSS_G,
    metric_names.SPREAD,
)  # what a picture shows where nothing was evaluated in training
_MOST = 6  # keys in a picture


@dataclass(frozen=True)
class CompareOptions:
    """Set runs side by side: the options that differ, the newest metrics, evaluations, and curves."""

    runs: tuple[str, ...] = argument("directories of runs")
    out: Path | None = option(
        None, "a .html file (table and curves), .png (curves) or .csv (table, a row a run); it is replaced"
    )
    metrics: tuple[str, ...] = option(
        (), "keys whose curves are drawn, like loss/d,samples/spread; all, or in a .png the main ones, if not given"
    )

    def __post_init__(self) -> None:
        """Hold the values against their bounds."""
        cli.validate(self)


@dataclass
class Run:
    """What is known of one run."""

    name: str
    config: dict[str, Any]
    images_seen: int = 0
    seconds: float = 0.0
    curves: dict[str, Curve] = field(default_factory=dict)  # over images seen
    timed: dict[str, Curve] = field(default_factory=dict)  # over minutes of training
    evaluated: tuple[int, dict[str, Any]] | None = None  # images seen, the newest evaluation


def main(argv: Sequence[str]) -> None:
    """`python -m trainer compare`.

    Raises:
        UserError: a directory is no run, or no run has what was asked for; nothing has been written.
    """
    asked = cli.parse(CompareOptions, argv, command="python -m trainer compare")
    if asked.out is not None and asked.out.suffix.lower() not in _KINDS:
        raise UserError(f"--out {asked.out}: give a name that ends in {', '.join(_KINDS)}")
    runs = read_runs([Path(name) for name in asked.runs])
    known = list(dict.fromkeys(key for run in runs for key in run.curves))
    if missing := next((key for key in asked.metrics if key not in known), None):
        raise UserError(f"--metrics: no run has logged {missing!r}; there are {', '.join(sorted(known)) or 'none'}")
    rows = list(facts(runs))
    print(_terminal(runs, rows))
    if asked.out is not None:
        _write(asked.out, runs, rows, asked.metrics)
        print(f"\n{asked.out}")


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in some folders, each once, by names that tell them apart.

    Raises:
        UserError: one is no run, or its files are damaged.
    """
    unique = list({folder.resolve(): folder for folder in folders}.values())
    names = [folder.resolve().name for folder in unique]
    alike = len(set(names)) < len(names)
    return [_read(folder, str(folder) if alike else name) for folder, name in zip(unique, names, strict=True)]


def _read(folder: Path, name: str) -> Run:
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is no run: it has no config.yaml; give the directory that a training wrote")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no options; give the directory that a training wrote")
    run = Run(name, Config().to_dict() | config)  # an option that is younger than the run had its default
    run.curves = curves(metrics_file.rows(folder / "metrics.jsonl"))
    run.timed = curves(_over_time(folder / "metrics.jsonl", run))
    run.evaluated = evaluation_file.newest(folder)
    return run


def _over_time(path: Path, run: Run) -> Iterator[dict[str, float]]:
    """The rows with minutes of training, as their speeds give them, in place of images seen; the run learns its ends.

    Grids, checkpoints and evaluations, and the time between a stop and a resume, are not in it.
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
    """A row of the table: one value a run, None where a run has none; with real pictures' own beside, if there is."""

    group: str
    name: str
    values: Sequence[Any]
    beside: Sequence[float | None] = ()

    def shown(self, run: int) -> str:
        """A cell for people."""
        value = _cell(self.values[run])
        real = self.beside[run] if self.beside else None
        return f"{value} (real {readable(real)})" if value and real is not None else value


def facts(runs: Sequence[Run]) -> Iterator[Fact]:
    """Everything to be told of the runs: how far they are, what differs, metrics, evaluations."""
    yield Fact("run", "images seen", [f"{run.images_seen:,}" for run in runs])
    yield Fact("run", "training time", [duration(run.seconds) if run.seconds else None for run in runs])
    for name in dict.fromkeys(name for run in runs for name in run.config):
        values = [run.config.get(name) for run in runs]
        if name not in _NOT_OF_THE_METHOD and any(value != values[0] for value in values):
            yield Fact("option", str(name).replace("_", "-"), [shown(value) for value in values])
    for key in sorted({key for run in runs for key in run.curves}):
        yield Fact("metric", key, [_newest(key, run.curves.get(key)) for run in runs])
    if any(run.evaluated for run in runs):
        entries = [run.evaluated[1] if run.evaluated else {} for run in runs]
        yield Fact("evaluation", "checkpoint", [run.evaluated and f"{run.evaluated[0]:,}" for run in runs])
        yield Fact("evaluation", "pictures", [entry.get("count") for entry in entries])
        yield Fact("evaluation", "extractor", [(entry.get("extractor") or {}).get("name") for entry in entries])
        figures, real = ([entry.get(part, {}) for entry in entries] for part in ("figures", "real"))
        for key in dict.fromkeys(key for each in figures for key in each):
            yield Fact("evaluation", key, [f.get(key) for f in figures], [r.get(key) for r in real])


def _newest(key: str, curve: Curve | None) -> float | None:
    """The end of a curve: smoothed, as a row is one batch's; but an evaluation is of many pictures."""
    if curve is None or not curve.x:
        return None
    return curve.mean[-1] if key.startswith(metric_names.EVALUATE) else curve.smooth()[-1]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else readable(value) if math.isfinite(value) else "not finite"


def _terminal(runs: Sequence[Run], rows: Sequence[Fact]) -> str:
    """The table in plain text, a column a run; groups are set apart by an empty line."""
    cells = [["", *(run.name for run in runs)]]
    cells += [[row.name, *(row.shown(i) for i in range(len(runs)))] for row in rows]
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
    kind = out.suffix.lower()
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    if kind == ".csv":
        write_bytes(out, _csv(runs, rows).encode("utf-8", "replace"))
    elif kind == ".html":
        write_bytes(out, _page(runs, rows, metrics).encode("utf-8", "replace"))
    else:
        drawn = _plots(runs, metrics or _main(runs))
        if not drawn:
            raise UserError(f"--out {out}: no run has metrics to draw yet")
        image_grid.save(raster.picture(drawn, [run.name for run in runs], 2), out, [run.name for run in runs])


def _csv(runs: Sequence[Run], rows: Sequence[Fact]) -> str:
    """A row a run, a column a fact; figures of real pictures have columns of their own."""
    columns: list[tuple[str, Sequence[Any]]] = [("run", [run.name for run in runs])]
    columns += [("images seen", [run.images_seen for run in runs]), ("seconds", [run.seconds for run in runs])]
    for row in rows:
        if row.group != "run":
            columns.append((f"{row.group} {row.name}", row.values))
        if any(value is not None for value in row.beside):
            columns.append((f"{row.group} {row.name} (real)", row.beside))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    for number in range(len(runs)):
        writer.writerow(["" if values[number] is None else values[number] for _, values in columns])
    return text.getvalue()


def _page(runs: Sequence[Run], rows: Sequence[Fact], metrics: Sequence[str]) -> str:
    names = [run.name for run in runs]
    drawn = _plots(runs, metrics or sorted({key for run in runs for key in run.curves}))
    head = '<th scope="col"></th>' + "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    sections = []
    for group in dict.fromkeys(row.group for row in rows):
        lines = "".join(_line(row, len(runs)) for row in rows if row.group == group)
        sections.append((_TITLES[group], table("options", head, lines)))
    for clock in dict.fromkeys(plot.clock for plot in drawn):
        figures = "".join(raster.svg(plot, i) for i, plot in enumerate(drawn) if plot.clock == clock)
        sections.append((f"Over {clock}", f'{raster.legend(names)}<div class="curves">{figures}</div>'))
    return page("Runs compared", [("Runs", ", ".join(names))], sections)


_TITLES = {"run": "How far", "option": "Options that differ", "metric": "Newest metrics", "evaluation": "Evaluations"}


def _line(row: Fact, count: int) -> str:
    cells = "".join(f"<td>{escape(row.shown(i))}</td>" for i in range(count))
    return f'<tr><th scope="row">{escape(row.name)}</th>{cells}</tr>'


def _plots(runs: Sequence[Run], keys: Sequence[str]) -> list[Plot]:
    """Each key twice, over images seen and over training time, as far as any run has it."""
    clocks = {"images seen": [run.curves for run in runs], "minutes of training": [run.timed for run in runs]}
    found = []
    for key in keys:
        for clock, each in clocks.items():
            drawn = [(i, curve) for i, of_run in enumerate(each) if (curve := of_run.get(key)) and curve.x]
            lines = [Line(runs[i].name, i, curve.x, curve.smooth()) for i, curve in drawn]
            found += [Plot(key, clock, lines)] if lines else []
    return found


def _main(runs: Sequence[Run]) -> list[str]:
    """The keys of a picture: what was evaluated during training, else losses and variety."""
    known = sorted({key for run in runs for key in run.curves})
    evaluated = [key for key in known if key.startswith(metric_names.EVALUATE)]
    return (evaluated or [key for key in _FIRST if key in known] or known)[:_MOST]
