"""Join the process group of a job from the launcher's environment variables, or explain what is wrong."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from itertools import pairwise

import psutil
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from shards.core import process_pool
from shards.core.errors import Failure, UserError
from trainer.distributed import network_interfaces
from trainer.distributed.device_wait import LostContact
from trainer.distributed.stoppable_wait import stoppable

# What errors of collectives contain when another rank is lost or late. CUDA's own errors can say "timed out", too.
_BROKEN_CONTACT = "onnection|imed out|imeout|gloo|NCCL"
_TAKEN = "failed to listen|EADDRINUSE"
_NCCL_WAITS = 15.0  # seconds longer than gloo: gloo raises an error, while NCCL's watchdog kills the process
_STRATEGIES = {  # variables that `accelerate launch` sets
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
_HOW = (
    "on GPUs launch with --multi_gpu --num_processes N, "
    "on a CPU with --config_file launch/accelerate/cpu_processes.yaml"
)


def join(device: torch.device, timeout: float) -> Accelerator:
    """Let Accelerate join the process group of the job, if it has more than one process.

    Args:
        device: the device of this process.
        timeout: seconds to wait for other ranks, here and in each collective.

    Raises:
        UserError: the launcher's variables are incomplete, or launcher and Accelerate disagree on the world size.
        Failure: the ranks did not find each other, or there are fewer GPUs than processes.
    """
    _check_strategy()
    if device.type == "cuda":
        _check_gpu_count()
    cpu = device.type == "cpu"
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1 and "WORLD_SIZE" not in os.environ:
        raise UserError(
            "launcher-mismatch",
            f"srun started {tasks} tasks without a rendezvous; start them through launch/slurm/rank.sh",
        )
    network_interfaces.choose_gloo_interface()
    patience = timedelta(seconds=timeout if cpu else timeout + _NCCL_WAITS)
    handlers = [
        InitProcessGroupKwargs(timeout=patience),
        # Every rank keeps its own BatchNorm statistics; they are averaged when saved.
        DistributedDataParallelKwargs(broadcast_buffers=False),
    ]
    try:
        with stoppable("the other ranks"):
            if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
                _join_restarted(cpu, patience)
            accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=handlers)
    except ValueError as error:  # a launcher's variables are incomplete
        raise UserError("launcher-mismatch", f"the launcher's environment variables are incomplete: {error}") from None
    except RuntimeError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        if re.search(_TAKEN, str(error)):
            raise Failure(
                "port-in-use",
                f"rank 0 cannot listen on {place}, which another process uses; "
                "use another port (--main_process_port, or MASTER_PORT), or end that process",
            ) from None
        if not is_lost_contact(error):
            raise
        raise Failure(
            "rendezvous-failed",
            f"the ranks of this job did not find each other at {place} within {timeout:g} s "
            f"({str(error).strip().splitlines()[0]}); check that all are started and that no firewall blocks them",
        ) from None
    _check_world(accelerator.num_processes)
    return accelerator


def is_lost_contact(error: Exception) -> bool:
    """Return whether a collective failed because another rank is lost or late."""
    if isinstance(error, LostContact):
        return True
    text = str(error)
    if "CUDA error" in text and "NCCL" not in text:
        return False
    return isinstance(error, RuntimeError) and re.search(_BROKEN_CONTACT, text) is not None


def _join_restarted(cpu: bool, patience: timedelta) -> None:
    """Initialize the process group of a launcher's restart, before Accelerate does.

    The ranks' addresses are in the launcher's store, which outlives the first attempt: without a prefix per attempt,
    a rank could read the address of a process that is gone.
    """
    store, rank, world = next(rendezvous("env://", timeout=patience))
    store = PrefixStore(f"try {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("gloo" if cpu else "nccl", store=store, rank=rank, world_size=world, timeout=patience)


def _check_world(world: int) -> None:
    """Check the world size against the launcher's WORLD_SIZE and its command line."""
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked != world:
        raise UserError(
            "launcher-mismatch",
            f"the launcher started {asked} processes but Accelerate sees {world}, each training alone; {_HOW}",
        )
    wanted = _wanted_of_launcher()
    if wanted is not None and wanted != world:
        raise UserError(
            "launcher-mismatch", f"`accelerate launch` was asked for {wanted} processes and started {world}; {_HOW}"
        )


def _wanted_of_launcher() -> int | None:
    """Return --num_processes of the launcher's command line: with --cpu, or alone, it silently starts one process."""
    if "ACCELERATE_MIXED_PRECISION" not in os.environ:
        return None
    try:
        words = " ".join(psutil.Process(os.getppid()).cmdline()).replace("=", " ").split()
    except psutil.Error:
        return None
    for option, value in pairwise(words):
        if option.replace("-", "_") == "__num_processes" and value.isdigit():
            return int(value)
    return None


def _check_strategy() -> None:
    """Check that the launcher's configuration asks for nothing but data parallelism."""
    for variable, strategy in _STRATEGIES.items():
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise UserError(
                "launcher-strategy",
                f"`accelerate launch` is configured for {strategy} (by an option, or by "
                "~/.cache/huggingface/accelerate/default_config.yaml), but this trainer uses DDP only; run "
                f"`accelerate config` again, or {_HOW}",
            )


def _check_gpu_count() -> None:
    """Check that the machine has a GPU per process, before CUDA fails."""
    count = torch.cuda.device_count()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= count:
        raise Failure(
            "too-few-gpus",
            f"process {local} of this machine has no GPU: there are {count}; start at most {count} processes",
        )


def cores_per_process(local_world: int) -> int:
    """Return the number of CPU cores for each of ``local_world`` processes of this machine.

    If srun started one task per process, SLURM has already divided the cores: a task that is bound to its cores sees no
    others, and they must not be divided again.
    """
    shared_out = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if shared_out.isdigit() and os.environ.get("SLURM_NTASKS") == os.environ.get("WORLD_SIZE"):
        return max(1, min(process_pool.available_cores(), int(shared_out)))
    return max(1, process_pool.available_cores() // local_world)
