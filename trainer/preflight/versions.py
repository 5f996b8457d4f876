"""Versions of packages: supported, and the same on all ranks."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from shards.core.version import version_line
from trainer.preflight.findings import FINE, RED, YELLOW, Finding, Report, describe_groups, group_by, split_errors

NAME = "versions"
# As in pyproject.toml, which an installed package does not include.
RANGES = {
    "python": ">=3.11,<4",
    "torch": ">=2.6,<3",
    "accelerate": ">=1.6,<2",
    "webdataset": ">=1.0,<2",
    "wandb": ">=0.31,<1",
}
_OURS = "cgan-trainer"


def gather() -> dict[str, Any]:
    """Return versions by package name; None for packages that are not installed."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for name in list(RANGES)[1:]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return {**found, _OURS: version_line().removeprefix(f"{_OURS} ")}


def assess(reports: Sequence[Report]) -> list[Finding]:
    """Compare versions with the supported ranges and between ranks."""
    good, found = split_errors(reports, NAME, NAME, "repair the environment there")
    if not good:
        return found
    for name in (*RANGES, _OURS):
        values = group_by(good, lambda report: report[NAME][name])  # noqa: B023 - called at once
        if len(values) > 1:
            how = "let all ranks use one environment on shared storage, or the same container"
            found.append(Finding(RED, NAME, f"{name} differs: {describe_groups(values)}", how))
        for value, same in values.items():
            if value is None:
                found.append(
                    Finding(RED, NAME, f"{describe_groups({name + ' is not installed': same})}", _install(name))
                )
            elif name in RANGES and not inside(value, RANGES[name]):
                says = f"{describe_groups({f'{name} {value}': same})} is not in the supported range {RANGES[name]}"
                found.append(Finding(YELLOW, NAME, says, _install(name)))
    if not found:
        everything = ", ".join(f"{name} {value}" for name, value in good[0][NAME].items())
        found.append(Finding(FINE, NAME, everything + (" on all ranks" if len(good) > 1 else "")))
    return found


def _install(name: str) -> str:
    if name == "python":
        return "create the environment with another Python"
    return f'pip install "{name}{RANGES[name]}" there, or `make environment`'


def inside(value: str, wanted: str) -> bool:
    """Return whether a version such as "2.13.0+cpu" is in a range such as ">=2.6,<3"."""
    low, high = wanted.removeprefix(">=").split(",<")
    return _numbers(low) <= _numbers(value) < _numbers(high)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text.split("+")[0])]
