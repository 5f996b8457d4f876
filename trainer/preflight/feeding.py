"""What `reading` found on all nodes, judged: is it one data set, and do storage and CPUs keep up with a rate?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.preflight.findings import FINE, RED, YELLOW, Finding, Report, amount, errors, groups, nodes

NAME = "data"
_MOSTLY = 0.9


def judge(reports: Sequence[Report], rate: float | None, world: int) -> list[Finding]:
    """Hold the nodes' data sets against each other, and how fast they come against what the job will ask.

    Args:
        rate: images/s of the whole job; None: it was not said.
        world: ranks of the job.
    """
    how = "pack or copy the data set to where all nodes see it; `python -m shards verify` lists what is damaged"
    good, found = errors(reports, NAME, NAME, how, nodes)
    if not good:
        return found
    same = groups(good, lambda report: report[NAME]["manifest"])
    if len(same) > 1:
        counts = [
            f"{them[0][NAME]['pictures']:,} pictures, manifest {h[:8]}… on {nodes(them)}" for h, them in same.items()
        ]
        how = "ranks would train on different data: copy one data set to all nodes, or name one that all see"
        found.append(Finding(RED, NAME, f"the data sets differ: {'; '.join(counts)}", how))
    else:
        facts = good[0][NAME]
        says = (
            f"{facts['where']}: {facts['pictures']:,} pictures of {facts['size']}x{facts['size']} in "
            f"{facts['shards']:,} shards, {amount(facts['bytes'])}; first and last shard decode"
        )
        found.append(Finding(FINE, NAME, says + (f"; the same on {len(good)} nodes" if len(good) > 1 else "")))
    slowest = min(good, key=lambda report: report[NAME]["read"] / report[NAME]["seconds"])
    found.append(_storage(slowest, len(good), rate, world))
    found.append(_decoding(min(good, key=lambda report: report[NAME]["decoded"]), rate, world))
    return found


def _storage(report: Report, count: int, rate: float | None, world: int) -> Finding:
    """How fast bytes come to the slowest node, and for how many images/s of the job that is enough."""
    facts = report[NAME]
    speed = facts["read"] / facts["seconds"]
    each = facts["bytes"] / facts["pictures"]  # of a shard, for one picture
    carries = speed / each * world / report["ranks_here"]
    who = f"{report['node']}, the slowest of {count} nodes" if count > 1 else report["node"]
    small = f" (only {amount(facts['read'])} were there to read)" if facts["read"] < 50e6 else ""
    says = f"{speed / 1e6:,.0f} MB/s to {who}{small}; enough for {carries:,.0f} images/s of the job. {_origin(facts)}"
    if rate is None:
        return Finding(FINE, "reading", says)
    if carries < rate:
        how = (
            "a faster place for the data set; --cache FOLDER on a local disk of each node, after whose first epoch it "
        )
        return Finding(
            RED, "reading", f"{says} --rate {rate:g} needs more", how + "is read from there; smaller pictures"
        )
    return Finding(FINE, "reading", f"{says} --rate {rate:g} needs {rate * each / 1e6:,.1f} MB/s in all")


def _origin(facts: dict[str, Any]) -> str:
    """The page cache's part in it."""
    if not facts["local"]:
        return "It came over the network; what the server had in memory cannot be told."
    if facts["stored"] is None:
        return "How much of it the system had in memory cannot be told here."
    share = facts["stored"] / max(facts["read"], 1)
    if share >= _MOSTLY:
        return "It came from storage, by the system's count (a file server's own memory cannot be told)."
    return (
        f"Of it {1 - share:.0%} came from this machine's memory (page cache), by the system's count: "
        "a first epoch may be slower."
    )


def _decoding(report: Report, rate: float | None, world: int) -> Finding:
    """Whether the cores of a rank can decode its share of the rate."""
    speed = report[NAME]["decoded"]
    cores = report["limits"].get("mine", 1) if "limits" in report else 1
    says = f"{speed:,.0f} pictures/s by one process on {report['node']}"
    if rate is None:
        return Finding(FINE, "decoding", says)
    needed = rate / world / max(speed, 1e-9)
    says += f"; --rate {rate:g} keeps {needed:.2g} cores of each rank's {cores} at it"
    if needed >= cores:
        return Finding(
            RED, "decoding", says, "more cores a rank, --workers to match; or pack smaller, or as --format raw"
        )
    if needed > 1:
        return Finding(YELLOW, "decoding", says, f"train with --workers {int(needed) + 1} or more")
    return Finding(FINE, "decoding", says)
