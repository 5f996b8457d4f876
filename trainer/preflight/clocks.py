"""How far the nodes' clocks lie apart, as Cristian (1989) reads a distant clock: ask, and halve the time it took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from trainer.preflight.findings import FINE, RED, YELLOW, Finding, Report, errors, nodes
from trainer.preflight.store import Meeting
from trainer.run.lock import SILENCE

NAME = "clocks"
_ROUNDS = 5
_APART = 2.0  # seconds
_REMEDY = (
    "have the clocks set (`chronyc tracking` or `timedatectl` on the node says how they are kept); a run's lock holds "
    f"the age of a file against the clock and takes a run over after {SILENCE:g} s of silence, so that clocks which "
    "are off make it wait too long or take over what is alive; times in logs and at W&B are wrong as well"
)


def look(meeting: Meeting, leaders: Sequence[int]) -> dict[str, Any]:
    """How far this node's clock is ahead of rank 0's, in seconds; all ``leaders``, one of each node, call this.

    Returns:
        "ahead", and "uncertain": half the time that the quickest answer took.
    """
    if meeting.rank == leaders[0]:
        for rank in leaders[1:]:
            for number in range(_ROUNDS):
                if meeting.get(f"time? {number}", rank, meeting.seconds) is None:
                    break
                meeting.put(f"time! {rank} {number}", time.time())
        return {"ahead": 0.0, "uncertain": 0.0}
    readings = []
    for number in range(_ROUNDS):
        asked = time.time()
        meeting.put(f"time? {number}", True)
        answer = meeting.get(f"time! {meeting.rank} {number}", leaders[0], meeting.seconds * len(leaders))
        if answer is None:
            raise TimeoutError("rank 0 did not tell the time")
        back = time.time()
        readings.append(((back - asked) / 2, (asked + back) / 2 - answer))
    uncertain, ahead = min(readings)
    return {"ahead": ahead, "uncertain": uncertain}


def judge(reports: Sequence[Report]) -> list[Finding]:
    """Whether the clocks agree."""
    good, failed = errors(reports, NAME, NAME, _REMEDY, nodes)
    if failed:
        return [Finding(YELLOW, NAME, f"not compared: {finding.says}", _REMEDY) for finding in failed]
    told = {report["node"]: report[NAME] for report in good}
    if len(told) < 2:
        return []
    late, early = min(told, key=lambda node: told[node]["ahead"]), max(told, key=lambda node: told[node]["ahead"])
    spread = told[early]["ahead"] - told[late]["ahead"]
    error = max(t["uncertain"] for t in told.values())
    says = f"{len(told)} nodes within {max(spread, 0):.3f} s of each other (give or take {error:.3f} s)"
    if spread <= _APART:
        return [Finding(FINE, NAME, says)]
    level = RED if spread > SILENCE / 2 else YELLOW
    return [Finding(level, NAME, f"{early} is {spread:,.1f} s ahead of {late} (give or take {error:.3f} s)", _REMEDY)]
