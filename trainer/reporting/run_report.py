"""``report.html``: one run on one self-contained page, readable without a server, a network or scripts."""

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

from PIL import Image

from shards.core import text_files
from shards.core.atomic_io import write_bytes
from shards.core.cli import argument, parse
from shards.core.errors import UserError
from shards.core.version import __version__, revision
from trainer import metric_names
from trainer.evaluation.metrics.registry import panel_title
from trainer.reporting import evaluation_table, svg
from trainer.reporting.curves import Curve, curves, training_seconds
from trainer.reporting.html_page import escape, page, table
from trainer.reporting.marks import explanations
from trainer.reporting.number_format import format_count, format_duration, format_option, format_value
from trainer.reporting.plot import Line, Plot
from trainer.reporting.spectrum_figure import spectrum_figure
from trainer.run import evaluation_file, metrics_file

PLAYGROUND = "playground.html"  # the page that `cgan playground` writes into a run directory
_STRIP = 12  # sample grids in the strip over time
_THUMBNAIL, _EXHIBIT = 420, 1100  # greatest widths in pixels
_LARGEST_PNG = 6 << 20  # bytes; larger grids are downscaled


def write_report(run: Path) -> Path:
    """Write ``RUN/report.html`` from ``config.yaml``, ``metrics.jsonl`` and ``samples/*.png``; each may be missing.

    Memory and file size are bounded for any length of the run: a curve has at most 500 points.

    Returns:
        The path of the page, which is replaced atomically.

    Raises:
        Failure: the page cannot be written.
    """
    path = run / "report.html"
    write_bytes(path, _page(run).encode("utf-8", "replace"))
    return path


@dataclass(frozen=True)
class Report:
    """Rewrite a run's report.html from its options, metrics and samples."""

    run: Path = argument("run directory, such as runs/first")


def main(argv: Sequence[str]) -> None:
    """Run `cgan report`.

    Raises:
        UserError: the directory is not a run directory.
    """
    options = parse(Report, argv, command="cgan report")
    require_run(options.run)
    print(write_report(options.run))


def require_run(run: Path) -> None:
    """Check that a directory is a run directory.

    Raises:
        UserError: it has no config.yaml.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(
            "run-missing", f"{run} is not a run directory (no config.yaml); give the --run directory of a training"
        )


# ---------------------------------------------------------------- images


@dataclass(frozen=True)
class SampleGrid:
    """An image in ``samples/``."""

    path: Path
    images_seen: int


def sample_grids(folder: Path) -> list[SampleGrid]:
    """Return the sample grids by images seen (the first number in a file name); other files are ignored."""
    paths = [path for path in folder.glob("*.png") if not path.name.startswith(".")]
    found = [SampleGrid(path, int(number[0])) for path in paths if (number := re.search(r"\d+", path.stem))]
    return sorted(found, key=lambda grid: (grid.images_seen, grid.path.name))


def strip(grids: Sequence[SampleGrid]) -> list[SampleGrid]:
    """Return at most twelve grids, evenly spaced, including the first and the last."""
    if len(grids) <= _STRIP:
        return list(grids)
    return [grids[round(number * (len(grids) - 1) / (_STRIP - 1))] for number in range(_STRIP)]


def _embedded(path: Path, width: int | None) -> tuple[str, int, int, str] | None:
    """Return an image as (data URL, width, height, caption), or None if it is damaged.

    With a ``width``, the image is downscaled to at most that width and stored as JPEG; without, the file's bytes are
    kept.
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

    def rows() -> Iterator[dict[str, float]]:
        for row in metrics_file.rows(run / "metrics.jsonl"):
            last_row.update(row)
            yield row

    found = curves(rows())
    grids = sample_grids(run / "samples")
    name = run.resolve().name
    images_seen = int(max([last_row.get(metric_names.CLOCK, 0), *(grid.images_seen for grid in grids)]))
    sections = [
        ("Samples", _playground_link(run) + _samples_section(grids)),
        ("Evaluation", _evaluation_section(run)),
        ("Effect of labels and noise", _exhibits_section(run / "exhibits")),
        ("Curves", _curves_section(found)),
        ("Values", _values_section(found)),
        ("Options", note or _options_section(config)),
    ]
    return page(name, _facts(run, config, found, images_seen), sections)


def _config(path: Path) -> tuple[dict[str, Any], str]:
    """Return the options by dotted name, and a note for the page if they cannot be shown."""
    try:
        loaded = text_files.read_yaml(path)
    except FileNotFoundError:
        return {}, "<p><code>config.yaml</code> is missing.</p>"
    except (OSError, ValueError):
        return {}, "<p><code>config.yaml</code> cannot be read.</p>"
    if not isinstance(loaded, dict):
        return {}, "<p><code>config.yaml</code> contains no options.</p>"
    return dict(_flat(loaded)), ""


def _flat(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _facts(run: Path, config: Mapping[str, Any], found: Mapping[str, Curve], images_seen: int) -> list[tuple[str, str]]:
    total = None if config.get("minutes") else config.get("total_images")
    progress = f"{images_seen:,}"
    if isinstance(total, int) and total > 0:
        progress += f" of {total:,} ({min(1.0, images_seen / total):.0%})"
    commit = revision()
    facts = [("Images seen", progress)]
    speed = found.get(metric_names.SPEED)
    if speed and speed.mean:
        facts.append(("Images per second", f"{speed.last:.4g}"))
        facts.append(("Training time", format_duration(training_seconds(speed))))
    if (times := [p.stat().st_mtime for p in (run / "config.yaml", run / "metrics.jsonl") if p.exists()])[1:]:
        facts.append(("Last metrics", datetime.fromtimestamp(times[1]).astimezone().strftime("%Y-%m-%d %H:%M %Z")))
    if config.get("preset"):
        facts.append(("Preset", str(config["preset"])))
    facts.append(("Written by", f"cgan-trainer {__version__}" + (f" ({commit})" if commit else "")))
    return facts


def _playground_link(run: Path) -> str:
    """Return a link to the run's playground; "" if there is none."""
    return f'<p><a href="{PLAYGROUND}">Draw with this generator</a></p>' if (run / PLAYGROUND).is_file() else ""


def _samples_section(grids: Sequence[SampleGrid]) -> str:
    newest = [grid for grid in grids if grid.images_seen == grids[-1].images_seen][:4]
    large = "".join(_figure(grid, None) for grid in reversed(newest))
    if not large:
        return "<p>No samples yet.</p>"
    small = "".join(_figure(grid, _THUMBNAIL) for grid in strip(grids)) if len(grids) > 1 else ""
    over_time = (
        f'<h3>Over time</h3><div class="strip" role="region" aria-label="Samples over time" tabindex="0">{small}</div>'
    )
    return f'<div class="newest">{large}</div>' + (over_time if small else "")


def _evaluation_section(run: Path) -> str:
    """Return the newest evaluation: its metrics, notes and images; "" if there is none."""
    try:
        newest = evaluation_file.newest(run)
    except UserError as error:
        return f"<p>{escape(error)}</p>"
    if newest is None:
        return ""
    images_seen, entry = newest
    head = "".join(f'<th scope="col">{title}</th>' for title in ("Metric", "Generated", "Real", "Meaning"))
    rows = "".join(
        f'<tr><th scope="row">{escape(row.name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in evaluation_table.rows(entry)
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in [*explanations(entry), *entry.get("notes", [])])
    heading = f"<p>{escape(evaluation_table.heading(images_seen, entry))}</p>"
    paths = [run / "evaluation" / Path(name).name for name in entry.get("pictures", [])]
    figures = "".join(
        _image(path, _EXHIBIT, panel_title(path.stem.split("-")[-1]) or path.stem, path.stem) for path in paths
    )
    panels = f'<div class="newest">{figures}</div>' if figures else ""
    return heading + table("options", head, rows) + notes + spectrum_figure(entry) + panels


def _exhibits_section(folder: Path) -> str:
    """Return the images that `cgan exhibits` wrote; "" if there are none."""
    paths = sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))
    figures = "".join(_image(path, _EXHIBIT, path.stem, f"Generated images: {path.stem}") for path in paths)
    return f'<div class="newest">{figures}</div>' if figures else ""


def _figure(grid: SampleGrid, width: int | None) -> str:
    images_seen = grid.images_seen
    label, alt = f"{format_count(images_seen)} images seen", f"Generated images after {images_seen:,} images seen"
    return _image(grid.path, width, label, alt)


def _image(path: Path, width: int | None, label: str, alt: str) -> str:
    """Return one image with its caption; with width and height, so that the page does not jump while it loads."""
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
    keys = sorted(drawn, key=lambda key: _GROUPS.get(key.partition("/")[0], 2))
    charts = "".join(svg.chart(_plot(key, drawn[key]), number) for number, key in enumerate(keys))
    return f'<div class="curves">{charts}</div>'


_GROUPS = {"loss": 0, "grad": 1, "speed": 3}


def _plot(key: str, curve: Curve) -> Plot:
    return Plot(key, "images seen", [Line("", None, curve.x, curve.smooth(), band=curve)])


def _values_section(found: Mapping[str, Curve]) -> str:
    if not found:
        return "<p>No metrics yet.</p>"
    head = "".join(
        f'<th scope="col">{title}</th>' for title in ("Key", "Last", "Smoothed", "Minimum", "Maximum", "Not finite")
    )
    rows = []
    for key, curve in sorted(found.items()):
        drawn = (
            [format_value(v) for v in (curve.smooth()[-1], min(curve.low), max(curve.high))] if curve.x else [""] * 3
        )
        last = format_value(curve.last) if math.isfinite(curve.last) else "not finite"
        cells = "".join(f"<td>{cell}</td>" for cell in (last, *drawn, f"{curve.not_finite:,}"))
        rows.append(f'<tr><th scope="row">{escape(key)}</th>{cells}</tr>')
    return table("values", head, "".join(rows))


def _options_section(config: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td><code>{escape(format_option(value))}</code></td></tr>'
        for key, value in config.items()
    )
    return table("options", '<th scope="col">Option</th><th scope="col">Value</th>', rows)
