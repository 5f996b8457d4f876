"""The power spectra of an evaluation as a figure: generated images beside real ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainer.reporting import svg
from trainer.reporting.plot import Line, Plot

_FIGURE = -1  # number on its page, apart from those of the curves


def spectrum_figure(entry: Mapping[str, Any]) -> str:
    """Return the spectra of an entry of `evaluation_file` as HTML; "" if it has none, or they are damaged."""
    try:
        content = entry["details"]["spectrum"]
        frequencies = [float(value) for value in content["cycles_per_pixel"]]
        lines = {str(name): [float(value) for value in line] for name, line in content["power_db"].items()}
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return ""
    numbers = [frequencies, *lines.values()]
    if not lines or not frequencies or any(len(line) != len(frequencies) for line in lines.values()):
        return ""
    if not all(math.isfinite(value) for values in numbers for value in values):
        return ""
    drawn = [Line(name, number, frequencies, line) for number, (name, line) in enumerate(lines.items())]
    chart = svg.chart(Plot("power in dB", "cycles per pixel", drawn), _FIGURE)
    return f'<h3>Power spectrum</h3>{svg.legend(list(lines))}<div class="curves">{chart}</div>'
