"""GPUs as torch sees them, held against what the driver lists; whether each rank's device really computes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from trainer.distributed import precision
from trainer.preflight.findings import FINE, RED, YELLOW, Finding, Report, amount, differing, errors, groups, places

NAME = "devices"
_TAKEN = 2e9  # bytes of a GPU in use by others from which it is worth a line; a driver's own take less
_WHERE = "run this where the job will run (a login node often has none), or give --device cpu if it is to train on CPUs"


def look(asked: str, local_rank: int, local_world: int) -> dict[str, Any]:
    """What there is to compute on, and whether this rank's part of it does.

    Args:
        asked: "auto", "cpu" or "cuda", as the trainer's --device.
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
            facts["why"] = _why_not()
        return facts | {"precision": precision.resolve("auto", torch.device("cpu"))}
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        capability = f"{gpu.major}.{gpu.minor}"
        facts["gpus"].append({"name": gpu.name, "memory": gpu.total_memory, "capability": capability})
    if local_rank < len(facts["gpus"]):
        device = torch.device("cuda", local_rank)
        facts["precision"] = precision.resolve("auto", device)
        facts["bf16"] = torch.cuda.is_bf16_supported(including_emulation=False)
        facts |= _try(device)
    return facts


def listed() -> dict[str, Any] | None:
    """The driver's version and the names of all GPUs that nvidia-smi lists; None where there is no nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": f"nvidia-smi gives no answer ({type(error).__name__})"}
    rows = [line.split(", ", 1) for line in done.stdout.splitlines() if ", " in line]
    if done.returncode or not rows:
        return {"error": "nvidia-smi: " + " ".join((done.stdout + done.stderr).split())[:200]}
    return {"driver": rows[0][0], "names": [name for _, name in rows]}


def _build() -> str | None:
    """What torch was built for; None for CPUs alone."""
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip else None


def _why_not() -> str:
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0][:200]
    return "it sees no device"


def _try(device: torch.device) -> dict[str, Any]:
    """Multiply two matrices there, whose product is known; and how much memory is free."""
    try:
        free, total = torch.cuda.mem_get_info(device)
        ones = torch.ones(64, 64, device=device)
        right = bool((ones @ ones == 64).all())
    except RuntimeError as error:
        return {"computes": False, "why": str(error).strip().splitlines()[0][:200]}
    return {"computes": right, "free": free, "total": total} | ({} if right else {"why": "a product came out wrong"})


# ---------------------------------------------------------------- judged


def judge(reports: Sequence[Report]) -> list[Finding]:
    """What keeps ranks from their GPUs, what is unlike between them, and what there is."""
    good, found = errors(reports, NAME, NAME, "look at the driver there: `nvidia-smi`, `dmesg`")
    for facts, there in _alike(good):
        found += _visibility(facts, places(there))
    for report in good:
        found += _of_rank(report[NAME], report)
    if good:
        found += _unlike(good)
        kinds = groups(good, lambda report: _described(report[NAME]))
        found += [Finding(FINE, NAME, f"{kind} on {places(there)}") for kind, there in kinds.items()]
    return found


def _alike(reports: Iterable[Report]) -> list[tuple[dict[str, Any], list[Report]]]:
    """The ranks whose machines show the same, with what they show."""
    keys = ("build", "available", "listed", "visible", "local_world", "gpus", "asked")
    alike = groups(reports, lambda report: repr([report[NAME].get(key) for key in keys]))
    return [(there[0][NAME], there) for there in alike.values()]


def _visibility(facts: dict[str, Any], where: str) -> list[Finding]:
    """Between the driver and torch."""
    if facts["asked"] == "cpu":
        return []
    listing = facts["listed"] or {}
    names, seen = listing.get("names", []), len(facts["gpus"])
    if error := listing.get("error"):
        how = f"mend the driver (has it been updated without a restart?); {_WHERE}"
        return [Finding(RED, NAME, f"{error}, on {where}", how)]
    if names and not facts["build"]:
        how = "install a CUDA build of torch (https://pytorch.org/get-started/locally), or give --device cpu"
        return [Finding(RED, NAME, f"{len(names)} GPUs are there, and torch is built for CPUs alone, on {where}", how)]
    if facts["build"] and not facts["available"]:
        why = facts.get("why", "")
        says = f"torch is built for {facts['build']} and finds no GPU ({why}), on {where}"
        if not names:
            return [Finding(RED, NAME, says, f"install the GPU's driver, or {_WHERE}")]
        how = f"the driver {listing['driver']} may be too old for this build: install a build for an older CUDA"
        return [Finding(RED, NAME, says, how)]
    if facts["asked"] == "cuda" and not facts["available"]:
        return [Finding(RED, NAME, f"--device cuda, and there is no GPU, on {where}", _WHERE)]
    found = []
    if seen < len(names):
        says = f"nvidia-smi lists {len(names)} GPUs and torch sees {seen}, on {where}"
        if facts["visible"] is not None:
            how = f"CUDA_VISIBLE_DEVICES={facts['visible']} hides the others; unset it if that is not meant"
            found.append(Finding(YELLOW, NAME, says, how))
        else:
            how = "a GPU may have failed (`nvidia-smi -q`, `dmesg`), or be split into instances (MIG)"
            found.append(Finding(RED, NAME, says, how))
    if seen > facts["local_world"]:
        says = f"{seen} GPUs and {facts['local_world']} ranks, on {where}: the others stay idle"
        found.append(Finding(YELLOW, NAME, says, "start as many ranks as GPUs (here: --processes, or srun's tasks)"))
    if 0 < seen < facts["local_world"]:
        says = f"{facts['local_world']} ranks and {seen} GPUs, on {where}"
        how = "start at most as many ranks on a node as it has GPUs; with srun, ask by --gres and not --gpus-per-task"
        found.append(Finding(RED, NAME, says, how))
    return found


def _of_rank(facts: dict[str, Any], report: Report) -> list[Finding]:
    where = places([report])
    if facts.get("computes") is False:
        how = "if this build of torch has no code for this GPU, install one that has; else have the GPU looked at"
        return [Finding(RED, NAME, f"the GPU of {where} does not compute: {facts.get('why')}", how)]
    if "free" in facts and facts["total"] - facts["free"] > _TAKEN:
        says = (
            f"the GPU of {where} has {amount(facts['free'])} of {amount(facts['total'])} free: somebody else is on it"
        )
        return [Finding(YELLOW, NAME, says, "`nvidia-smi` shows whose processes these are")]
    return []


def _unlike(reports: Sequence[Report]) -> list[Finding]:
    found = []
    kinds = groups(reports, lambda report: report[NAME]["device"])
    if len(kinds) > 1:
        how = "give every node of the job the same; or --device cpu"
        found.append(Finding(RED, NAME, f"some ranks have GPUs and some have not: {differing(kinds)}", how))
    precisions = groups(reports, lambda report: report[NAME].get("precision"))
    if len(precisions) > 1 and len(kinds) == 1:
        says = f"--mixed-precision auto would not be the same everywhere: {differing(precisions)}"
        found.append(Finding(RED, NAME, says, "name one for the training: --mixed-precision no, or fp16 on GPUs"))
    names = groups(reports, lambda report: ", ".join(sorted({gpu["name"] for gpu in report[NAME]["gpus"]})))
    if len(names) > 1 and len(kinds) == 1:
        how = "the slowest sets the pace of all; ask SLURM for one kind: --constraint, or --gres gpu:KIND:N"
        found.append(Finding(YELLOW, NAME, f"GPUs of several kinds: {differing(names)}", how))
    return found


def _described(facts: dict[str, Any]) -> str:
    """One line for what is there."""
    precision = f"precision auto is {facts.get('precision', 'unknown')}"
    if facts["device"] == "cpu":
        built = "torch built for CPUs" if not facts["build"] else f"torch built for {facts['build']}"
        return f"CPU, {built}, {precision}"
    kinds: dict[str, int] = {}
    for gpu in facts["gpus"]:
        name = f"{gpu['name']} ({amount(gpu['memory'])}, compute capability {gpu['capability']})"
        kinds[name] = kinds.get(name, 0) + 1
    driver = f", driver {facts['listed']['driver']}" if (facts["listed"] or {}).get("driver") else ""
    bf16 = ", bf16 in hardware" if facts.get("bf16") else ", no bf16 in hardware"
    named = ", ".join(f"{number} x {name}" for name, number in kinds.items())
    return f"{named}{driver}, torch built for {facts['build']}{bf16}, {precision}"
