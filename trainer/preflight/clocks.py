"""Difference between the clocks of the nodes, measured as by Cristian (1989): ask, and halve the round-trip time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from trainer.preflight.findings import FINE, RED, YELLOW, Finding, Report, nodes, split_errors
from trainer.preflight.store import SharedStore
from trainer.run.lock import STALE_AFTER

NAME = "clocks"
_ROUNDS = 5
_TOLERANCE = 2.0  # seconds
_REMEDY = (
    "synchronize the clocks (see `chronyc tracking` or `timedatectl` on the node); a run's lock compares the age of a "
    f"file with the clock and is taken over after {STALE_AFTER:g} s without an update, so with wrong clocks it waits "
    "too long, or takes over a run that is alive; times in logs and at W&B are wrong, too"
)


def gather(meeting: SharedStore, leaders: Sequence[int]) -> dict[str, Any]:
    """Measure how far this node's clock is ahead of rank 0's; all ``leaders``, one rank per node, call this.

    Returns:
        "ahead" and "uncertain" (half of the shortest round trip), both in seconds.
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
            raise TimeoutError("rank 0 did not send its time")
        back = time.time()
        readings.append(((back - asked) / 2, (asked + back) / 2 - answer))
    uncertain, ahead = min(readings)
    return {"ahead": ahead, "uncertain": uncertain}


def assess(reports: Sequence[Report]) -> list[Finding]:
    """Assess whether the clocks agree."""
    good, failed = split_errors(reports, NAME, NAME, _REMEDY, nodes)
    if failed:
        return [Finding(YELLOW, NAME, f"not compared: {finding.says}", _REMEDY) for finding in failed]
    measured = {report["node"]: report[NAME] for report in good}
    if len(measured) < 2:
        return []
    late, early = (
        min(measured, key=lambda node: measured[node]["ahead"]),
        max(measured, key=lambda node: measured[node]["ahead"]),
    )
    spread = measured[early]["ahead"] - measured[late]["ahead"]
    error = max(t["uncertain"] for t in measured.values())
    says = f"{len(measured)} nodes within {max(spread, 0):.3f} s of each other (± {error:.3f} s)"
    if spread <= _TOLERANCE:
        return [Finding(FINE, NAME, says)]
    level = RED if spread > STALE_AFTER / 2 else YELLOW
    return [Finding(level, NAME, f"{early} is {spread:,.1f} s ahead of {late} (± {error:.3f} s)", _REMEDY)]
