"""What a check has found, and how it is shown: red first, each with its remedy, then yellow, then what is fine."""

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
Report = Mapping[str, Any]  # what one rank found: "rank", "node", and the facts of each look by its name

_TOPIC = 12  # characters
_WIDEST = 110
_SIGNS = {RED: "✗", YELLOW: "!", FINE: "✓"}
_COLOURS = {RED: "\033[31m", YELLOW: "\033[33m", FINE: "\033[32m"}


@dataclass(frozen=True)
class Finding:
    """One line of the result.

    Attributes:
        level: one of `LEVELS`.
        topic: what was looked at, in a word or two.
        says: what was found, and where.
        remedy: what to do about it; red and yellow ones have one.
    """

    level: str
    topic: str
    says: str
    remedy: str = ""


def show(findings: Iterable[Finding], colours: bool, width: int) -> str:
    """The findings as text for a terminal of ``width`` characters."""
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


def show_here(findings: Sequence[Finding], plain: bool) -> str:
    """`show` for this process's standard output, without colours where ``plain`` or where it is no terminal."""
    terminal = sys.stdout.isatty()
    width = min(_WIDEST, shutil.get_terminal_size().columns) if terminal else _WIDEST
    return show(findings, terminal and not plain, width)


def count(findings: Iterable[Finding], level: str) -> int:
    """How many are of a level."""
    return sum(finding.level == level for finding in findings)


# ---------------------------------------------------------------- who


def ranges(numbers: Iterable[int]) -> str:
    """ "0-3, 7" for 0, 1, 2, 3 and 7."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return join_names([str(a) if a == b else f"{a}-{b}" for a, b in parts], 8)


def ranks(numbers: Sequence[int]) -> str:
    """ "rank 1", or "ranks 0-3, 7"."""
    return f"rank{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def places(reports: Iterable[Report], *, all_ranks: bool = False) -> str:
    """Where some ranks are: "node1, node2 (ranks 2, 4)" for all ranks of one node, and some of another.

    Args:
        all_ranks: number them also where they are all of a node's.
    """
    by_node: dict[str, list[Report]] = {}
    for report in reports:
        by_node.setdefault(report["node"], []).append(report)
    named = []
    for node, there in by_node.items():
        some = all_ranks or len(there) < there[0]["ranks_here"]
        named.append(f"{node} ({ranks([report['rank'] for report in there])})" if some else node)
    return join_names(named, 4)


def nodes(reports: Iterable[Report]) -> str:
    """The names of the nodes that some ranks are on."""
    return join_names(list(dict.fromkeys(report["node"] for report in reports)), 4)


def amount(count: float) -> str:
    """Bytes, as "1.3 MB" or "12.4 GB"."""
    power = 3 if count >= 1e9 else 2
    return f"{count / 1000**power:,.1f} {'kMG'[power - 1]}B"


def groups(reports: Iterable[Report], value: Callable[[Report], Hashable]) -> dict[Any, list[Report]]:
    """The reports by what is so on their ranks; the value that most have comes first."""
    found: dict[Any, list[Report]] = {}
    for report in reports:
        found.setdefault(value(report), []).append(report)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def differing(found: Mapping[Any, Sequence[Report]]) -> str:
    """What `groups` found, in words: "2.13.0 on node1 (ranks 0-1), 2.12.0 on node2 (ranks 2-3)"."""
    return join_names([f"{value} on {places(there)}" for value, there in found.items()], 4)


def errors(
    reports: Iterable[Report], name: str, topic: str, remedy: str, where: Callable[[list[Report]], str] = places
) -> tuple[list[Report], list[Finding]]:
    """The reports whose look called ``name`` came to an end, and a red finding for each way in which others did not."""
    there = [report for report in reports if name in report]
    failed = groups([report for report in there if "error" in report[name]], lambda report: report[name]["error"])
    red = [Finding(RED, topic, f"{error}, on {where(them)}", remedy) for error, them in failed.items()]
    return [report for report in there if "error" not in report[name]], red
