"""The whole check on every rank: connect, gather facts, and send them to rank 0, which assesses and prints them."""

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
    findings,
    limits,
    run_directory,
    versions,
    wandb_reachability,
)
from trainer.preflight.findings import FINE, RED, YELLOW, Finding, Report, count, ranks
from trainer.preflight.options import Check
from trainer.preflight.run_directory import RunDirectoryProbe
from trainer.preflight.store import SharedStore
from trainer.process.timeouts import TimedOut, run_with_timeout

FORMAT_VERSION = 1


def run_checks(asked: Check) -> None:
    """Run this rank's part of a check; rank 0 prints the findings.

    Raises:
        UserError: a launcher's variables are missing.
        Failure: there are red findings, or rank 0 cannot be reached.
    """
    rank = _Rank(asked, SharedStore(asked.timeout))
    report = rank.gather()
    rank.store.put("report", report)
    if rank.store.rank:
        return
    reports = [report, *rank.other_reports()]
    found = _assess(rank, reports)
    _print(asked, rank, found, reports)
    if red := count(found, RED):
        raise Failure("check-failed", f"{red} red finding{'s' if red > 1 else ''} (listed above, with what to do)")


class _Rank:
    """One rank's part of the check."""

    def __init__(self, asked: Check, store: SharedStore) -> None:
        self.asked, self.store = asked, store
        self._progress(f"waiting for {store.world} ranks" if store.world > 1 else "checking")
        self.nodes = store.assemble(lambda missing: self._progress(f"waiting for {ranks(missing)}"))
        first: dict[str, int] = {}
        for rank, node in self.nodes.items():
            first.setdefault(node, rank)
        self.leaders = list(first.values())  # the first rank of each node
        self.absent = [rank for rank in range(store.world) if rank not in self.nodes]
        self._report: dict[str, Any] = {"rank": store.rank, "node": store.node}
        self._report["ranks_here"] = sum(node == store.node for node in self.nodes.values())

    def _progress(self, doing: str) -> None:
        """Print progress for a person at the terminal."""
        if self.store.rank == 0:
            print(f"… {doing}", file=sys.stderr, flush=True)

    def _record(self, name: str, gather: Callable[[], dict[str, Any]], seconds: float | None = None) -> bool:
        """Add the facts of a check, or its error, to the report; return whether it succeeded."""
        limit = self.asked.timeout if seconds is None else seconds
        try:
            self._report[name] = run_with_timeout(limit, gather)
        except UserError as error:
            self._report[name] = {"error": str(error)}
        except (TimedOut, OSError, RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())[:300] or type(error).__name__
            self._report[name] = {"error": text if isinstance(error, TimedOut) else f"{type(error).__name__}: {text}"}
        return "error" not in self._report[name]

    def gather(self) -> dict[str, Any]:
        """Run all checks; those that need several ranks run in the same order on all of them."""
        store, asked = self.store, self.asked
        leads = store.rank in self.leaders
        if leads and len(self.leaders) > 1:
            self._progress("comparing clocks")
            self._record(clocks.NAME, lambda: clocks.gather(store, self.leaders), 2 * asked.timeout)
        self._progress("versions, devices, limits")
        self._record(versions.NAME, versions.gather)
        self._record(limits.NAME, lambda: limits.gather(store.local_world))
        self._record(devices.NAME, lambda: devices.gather(asked.device, store.local_rank, store.local_world))
        self._test_allreduce()
        if leads and asked.run_directory is not None:
            self._progress(f"testing {asked.run_directory}")
            self._test_run_directory(asked.run_directory)
        if leads and asked.shards is not None:
            self._progress("reading the dataset")
            node = self.leaders.index(store.rank)
            where, nodes = asked.shards, len(self.leaders)
            self._record(data.NAME, lambda: data.gather(where, node, nodes))
        if store.rank == 0 and "wandb" in asked.log_with:
            self._progress("connecting to Weights & Biases")
            self._record(wandb_reachability.NAME, wandb_reachability.gather)
        return self._report

    def _test_allreduce(self) -> None:
        """Test an all-reduce if all ranks have connected: gloo on all, and NCCL if all have a GPU."""
        store, limit = self.store, self.asked.timeout
        if self.absent or store.world == 1:
            return
        self._progress("all-reduce over all ranks")

        def gloo() -> dict[str, Any]:
            allreduce.open_group(store)
            return allreduce.measure("gloo", store)

        facts = self._report[devices.NAME]
        gpu = facts.get("device") == "cuda" and facts.get("computes") is True
        done = self._record("gloo", gloo, 2 * limit)
        store.put("gpu", done and gpu)
        # NCCL would wait forever for a rank without a GPU: make sure that all have one.
        answers = store.collect("gpu", range(store.world), 2 * limit) if done else {}
        if len(answers) == store.world and all(answers.values()):
            done = self._record("nccl", lambda: allreduce.measure("nccl", store), 2 * limit)
        if done:
            dist.destroy_process_group()

    def _test_run_directory(self, run: Path) -> None:
        store, leaders = self.store, self.leaders
        if store.rank == 0:
            store.put("token", secrets.token_hex(6))
        token = store.get("token", 0, self.asked.timeout)
        probe = RunDirectoryProbe(run, token, store.rank)
        try:
            written = self._record(run_directory.NAME, probe.gather)
            store.put("written", written)
            answers = store.collect("written", leaders, 2 * self.asked.timeout)
            if written:
                ranks_written = [rank for rank in leaders if answers.get(rank)]
                self._record(run_directory.SEEN, lambda: probe.unseen(ranks_written))
            store.put("seen", True)
            store.collect("seen", leaders, 2 * self.asked.timeout)
        finally:
            with contextlib.suppress(TimedOut, OSError):
                run_with_timeout(self.asked.timeout, probe.close)

    def other_reports(self) -> Iterator[Report]:
        """Yield the reports of the other ranks that arrive in time."""
        missing = [rank for rank in self.nodes if rank != self.store.rank]
        limit = 2 * self.asked.timeout
        found = self.store.collect(
            "report", missing, limit, lambda silent: self._progress(f"waiting for {ranks(silent)}")
        )
        yield from (found[rank] for rank in sorted(found))


def _assess(rank: _Rank, reports: list[Report]) -> list[Finding]:
    asked, world = rank.asked, rank.store.world
    found = list(_attendance(rank, reports))
    found += versions.assess(reports)
    found += devices.assess(reports)
    found += allreduce.assess(reports, world)
    found += data.assess(reports, asked.rate, world)
    found += run_directory.assess(reports, asked.preset)
    found += clocks.assess(reports)
    found += wandb_reachability.assess(reports)
    found += limits.assess(reports)
    return found


def _attendance(rank: _Rank, reports: list[Report]) -> Iterator[Finding]:
    """Assess which ranks have connected and reported."""
    world, limit = rank.store.world, rank.asked.timeout
    rendezvous = f"{rank.store.address}:{rank.store.port}"
    remedy = (
        f"see their last output; if there is none, their nodes cannot reach {rendezvous}: a firewall or a wrong address"
    )
    if rank.absent:
        absent = findings.ranks(rank.absent)
        yield Finding(
            RED, "ranks", f"{absent} of {world} did not connect within {limit:g} s; no all-reduce was tested", remedy
        )
    silent = sorted(set(rank.nodes) - {report["rank"] for report in reports})
    if silent:
        where = ", ".join(sorted({rank.nodes[number] for number in silent}))
        yield Finding(RED, "ranks", f"{findings.ranks(silent)} connected, but sent no report, on {where}", remedy)
    outer = int(os.environ.get("SLURM_NTASKS", "1"))
    if "SLURM_JOB_ID" in os.environ and outer > world:
        says = f"this job has {outer} tasks, but only {world} took part"
        yield Finding(YELLOW, "ranks", says, "run `srun cgan check …` in the job, so that all tasks take part")
    if not rank.absent and not silent:
        yield Finding(
            FINE, "ranks", f"{world} of {world} connected: {findings.describe_ranks(reports, all_ranks=True)}"
        )


def _print(asked: Check, rank: _Rank, found: list[Finding], reports: list[Report]) -> None:
    """Print the findings, and write everything to the JSON file if there is one."""
    print(findings.render_for_stdout(found, plain=bool(os.environ.get("NO_COLOR"))))
    unchecked = [flag for flag, value in (("--shards", asked.shards), ("--run", asked.run_directory)) if value is None]
    if unchecked:
        print(f"not checked, since not given: {' and '.join(unchecked)}")
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
