"""What the system lets a process have: open files, and CPU time by affinity and control groups."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shards.core import process_pool
from trainer.distributed.rendezvous import cores_of_a_process
from trainer.preflight.findings import FINE, YELLOW, Finding, Report, errors, groups, places

NAME = "limits"
_FEW_FILES = 1024


def look(local_world: int) -> dict[str, Any]:
    """Limits of this process: "files" (None: none), "cores" by affinity, "quota" in cores (None: none), "mine"."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return {
        "files": None if files == resource.RLIM_INFINITY else files,
        "cores": process_pool.available_cores(),
        "quota": cpu_quota(),
        "mine": cores_of_a_process(local_world),
        "local_world": local_world,
    }


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Cores' worth of CPU time that the control groups of this process let it have; None: no limit was found."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    found = []
    for _, controllers, path in lines:
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents):  # a limit of any group above holds as well
            if not controllers:
                found.append(_quota(root / folder / "cpu.max"))
            elif "cpu" in controllers.split(","):
                place = root / controllers / folder if (root / controllers).is_dir() else root / "cpu" / folder
                found.append(_quota(place / "cpu.cfs_quota_us", place / "cpu.cfs_period_us"))
    return min((quota for quota in found if quota), default=None)


def _quota(*files: Path) -> float | None:
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None


def judge(reports: Sequence[Report]) -> list[Finding]:
    """Whether there are files and cores enough for a rank and its data workers."""
    good, found = errors(reports, NAME, NAME, "look at `ulimit -a` there")
    for facts, there in ((them[0][NAME], them) for them in groups(good, lambda r: repr(r[NAME])).values()):
        before, where = len(found), places(there)
        files, quota = facts["files"], facts["quota"]
        usable = facts["mine"] if quota is None else min(facts["mine"], quota / facts["local_world"])
        if files is not None and files < _FEW_FILES:
            says = f"{files:,} files may be open at once, on {where}: shards would be opened and closed all the time"
            found.append(Finding(YELLOW, NAME, says, "ulimit -n 4096, before the job or in --setup"))
        if quota is not None and quota < facts["cores"]:
            says = f"the control group allows {quota:g} cores' worth of time on {facts['cores']} cores, on {where}"
            threads = max(1, int(quota) // facts["local_world"])
            how = f"more threads than that hinder each other: train with --threads {threads}, or ask for more cores"
            found.append(Finding(YELLOW, NAME, says, how))
        if usable < 2:
            says = f"{_cores(usable)} for a rank, on {where}: it shares them with its data workers"
            how = "ask for more cores a task (srun --cpus-per-task), start fewer ranks, or train with --workers 0"
            found.append(Finding(YELLOW, NAME, says, how))
        if len(found) == before:
            allowed = "any number of" if files is None else f"{files:,}"
            found.append(Finding(FINE, NAME, f"{_cores(usable)} for a rank, {allowed} open files, on {where}"))
    return found


def _cores(number: float) -> str:
    return f"{number:g} core" + ("s" if number != 1 else "")
