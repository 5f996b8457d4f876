"""A check from beginning to end, on every rank: meet, look, tell rank 0, which judges and speaks."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist

from shards.core.atomic_io import write_json
from shards.core.errors import Failure, UserError
from shards.core.version import version_line
from trainer.preflight import (
    allreduce,
    clocks,
    data,
    devices,
    feeding,
    findings,
    limits,
    run_directory,
    versions,
    wandb_reachability,
)
from trainer.preflight.findings import FINE, RED, YELLOW, Finding, Report, count, ranks
from trainer.preflight.options import Check
from trainer.preflight.run_directory import RunPlace
from trainer.preflight.store import Meeting
from trainer.preflight.timeouts import Late, within

FORMAT_VERSION = 1


def examine(asked: Check) -> None:
    """Take part in a check; rank 0 prints what all of them found.

    Raises:
        UserError: this rank does not know its place.
        Failure: something is red; or there is no rank 0.
    """
    rank = _Rank(asked, Meeting(asked.timeout))
    report = rank.look()
    rank.meeting.put("report", report)
    if rank.meeting.rank:
        return
    reports = [report, *rank.others()]
    found = _judge(rank, reports)
    _tell(asked, rank, found, reports)
    if red := count(found, RED):
        raise Failure(f"{red} thing{'s are' if red > 1 else ' is'} red here (listed above, with what to do)")


class _Rank:
    """One rank's part."""

    def __init__(self, asked: Check, meeting: Meeting) -> None:
        self.asked, self.meeting = asked, meeting
        self._say(f"waiting for {meeting.world} ranks" if meeting.world > 1 else "looking")
        self.roll = meeting.assemble(lambda missing: self._say(f"waiting for {ranks(missing)}"))
        nodes: dict[str, int] = {}
        for rank, node in self.roll.items():
            nodes.setdefault(node, rank)
        self.leaders = list(nodes.values())  # the first rank of each node
        self.absent = [rank for rank in range(meeting.world) if rank not in self.roll]
        self._report: dict[str, Any] = {"rank": meeting.rank, "node": meeting.node}
        self._report["ranks_here"] = sum(node == meeting.node for node in self.roll.values())

    def _say(self, doing: str) -> None:
        """Progress, for who waits at the terminal."""
        if self.meeting.rank == 0:
            print(f"… {doing}", file=sys.stderr, flush=True)

    def _note(self, name: str, look: Callable[[], dict[str, Any]], seconds: float | None = None) -> bool:
        """Put what a look finds into the report, or in a sentence why it came to no end; whether it did."""
        limit = self.asked.timeout if seconds is None else seconds
        try:
            self._report[name] = within(limit, look)
        except UserError as error:
            self._report[name] = {"error": str(error)}
        except (Late, OSError, RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())[:300] or type(error).__name__
            self._report[name] = {"error": text if isinstance(error, Late) else f"{type(error).__name__}: {text}"}
        return "error" not in self._report[name]

    def look(self) -> dict[str, Any]:
        """Everything, in an order that is the same on all ranks where they need each other."""
        meeting, asked = self.meeting, self.asked
        leads = meeting.rank in self.leaders
        if leads and len(self.leaders) > 1:
            self._say("comparing clocks")
            self._note(clocks.NAME, lambda: clocks.look(meeting, self.leaders), 2 * asked.timeout)
        self._say("versions, devices, limits")
        self._note(versions.NAME, versions.look)
        self._note(limits.NAME, lambda: limits.look(meeting.local_world))
        self._note(devices.NAME, lambda: devices.look(asked.device, meeting.local_rank, meeting.local_world))
        self._reduce()
        if leads and asked.run_directory is not None:
            self._say(f"trying {asked.run_directory}")
            self._try_run(asked.run_directory)
        if leads and asked.shards is not None:
            self._say("reading the data set")
            node = self.leaders.index(meeting.rank)
            where, nodes = asked.shards, len(self.leaders)
            self._note(feeding.NAME, lambda: data.look(where, node, nodes))
        if meeting.rank == 0 and "wandb" in asked.log_with:
            self._say("knocking at Weights & Biases")
            self._note(wandb_reachability.NAME, wandb_reachability.look)
        return self._report

    def _reduce(self) -> None:
        """Add up over all ranks, if all are there; also those without a GPU take part, in what they can."""
        meeting, limit = self.meeting, self.asked.timeout
        if self.absent or meeting.world == 1:
            return
        self._say("adding up over all ranks")

        def gloo() -> dict[str, Any]:
            allreduce.open_group(meeting)
            return allreduce.measure("gloo", meeting)

        facts = self._report[devices.NAME]
        gpu = facts.get("device") == "cuda" and facts.get("computes") is True
        done = self._note("gloo", gloo, 2 * limit)
        meeting.put("gpu", done and gpu)
        # NCCL waits in vain for a rank without a GPU: let all have said that they have one.
        said = meeting.collect("gpu", range(meeting.world), 2 * limit) if done else {}
        if len(said) == meeting.world and all(said.values()):
            done = self._note("nccl", lambda: allreduce.measure("nccl", meeting), 2 * limit)
        if done:
            dist.destroy_process_group()

    def _try_run(self, run: Path) -> None:
        meeting, leaders = self.meeting, self.leaders
        if meeting.rank == 0:
            meeting.put("token", secrets.token_hex(6))
        token = meeting.get("token", 0, self.asked.timeout)
        place = RunPlace(run, token, meeting.rank)
        try:
            written = self._note(run_directory.NAME, place.look)
            meeting.put("written", written)
            said = meeting.collect("written", leaders, 2 * self.asked.timeout)
            if written:
                self._note(run_directory.SEEN, lambda: place.others([rank for rank in leaders if said.get(rank)]))
            meeting.put("seen", True)
            meeting.collect("seen", leaders, 2 * self.asked.timeout)
        finally:
            with contextlib.suppress(Late, OSError):
                within(self.asked.timeout, place.close)

    def others(self) -> Iterator[Report]:
        """The reports of the other ranks, as far as they come."""
        missing = [rank for rank in self.roll if rank != self.meeting.rank]
        limit = 2 * self.asked.timeout
        told = self.meeting.collect("report", missing, limit, lambda silent: self._say(f"waiting for {ranks(silent)}"))
        yield from (told[rank] for rank in sorted(told))


def _judge(rank: _Rank, reports: list[Report]) -> list[Finding]:
    asked, world = rank.asked, rank.meeting.world
    found = list(_attendance(rank, reports))
    found += versions.judge(reports)
    found += devices.judge(reports)
    found += allreduce.judge(reports, world)
    found += feeding.judge(reports, asked.rate, world)
    found += run_directory.judge(reports, asked.preset)
    found += clocks.judge(reports)
    found += wandb_reachability.judge(reports)
    found += limits.judge(reports)
    return found


def _attendance(rank: _Rank, reports: list[Report]) -> Iterator[Finding]:
    """Who came, who stayed away, who fell silent."""
    world, limit = rank.meeting.world, rank.asked.timeout
    meets = f"{rank.meeting.address}:{rank.meeting.port}"
    remedy = f"what they printed last says why; else their nodes cannot reach {meets}: a firewall, a wrong address"
    if rank.absent:
        came = findings.ranks(rank.absent)
        yield Finding(
            RED, "ranks", f"{came} of {world} did not come within {limit:g} s; no all-reduce was tried", remedy
        )
    silent = sorted(set(rank.roll) - {report["rank"] for report in reports})
    if silent:
        where = ", ".join(sorted({rank.roll[number] for number in silent}))
        yield Finding(RED, "ranks", f"{findings.ranks(silent)} came and then fell silent, on {where}", remedy)
    outer = int(os.environ.get("SLURM_NTASKS", "1"))
    if "SLURM_JOB_ID" in os.environ and outer > world:
        says = f"this job has {outer} tasks, and {world} took part"
        yield Finding(YELLOW, "ranks", says, "`srun python -m launch check …` in the job lets all of them take part")
    if not rank.absent and not silent:
        yield Finding(FINE, "ranks", f"{world} of {world} came: {findings.places(reports, all_ranks=True)}")


def _tell(asked: Check, rank: _Rank, found: list[Finding], reports: list[Report]) -> None:
    """Print the findings, and write everything to the JSON file."""
    print(findings.show_here(found, plain=bool(os.environ.get("NO_COLOR"))))
    unseen = [flag for flag, value in (("--shards", asked.shards), ("--run", asked.run_directory)) if value is None]
    if unseen:
        print(f"not looked at, as it was not named: {' and '.join(unseen)}")
    print(", ".join(f"{count(found, level)} {level}" for level in findings.LEVELS), flush=True)
    if asked.json is not None:
        content = {
            "format_version": FORMAT_VERSION,
            "version": version_line(),
            "time": time.time(),
            "findings": [vars(finding) for finding in found],
            "absent": rank.absent,
            "ranks": reports,
        }
        write_json(asked.json, content)
