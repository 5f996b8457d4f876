"""``report.html``: a run on one page that opens from the disk, without a server, a network or a script."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

import shards
from shards.core.atomic_io import write_bytes
from shards.core.cli import argument, parse
from shards.core.errors import UserError
from shards.core.version import revision
from trainer import metric_names
from trainer.reporting import evaluation_table
from trainer.reporting.curves import Curve, chart, curves, escape, readable, short
from trainer.reporting.html_page import page, table
from trainer.run import evaluation_file, metrics_file

_STRIP = 12  # pictures in the strip over time
_THUMBNAIL, _EXHIBIT = 420, 1100  # pixels of their width, at most
_LARGEST_PNG = 6 << 20  # bytes; a larger grid is shown smaller


def write_report(run: Path) -> Path:
    """Write ``RUN/report.html`` from ``config.yaml``, ``metrics.jsonl`` and ``samples/*.png``; each may be missing.

    Memory and file size are bounded however long the run is: a curve keeps at most 500 points.

    Returns:
        The page's path. It appears under its name only when it is whole.

    Raises:
        Failure: the page cannot be written.
    """
    path = run / "report.html"
    write_bytes(path, _page(run).encode("utf-8", "replace"))
    return path


@dataclass(frozen=True)
class Report:
    """Write a run's report.html anew from its options, metrics and samples."""

    run: Path = argument("the run's directory, such as runs/first")


def main(argv: Sequence[str]) -> None:
    """The command ``report``.

    Raises:
        UserError: there is no such run.
    """
    options = parse(Report, argv, command="report")
    if not (options.run / "config.yaml").is_file():
        raise UserError(f"{options.run} is no run: it has no config.yaml; give the directory that a training wrote")
    print(write_report(options.run))


# ---------------------------------------------------------------- pictures


@dataclass(frozen=True)
class Sample:
    """A picture grid in ``samples/``."""

    path: Path
    images_seen: int


def samples(folder: Path) -> list[Sample]:
    """The grids by images seen, which is the first number in a file's name; other files are left out."""
    paths = [path for path in folder.glob("*.png") if not path.name.startswith(".")]
    found = [Sample(path, int(number[0])) for path in paths if (number := re.search(r"\d+", path.stem))]
    return sorted(found, key=lambda sample: (sample.images_seen, sample.path.name))


def strip(every: Sequence[Sample]) -> list[Sample]:
    """At most twelve of them, evenly over their order, the first and the last among them."""
    if len(every) <= _STRIP:
        return list(every)
    return [every[round(number * (len(every) - 1) / (_STRIP - 1))] for number in range(_STRIP)]


def _embedded(path: Path, width: int | None) -> tuple[str, int, int, str] | None:
    """A picture as a data URL, its size in pixels and its caption; None if it is damaged.

    With a ``width`` it is made that wide at most, as a JPEG; without, the file's own bytes are kept.
    """
    try:
        with Image.open(path) as image:
            image.load()
            caption = str(image.info.get("Description", ""))
            if width is None and path.stat().st_size <= _LARGEST_PNG:
                return _data_url("png", path.read_bytes()), *image.size, caption
            small = image.convert("RGB")
            small.thumbnail((width or 1600, 1 << 14), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            small.save(out, "JPEG", quality=85)
            return _data_url("jpeg", out.getvalue()), *small.size, caption
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


# ---------------------------------------------------------------- the page


def _page(run: Path) -> str:
    config, note = _config(run / "config.yaml")
    last_row: dict[str, float] = {}

    def watched() -> Iterator[dict[str, float]]:
        for row in metrics_file.rows(run / "metrics.jsonl"):
            last_row.update(row)
            yield row

    found = curves(watched())
    grids = samples(run / "samples")
    name = run.resolve().name
    seen = int(max([last_row.get(metric_names.CLOCK, 0), *(grid.images_seen for grid in grids)]))
    sections = [
        ("Samples", _samples_section(grids)),
        ("Evaluation", _evaluation_section(run)),
        ("What labels and noise do", _exhibits_section(run / "exhibits")),
        ("Curves", _curves_section(found)),
        ("Values", _values_section(found)),
        ("Options", note or _options_section(config)),
    ]
    return page(name, _facts(run, config, found, seen), sections)


def _config(path: Path) -> tuple[dict[str, Any], str]:
    """The options by dotted name, and a note for the page if they cannot be shown."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, "<p>There is no <code>config.yaml</code>.</p>"
    except (OSError, ValueError, yaml.YAMLError):
        return {}, "<p><code>config.yaml</code> cannot be read.</p>"
    if not isinstance(loaded, dict):
        return {}, "<p><code>config.yaml</code> holds no options.</p>"
    return dict(_flat(loaded)), ""


def _flat(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _facts(run: Path, config: Mapping[str, Any], found: Mapping[str, Curve], seen: int) -> list[tuple[str, str]]:
    total = config.get("total_images")
    progress = f"{seen:,}"
    if isinstance(total, int) and total > 0:
        progress += f" of {total:,} ({min(1.0, seen / total):.0%})"
    commit = revision()
    facts = [("Images seen", progress)]
    speed = found.get(metric_names.SPEED)
    if speed and speed.mean:
        facts.append(("Images a second", f"{speed.last:.4g}"))
        facts.append(("Training time", duration(_seconds(speed))))
    if (times := [p.stat().st_mtime for p in (run / "config.yaml", run / "metrics.jsonl") if p.exists()])[1:]:
        facts.append(("Last row", datetime.fromtimestamp(times[1]).astimezone().strftime("%Y-%m-%d %H:%M %Z")))
    if config.get("preset"):
        facts.append(("Preset", str(config["preset"])))
    facts.append(("Written by", f"cgan-trainer {shards.__version__}" + (f" ({commit})" if commit else "")))
    return facts


def _seconds(speed: Curve) -> float:
    """The time that the logged speeds stand for."""
    steps = [after - before for before, after in zip([0.0, *speed.x], speed.x, strict=False)]
    return math.fsum(step / rate for step, rate in zip(steps, speed.mean, strict=True) if rate > 0)


def duration(seconds: float) -> str:
    """A time as people read it: 42 s, 8 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _samples_section(grids: Sequence[Sample]) -> str:
    newest = [grid for grid in grids if grid.images_seen == grids[-1].images_seen][:4]
    large = "".join(_figure(grid, None) for grid in reversed(newest))
    if not large:
        return "<p>No pictures yet.</p>"
    small = "".join(_figure(grid, _THUMBNAIL) for grid in strip(grids)) if len(grids) > 1 else ""
    over_time = (
        f'<h3>Over time</h3><div class="strip" role="region" aria-label="Samples over time" tabindex="0">{small}</div>'
    )
    return f'<div class="newest">{large}</div>' + (over_time if small else "")


def _evaluation_section(run: Path) -> str:
    """The newest evaluation, if there is one: its figures, what a reader must know of them, and its pictures."""
    try:
        newest = evaluation_file.newest(run)
    except UserError as error:
        return f"<p>{escape(error)}</p>"
    if newest is None:
        return ""
    seen, entry = newest
    head = "".join(f'<th scope="col">{title}</th>' for title in ("Figure", "Generated", "Real", "Meaning"))
    rows = "".join(
        f'<tr><th scope="row">{escape(row.name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in evaluation_table.rows(entry)
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in entry.get("notes", []))
    heading = f"<p>{escape(evaluation_table.heading(seen, entry))}</p>"
    paths = [run / "evaluation" / Path(name).name for name in entry.get("pictures", [])]
    figures = "".join(
        _picture(path, _EXHIBIT, _PICTURES.get(path.stem.split("-")[-1], path.stem), path.stem) for path in paths
    )
    return heading + table("options", head, rows) + notes + (f'<div class="newest">{figures}</div>' if figures else "")


_PICTURES = {
    "worst": "What fails most: pictures that should show these values and do not",
    "nearest": "Nearest to training pictures: is it the same picture?",
}


def _exhibits_section(folder: Path) -> str:
    """What `trainer exhibits` drew; nothing if it did not."""
    paths = sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))
    figures = "".join(_picture(path, _EXHIBIT, path.stem, f"Generated pictures: {path.stem}") for path in paths)
    return f'<div class="newest">{figures}</div>' if figures else ""


def _figure(grid: Sample, width: int | None) -> str:
    """One grid with its caption."""
    seen = grid.images_seen
    return _picture(grid.path, width, f"{short(seen)} images seen", f"Generated pictures after {seen:,} images")


def _picture(path: Path, width: int | None, label: str, alt: str) -> str:
    """One picture; width and height are given, so that the page does not jump while it opens."""
    embedded = _embedded(path, width)
    if embedded is None:
        return f"<figure><p>{escape(path.name)} is damaged.</p></figure>"
    url, across, down, caption = embedded
    alt += f"; {caption}" if caption else ""
    return (
        f'<figure><img src="{url}" width="{across}" height="{down}" alt="{escape(alt)}">'
        f"<figcaption>{escape(label)}</figcaption></figure>"
    )


def _curves_section(found: Mapping[str, Curve]) -> str:
    drawn = {key: curve for key, curve in found.items() if curve.x}
    if not drawn:
        return "<p>No metrics yet.</p>"
    # Losses first; keys of one group stay together, in the order in which they were logged.
    order = sorted(drawn, key=lambda key: _GROUPS.get(key.partition("/")[0], 2))
    charts = "".join(chart(key, drawn[key], number) for number, key in enumerate(order))
    return f'<div class="curves">{charts}</div>'


_GROUPS = {"loss": 0, "grad": 1, "speed": 3}


def _values_section(found: Mapping[str, Curve]) -> str:
    if not found:
        return "<p>No metrics yet.</p>"
    head = "".join(
        f'<th scope="col">{title}</th>' for title in ("Key", "Last", "Smoothed", "Least", "Greatest", "Not finite")
    )
    rows = []
    for key, curve in sorted(found.items()):
        drawn = [readable(v) for v in (curve.smooth()[-1], min(curve.low), max(curve.high))] if curve.x else [""] * 3
        cells = [readable(curve.last) if math.isfinite(curve.last) else "not finite", *drawn, f"{curve.not_finite:,}"]
        rows.append(f'<tr><th scope="row">{escape(key)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    return table("values", head, "".join(rows))


def _options_section(config: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td><code>{escape(shown(value))}</code></td></tr>'
        for key, value in config.items()
    )
    return table("options", '<th scope="col">Option</th><th scope="col">Value</th>', rows)


def shown(value: object) -> str:
    """An option's value as people read it."""
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "none"
    if value is None:
        return "none"
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"
