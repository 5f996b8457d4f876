"""GPUs that torch sees, compared with those that the driver lists; whether the device of each rank computes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from trainer.distributed import precision
from trainer.preflight.findings import (
    FINE,
    RED,
    YELLOW,
    Finding,
    Report,
    describe_groups,
    describe_ranks,
    format_bytes,
    group_by,
    split_errors,
)

NAME = "devices"
_IN_USE = 2e9  # bytes of GPU memory in use by others that are worth a warning; a driver itself uses less
_WHERE = "run this where the job will run (a login node often has no GPU), or use --device cpu to train on CPUs"


def gather(asked: str, local_rank: int, local_world: int) -> dict[str, Any]:
    """Return the facts about the devices, and whether that of this rank computes.

    Args:
        asked: "auto", "cpu" or "cuda", as for --device of the trainer.
        local_rank, local_world: this rank on its node, and the ranks of the node.
    """
    available = torch.cuda.is_available()
    facts: dict[str, Any] = {
        "asked": asked,
        "build": _build(),
        "available": available,
        "listed": None if asked == "cpu" else listed(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("HIP_VISIBLE_DEVICES")),
        "local_world": local_world,
        "gpus": [],
        "device": "cuda" if asked != "cpu" and available else "cpu",
    }
    if facts["device"] == "cpu":
        if facts["build"] and asked != "cpu":
            facts["why"] = _reason_without_gpu()
        return facts | {"precision": precision.resolve("auto", torch.device("cpu"))}
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        capability = f"{gpu.major}.{gpu.minor}"
        facts["gpus"].append({"name": gpu.name, "memory": gpu.total_memory, "capability": capability})
    if local_rank < len(facts["gpus"]):
        device = torch.device("cuda", local_rank)
        facts["precision"] = precision.resolve("auto", device)
        facts["bf16"] = torch.cuda.is_bf16_supported(including_emulation=False)
        facts |= _test_compute(device)
    return facts


def listed() -> dict[str, Any] | None:
    """Return the driver version and the names of all GPUs that nvidia-smi lists; None without nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": f"nvidia-smi does not answer ({type(error).__name__})"}
    rows = [line.split(", ", 1) for line in done.stdout.splitlines() if ", " in line]
    if done.returncode or not rows:
        return {"error": "nvidia-smi: " + " ".join((done.stdout + done.stderr).split())[:200]}
    return {"driver": rows[0][0], "names": [name for _, name in rows]}


def _build() -> str | None:
    """Return what torch was built for; None: CPU only."""
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip else None


def _reason_without_gpu() -> str:
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0][:200]
    return "no device is visible"


def _test_compute(device: torch.device) -> dict[str, Any]:
    """Multiply two matrices whose product is known, and return whether it is right and how much memory is free."""
    try:
        free, total = torch.cuda.mem_get_info(device)
        ones = torch.ones(64, 64, device=device)
        right = bool((ones @ ones == 64).all())
    except RuntimeError as error:
        return {"computes": False, "why": str(error).strip().splitlines()[0][:200]}
    return {"computes": right, "free": free, "total": total} | (
        {} if right else {"why": "wrong result of a matrix product"}
    )


# ---------------------------------------------------------------- assessment


def assess(reports: Sequence[Report]) -> list[Finding]:
    """Assess whether all ranks can use their GPUs and have the same devices."""
    good, found = split_errors(reports, NAME, NAME, "check the driver there: `nvidia-smi`, `dmesg`")
    for facts, same in _group_by_machine(good):
        found += _assess_visibility(facts, describe_ranks(same))
    for report in good:
        found += _assess_rank(report[NAME], report)
    if good:
        found += _assess_differences(good)
        kinds = group_by(good, lambda report: _describe(report[NAME]))
        found += [Finding(FINE, NAME, f"{kind} on {describe_ranks(same)}") for kind, same in kinds.items()]
    return found


def _group_by_machine(reports: Iterable[Report]) -> list[tuple[dict[str, Any], list[Report]]]:
    """Group ranks with the same facts about their machine, and return the facts with each group."""
    keys = ("build", "available", "listed", "visible", "local_world", "gpus", "asked")
    grouped = group_by(reports, lambda report: repr([report[NAME].get(key) for key in keys]))
    return [(same[0][NAME], same) for same in grouped.values()]


def _assess_visibility(facts: dict[str, Any], where: str) -> list[Finding]:
    """Compare what the driver lists with what torch sees."""
    if facts["asked"] == "cpu":
        return []
    listing = facts["listed"] or {}
    names, visible = listing.get("names", []), len(facts["gpus"])
    if error := listing.get("error"):
        how = f"repair the driver (was it updated without a restart?); {_WHERE}"
        return [Finding(RED, NAME, f"{error}, on {where}", how)]
    if names and not facts["build"]:
        how = "install a CUDA build of torch (https://pytorch.org/get-started/locally), or use --device cpu"
        return [Finding(RED, NAME, f"{len(names)} GPUs exist, but torch is built for CPUs only, on {where}", how)]
    if facts["build"] and not facts["available"]:
        why = facts.get("why", "")
        says = f"torch is built for {facts['build']} and finds no GPU ({why}), on {where}"
        if not names:
            return [Finding(RED, NAME, says, f"install the GPU's driver, or {_WHERE}")]
        how = f"the driver {listing['driver']} may be too old for this build: install a build for an older CUDA"
        return [Finding(RED, NAME, says, how)]
    if facts["asked"] == "cuda" and not facts["available"]:
        return [Finding(RED, NAME, f"--device cuda, but there is no GPU, on {where}", _WHERE)]
    found = []
    if visible < len(names):
        says = f"nvidia-smi lists {len(names)} GPUs and torch sees {visible}, on {where}"
        if facts["visible"] is not None:
            how = f"CUDA_VISIBLE_DEVICES={facts['visible']} hides the others; unset it if that is not intended"
            found.append(Finding(YELLOW, NAME, says, how))
        else:
            how = "a GPU may have failed (`nvidia-smi -q`, `dmesg`), or be split into instances (MIG)"
            found.append(Finding(RED, NAME, says, how))
    if visible > facts["local_world"]:
        says = f"{visible} GPUs and {facts['local_world']} ranks, on {where}: the other GPUs stay idle"
        found.append(Finding(YELLOW, NAME, says, "start one rank per GPU (--processes, or tasks of srun)"))
    if 0 < visible < facts["local_world"]:
        says = f"{facts['local_world']} ranks and {visible} GPUs, on {where}"
        how = "start at most one rank per GPU; with srun, request GPUs with --gres and not --gpus-per-task"
        found.append(Finding(RED, NAME, says, how))
    return found


def _assess_rank(facts: dict[str, Any], report: Report) -> list[Finding]:
    where = describe_ranks([report])
    if facts.get("computes") is False:
        how = "if this build of torch does not support the GPU, install one that does; else have the GPU tested"
        return [Finding(RED, NAME, f"the GPU of {where} does not compute: {facts.get('why')}", how)]
    if "free" in facts and facts["total"] - facts["free"] > _IN_USE:
        free = f"{format_bytes(facts['free'])} of {format_bytes(facts['total'])}"
        says = f"the GPU of {where} has {free} free: others use it"
        return [Finding(YELLOW, NAME, says, "`nvidia-smi` lists the processes")]
    return []


def _assess_differences(reports: Sequence[Report]) -> list[Finding]:
    found = []
    kinds = group_by(reports, lambda report: report[NAME]["device"])
    if len(kinds) > 1:
        how = "use the same devices on every node of the job, or --device cpu"
        found.append(Finding(RED, NAME, f"only some ranks have GPUs: {describe_groups(kinds)}", how))
    precisions = group_by(reports, lambda report: report[NAME].get("precision"))
    if len(precisions) > 1 and len(kinds) == 1:
        says = f"--mixed-precision auto differs between ranks: {describe_groups(precisions)}"
        found.append(Finding(RED, NAME, says, "choose one for the training: --mixed-precision no, or fp16 on GPUs"))
    names = group_by(reports, lambda report: ", ".join(sorted({gpu["name"] for gpu in report[NAME]["gpus"]})))
    if len(names) > 1 and len(kinds) == 1:
        how = "the slowest GPU determines the speed; request one kind from SLURM: --constraint, or --gres gpu:KIND:N"
        found.append(Finding(YELLOW, NAME, f"different kinds of GPUs: {describe_groups(names)}", how))
    return found


def _describe(facts: dict[str, Any]) -> str:
    """Describe the devices of a rank in one line."""
    precision = f"precision auto is {facts.get('precision', 'unknown')}"
    if facts["device"] == "cpu":
        built = "torch built for CPUs" if not facts["build"] else f"torch built for {facts['build']}"
        return f"CPU, {built}, {precision}"
    kinds: dict[str, int] = {}
    for gpu in facts["gpus"]:
        name = f"{gpu['name']} ({format_bytes(gpu['memory'])}, compute capability {gpu['capability']})"
        kinds[name] = kinds.get(name, 0) + 1
    driver = f", driver {facts['listed']['driver']}" if (facts["listed"] or {}).get("driver") else ""
    bf16 = ", bf16 in hardware" if facts.get("bf16") else ", no bf16 in hardware"
    named = ", ".join(f"{number} x {name}" for name, number in kinds.items())
    return f"{named}{driver}, torch built for {facts['build']}{bf16}, {precision}"
