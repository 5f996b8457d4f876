"""Limits of the system on a process: open files, and CPU cores by affinity and control groups."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shards.core import process_pool
from trainer.distributed.rendezvous import cores_per_process
from trainer.preflight.findings import FINE, YELLOW, Finding, Report, describe_ranks, group_by, split_errors

NAME = "limits"
_FEW_FILES = 1024


def gather(local_world: int) -> dict[str, Any]:
    """Return the limits "files", "cores" (affinity), "quota" (in cores) and "mine" (cores per rank); None: no limit."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return {
        "files": None if files == resource.RLIM_INFINITY else files,
        "cores": process_pool.available_cores(),
        "quota": cpu_quota(),
        "mine": cores_per_process(local_world),
        "local_world": local_world,
    }


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the CPU quota of this process's control groups in cores, or None if there is no limit."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    found = []
    for _, controllers, path in lines:
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents):  # limits of parent groups apply, too
            if not controllers:
                found.append(_quota(root / folder / "cpu.max"))
            elif "cpu" in controllers.split(","):
                group = root / controllers / folder if (root / controllers).is_dir() else root / "cpu" / folder
                found.append(_quota(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"))
    return min((quota for quota in found if quota), default=None)


def _quota(*files: Path) -> float | None:
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None


def assess(reports: Sequence[Report]) -> list[Finding]:
    """Assess whether a rank and its data workers have enough files and cores."""
    good, found = split_errors(reports, NAME, NAME, "see `ulimit -a` there")
    for facts, same in ((same[0][NAME], same) for same in group_by(good, lambda r: repr(r[NAME])).values()):
        before, where = len(found), describe_ranks(same)
        files, quota = facts["files"], facts["quota"]
        usable = facts["mine"] if quota is None else min(facts["mine"], quota / facts["local_world"])
        if files is not None and files < _FEW_FILES:
            says = f"only {files:,} open files are allowed, on {where}: shards would be reopened all the time"
            found.append(Finding(YELLOW, NAME, says, "ulimit -n 4096, before the job or in --setup"))
        if quota is not None and quota < facts["cores"]:
            says = f"the control group limits CPU time to {quota:g} of {facts['cores']} cores, on {where}"
            threads = max(1, int(quota) // facts["local_world"])
            how = f"more threads would slow each other down: train with --threads {threads}, or request more cores"
            found.append(Finding(YELLOW, NAME, says, how))
        if usable < 2:
            says = f"{_cores(usable)} per rank, on {where}, to share with its data workers"
            how = "request more cores per task (srun --cpus-per-task), start fewer ranks, or train with --workers 0"
            found.append(Finding(YELLOW, NAME, says, how))
        if len(found) == before:
            allowed = "any number of" if files is None else f"{files:,}"
            found.append(Finding(FINE, NAME, f"{_cores(usable)} per rank, {allowed} open files, on {where}"))
    return found


def _cores(number: float) -> str:
    return f"{number:g} core" + ("s" if number != 1 else "")
