"""Format numbers and values for people."""

from __future__ import annotations


def format_count(value: float) -> str:
    """Format a count in three digits: 950, 12.3k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def format_value(value: float) -> str:
    """Format a value in few characters: 1.31, 0.0021, 12.3k, 3.1e-07."""
    return format_count(value) if abs(value) >= 1e4 else f"{value + 0.0:.4g}".replace("e-0", "e-")


def format_duration(seconds: float) -> str:
    """Format a time in at most two units: 42 s, 8 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def format_option(value: object) -> str:
    """Format the value of an option: "yes" for True, "none" for None, lists with commas."""
    if isinstance(value, list):
        return ", ".join(map(format_option, value)) or "none"
    if value is None:
        return "none"
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"
