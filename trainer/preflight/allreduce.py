"""All-reduce over all ranks: correctness and bandwidth.

The trainer all-reduces gradients with NCCL on GPUs and with gloo on CPUs, and coordinates its processes with gloo in
both cases; so gloo is tested everywhere, and NCCL where there are GPUs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from trainer.preflight.findings import FINE, RED, Finding, Report, describe_ranks, group_by, ranks
from trainer.preflight.store import SharedStore

NAME = "all-reduce"
_BYTES = {"gloo": 16 << 20, "nccl": 256 << 20}
_REPETITIONS = 5
_REMEDIES = {
    "gloo": "set the network interface (see `ip addr`): export GLOO_SOCKET_IFNAME=…; needed if a node's name "
    "resolves to 127.0.1.1 in /etc/hosts; a firewall must allow all ports between the nodes",
    "nccl": "NCCL_DEBUG=INFO prints what it tries; set the interface: export NCCL_SOCKET_IFNAME=…; NCCL_IB_DISABLE=1 "
    "shows whether InfiniBand is the cause, NCCL_P2P_DISABLE=1 whether it is the link between GPUs of a node",
}


def open_group(store: SharedStore) -> None:
    """Connect the ranks by gloo, within the store's time limit."""
    gloo_store = dist.PrefixStore("gloo", store.connect())  # pyright: ignore[reportPrivateImportUsage] - documented
    limit = timedelta(seconds=store.seconds)
    dist.init_process_group("gloo", store=gloo_store, rank=store.rank, world_size=store.world, timeout=limit)


def measure(backend: str, store: SharedStore) -> dict[str, Any]:
    """All-reduce a tensor over all ranks with "gloo" or "nccl", after `open_group`.

    Returns:
        "right" (whether the sum is correct), "bytes" of the tensor, and median "seconds" of an all-reduce.
    """
    device = torch.device("cuda", store.local_rank) if backend == "nccl" else torch.device("cpu")
    group: Any = None
    if backend == "nccl":
        torch.cuda.set_device(device)
        # The caller sets a time limit; torch's own would end the process, and with it the report.
        group = dist.new_group(backend="nccl", timeout=timedelta(hours=1))
    pattern = torch.arange(_BYTES[backend] // 4, device=device, dtype=torch.float32) % 7
    values = pattern * (store.rank + 1)  # small integers, whose sums are exact in any order
    dist.all_reduce(values, group=group)
    right = bool(torch.equal(values, pattern * (store.world * (store.world + 1) // 2)))
    values.zero_()
    seconds = []
    for _ in range(_REPETITIONS):
        _synchronize(device)
        start = time.perf_counter()
        dist.all_reduce(values, group=group)
        _synchronize(device)
        seconds.append(time.perf_counter() - start)
    return {"right": right, "bytes": _BYTES[backend], "seconds": sorted(seconds)[_REPETITIONS // 2]}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def assess(reports: Sequence[Report], world: int) -> list[Finding]:
    """Assess the all-reduce of each backend that was tested."""
    found = []
    for backend in _BYTES:
        tested = [report for report in reports if backend in report]
        if not tested:
            continue
        failed = [report for report in tested if "error" in report[backend]]
        wrong = [report for report in tested if report[backend].get("right") is False]
        if failed:
            messages = " / ".join(group_by(failed, lambda report: report[backend]["error"]))  # noqa: B023
            silent = sorted(set(range(world)) - {report["rank"] for report in reports})
            more = f"; no report from {ranks(silent)}" if silent else ""
            says = f"{backend} failed or timed out on {describe_ranks(failed)} ({messages}){more}"
            found.append(Finding(RED, NAME, says, _REMEDIES[backend]))
        elif wrong:
            says = f"{backend} computes a WRONG sum on {describe_ranks(wrong)}"
            found.append(Finding(RED, NAME, says, "do not train here: have memory, GPUs and network tested"))
        else:
            found.append(Finding(FINE, NAME, _describe(backend, tested, world)))
    return found


def _describe(backend: str, reports: Sequence[Report], world: int) -> str:
    """Describe the slowest rank; bus bandwidth as in nccl-tests, comparable between numbers of ranks."""
    slowest = max(reports, key=lambda report: report[backend]["seconds"])[backend]
    bus = slowest["bytes"] / slowest["seconds"] * 2 * (world - 1) / world / 1e9
    return (
        f"{backend} over {world} ranks: correct; {slowest['bytes'] / 2**20:.0f} MiB in "
        f"{slowest['seconds'] * 1e3:,.1f} ms, bus bandwidth {bus:,.2f} GB/s (bytes / seconds x 2(n-1)/n)"
    )
