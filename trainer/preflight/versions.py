"""Versions: within the range that is supported, and the same wherever a rank runs."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from shards.core.version import version_line
from trainer.preflight.findings import FINE, RED, YELLOW, Finding, Report, differing, errors, groups

NAME = "versions"
# As in pyproject.toml, which a copy of the code alone does not carry along.
RANGES = {
    "python": ">=3.11,<4",
    "torch": ">=2.6,<3",
    "accelerate": ">=1.6,<2",
    "webdataset": ">=1.0,<2",
    "wandb": ">=0.31,<1",
}
_OURS = "cgan-trainer"


def look() -> dict[str, Any]:
    """Version by name; None for what is not installed."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for name in list(RANGES)[1:]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return {**found, _OURS: version_line().removeprefix(f"{_OURS} ")}


def judge(reports: Sequence[Report]) -> list[Finding]:
    """Hold versions against their ranges, and against each other."""
    good, found = errors(reports, NAME, NAME, "mend the environment there")
    if not good:
        return found
    for name in (*RANGES, _OURS):
        values = groups(good, lambda report: report[NAME][name])  # noqa: B023 - called at once
        if len(values) > 1:
            how = "let all ranks use one environment, on storage that all nodes see (or the same container)"
            found.append(Finding(RED, NAME, f"{name} differs: {differing(values)}", how))
        for value, there in values.items():
            if value is None:
                found.append(Finding(RED, NAME, f"{differing({name + ' is not installed': there})}", _install(name)))
            elif name in RANGES and not inside(value, RANGES[name]):
                says = f"{differing({f'{name} {value}': there})} is outside of what is supported, {RANGES[name]}"
                found.append(Finding(YELLOW, NAME, says, _install(name)))
    if not found:
        all_same = ", ".join(f"{name} {value}" for name, value in good[0][NAME].items())
        found.append(Finding(FINE, NAME, all_same + (" on all ranks" if len(good) > 1 else "")))
    return found


def _install(name: str) -> str:
    if name == "python":
        return "make the environment with another Python"
    return f'pip install "{name}{RANGES[name]}" there, or `make environment`'


def inside(value: str, wanted: str) -> bool:
    """Whether a version such as "2.13.0+cpu" lies in a range such as ">=2.6,<3"."""
    low, high = wanted.removeprefix(">=").split(",<")
    return _numbers(low) <= _numbers(value) < _numbers(high)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text.split("+")[0])]
