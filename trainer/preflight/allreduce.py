"""An all-reduce over all ranks: is the sum right, and how much passes through?

The trainer adds gradients up by NCCL on GPUs and by gloo on CPUs, and its processes agree by gloo in either case; so
gloo is tried everywhere, and NCCL where there are GPUs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from trainer.preflight.findings import FINE, RED, Finding, Report, groups, places, ranks
from trainer.preflight.store import Meeting

NAME = "all-reduce"
_BYTES = {"gloo": 16 << 20, "nccl": 256 << 20}
_TIMES = 5
_INTERFACES = {
    "gloo": "name the network interface (`ip addr`): export GLOO_SOCKET_IFNAME=…; a node whose own name leads to "
    "127.0.1.1 in /etc/hosts needs it; a firewall must let the nodes reach each other at any port",
    "nccl": "NCCL_DEBUG=INFO says what it tries; name the interface: export NCCL_SOCKET_IFNAME=…; NCCL_IB_DISABLE=1 "
    "tells whether InfiniBand is what fails, NCCL_P2P_DISABLE=1 whether it is the way between GPUs of a node",
}


def open_group(meeting: Meeting) -> None:
    """Let torch connect the ranks by gloo. Ends within the meeting's limit, by an error if it must."""
    store = dist.PrefixStore("gloo", meeting.connect())  # pyright: ignore[reportPrivateImportUsage] - documented
    limit = timedelta(seconds=meeting.seconds)
    dist.init_process_group("gloo", store=store, rank=meeting.rank, world_size=meeting.world, timeout=limit)


def measure(backend: str, meeting: Meeting) -> dict[str, Any]:
    """Add up a tensor over all ranks by "gloo" or "nccl"; `open_group` was called.

    Returns:
        "right", "bytes" of the tensor, and "seconds" that one all-reduce takes.
    """
    device = torch.device("cuda", meeting.local_rank) if backend == "nccl" else torch.device("cpu")
    group: Any = None
    if backend == "nccl":
        torch.cuda.set_device(device)
        # Whoever calls this has a limit of his own; torch's would end the process, and its report with it.
        group = dist.new_group(backend="nccl", timeout=timedelta(hours=1))
    pattern = torch.arange(_BYTES[backend] // 4, device=device, dtype=torch.float32) % 7
    values = pattern * (meeting.rank + 1)  # small whole numbers, whose sums are exact in any order
    dist.all_reduce(values, group=group)
    right = bool(torch.equal(values, pattern * (meeting.world * (meeting.world + 1) // 2)))
    values.zero_()
    seconds = []
    for _ in range(_TIMES):
        _wait_for(device)
        begun = time.perf_counter()
        dist.all_reduce(values, group=group)
        _wait_for(device)
        seconds.append(time.perf_counter() - begun)
    return {"right": right, "bytes": _BYTES[backend], "seconds": sorted(seconds)[_TIMES // 2]}


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def judge(reports: Sequence[Report], world: int) -> list[Finding]:
    """Whether the ranks can add up together, by each backend that was tried."""
    found = []
    for backend in _BYTES:
        tried = [report for report in reports if backend in report]
        if not tried:
            continue
        failed = [report for report in tried if "error" in report[backend]]
        wrong = [report for report in tried if report[backend].get("right") is False]
        if failed:
            said = " / ".join(groups(failed, lambda report: report[backend]["error"]))  # noqa: B023
            silent = sorted(set(range(world)) - {report["rank"] for report in reports})
            more = f"; {ranks(silent)} said nothing" if silent else ""
            says = f"over {backend} it did not come to its end on {places(failed)} ({said}){more}"
            found.append(Finding(RED, NAME, says, _INTERFACES[backend]))
        elif wrong:
            says = f"over {backend} the sum is WRONG on {places(wrong)}"
            found.append(Finding(RED, NAME, says, "do not train here: have memory, GPUs and network looked at"))
        else:
            found.append(Finding(FINE, NAME, _figures(backend, tried, world)))
    return found


def _figures(backend: str, reports: Sequence[Report], world: int) -> str:
    """The slowest rank's figures; bus bandwidth as nccl-tests has it, so that numbers of ranks compare."""
    slowest = max(reports, key=lambda report: report[backend]["seconds"])[backend]
    bus = slowest["bytes"] / slowest["seconds"] * 2 * (world - 1) / world / 1e9
    return (
        f"{backend} over {world} ranks: right; {slowest['bytes'] / 2**20:.0f} MiB in "
        f"{slowest['seconds'] * 1e3:,.1f} ms, bus bandwidth {bus:,.2f} GB/s (bytes / seconds x 2(n-1)/n)"
    )
