"""Findings of a check, and how they are printed: red first, each with its remedy, then yellow, then fine."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shards.core.atomic_io import join_names

RED, YELLOW, FINE = "red", "yellow", "fine"
LEVELS = (RED, YELLOW, FINE)
Report = Mapping[str, Any]  # of one rank: "rank", "node", and the facts of each check by its name

_TOPIC = 12  # characters
_WIDEST = 110
_SIGNS = {RED: "✗", YELLOW: "!", FINE: "✓"}
_COLOURS = {RED: "\033[31m", YELLOW: "\033[33m", FINE: "\033[32m"}


@dataclass(frozen=True)
class Finding:
    """A line of the result.

    Attributes:
        level: one of `LEVELS`.
        topic: what was checked, in one or two words.
        says: what was found, and on which nodes or ranks.
        remedy: what to do about it, for red and yellow findings.
    """

    level: str
    topic: str
    says: str
    remedy: str = ""


def render(findings: Iterable[Finding], colours: bool, width: int) -> str:
    """Return the findings as text for a terminal of ``width`` characters."""
    lines = []
    for level in LEVELS:
        for finding in (f for f in findings if f.level == level):
            sign = f"{_COLOURS[level]}{_SIGNS[level]}\033[0m" if colours else _SIGNS[level]
            space = " " * (_TOPIC + 3)
            text = textwrap.wrap(finding.says, max(30, width - len(space)), break_on_hyphens=False)
            lines += [f"{sign} {finding.topic:<{_TOPIC}} {text[0]}", *(space + line for line in text[1:])]
            if finding.remedy:
                wrapped = textwrap.wrap(finding.remedy, max(30, width - len(space) - 3), break_on_hyphens=False)
                lines += [f"{space}{'   ' if number else '-> '}{line}" for number, line in enumerate(wrapped)]
    return "\n".join(lines)


def render_for_stdout(findings: Sequence[Finding], plain: bool) -> str:
    """Return the findings as text for standard output; colours only in a terminal and unless ``plain``."""
    terminal = sys.stdout.isatty()
    width = min(_WIDEST, shutil.get_terminal_size().columns) if terminal else _WIDEST
    return render(findings, terminal and not plain, width)


def count(findings: Iterable[Finding], level: str) -> int:
    """Return the number of findings of a level."""
    return sum(finding.level == level for finding in findings)


# ---------------------------------------------------------------- ranks and nodes


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as ranges: "0-3, 7" for 0, 1, 2, 3 and 7."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return join_names([str(a) if a == b else f"{a}-{b}" for a, b in parts], 8)


def ranks(numbers: Sequence[int]) -> str:
    """Return "rank 1" or "ranks 0-3, 7"."""
    return f"rank{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def describe_ranks(reports: Iterable[Report], *, all_ranks: bool = False) -> str:
    """Describe ranks by node: "node1, node2 (ranks 2, 4)" for all ranks of one node and some of another.

    Args:
        reports: the reports of the ranks.
        all_ranks: list the numbers even if they are all ranks of a node.
    """
    by_node: dict[str, list[Report]] = {}
    for report in reports:
        by_node.setdefault(report["node"], []).append(report)
    named = []
    for node, its in by_node.items():
        listed = all_ranks or len(its) < its[0]["ranks_here"]
        named.append(f"{node} ({ranks([report['rank'] for report in its])})" if listed else node)
    return join_names(named, 4)


def nodes(reports: Iterable[Report]) -> str:
    """Return the names of the nodes of some ranks."""
    return join_names(list(dict.fromkeys(report["node"] for report in reports)), 4)


def format_bytes(count: float) -> str:
    """Format a number of bytes, as "1.3 MB" or "12.4 GB"."""
    power = 3 if count >= 1e9 else 2
    return f"{count / 1000**power:,.1f} {'kMG'[power - 1]}B"


def group_by(reports: Iterable[Report], value: Callable[[Report], Hashable]) -> dict[Any, list[Report]]:
    """Group reports by a value, the most frequent value first."""
    found: dict[Any, list[Report]] = {}
    for report in reports:
        found.setdefault(value(report), []).append(report)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def describe_groups(found: Mapping[Any, Sequence[Report]]) -> str:
    """Describe groups of `group_by`: "2.13.0 on node1 (ranks 0-1), 2.12.0 on node2 (ranks 2-3)"."""
    return join_names([f"{value} on {describe_ranks(same)}" for value, same in found.items()], 4)


def split_errors(
    reports: Iterable[Report], name: str, topic: str, remedy: str, where: Callable[[list[Report]], str] = describe_ranks
) -> tuple[list[Report], list[Finding]]:
    """Return the reports in which check ``name`` succeeded, and a red finding for each distinct error of the others."""
    checked = [report for report in reports if name in report]
    failed = group_by([report for report in checked if "error" in report[name]], lambda report: report[name]["error"])
    red = [Finding(RED, topic, f"{error}, on {where(same)}", remedy) for error, same in failed.items()]
    return [report for report in checked if "error" not in report[name]], red
