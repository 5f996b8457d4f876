"""How a process joins the others of its job: through what its launcher says, or an error that says what is wrong."""

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

# What a collective says whose other side is gone, or came too late.
BROKEN_CONTACT = "onnection|imed out|imeout|gloo|NCCL"
_TAKEN = "failed to listen|EADDRINUSE"
_NCCL_WAITS = 15.0  # seconds longer than gloo: what gloo raises is a sentence, NCCL's watchdog kills the process
_HOW = (
    "on GPUs launch with --multi_gpu --num_processes N, "
    "on a CPU with --config_file launch/accelerate/cpu_processes.yaml"
)


def join(device: torch.device, timeout: float) -> Accelerator:
    """Let Accelerate join the job's processes, or be alone where there are none.

    Args:
        device: of what kind this process's is.
        timeout: seconds to wait for the others, here and in each collective.

    Raises:
        UserError: the processes know nothing of each other, or the launcher and Accelerate disagree on their number.
        Failure: they did not find each other, or there are fewer GPUs than processes.
    """
    _share_devices()
    cpu = device.type == "cpu"
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1 and "WORLD_SIZE" not in os.environ:
        raise UserError(
            f"srun started {tasks} tasks that know nothing of each other; start them through launch/slurm/rank.sh"
        )
    network_interfaces.lead_gloo()
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")  # a watchdog ends what NCCL would wait for for ever
    patience = timedelta(seconds=timeout if cpu else timeout + _NCCL_WAITS)
    handlers = [
        InitProcessGroupKwargs(timeout=patience),
        # Every rank keeps its own BatchNorm statistics; they are averaged when saved.
        DistributedDataParallelKwargs(broadcast_buffers=False),
    ]
    try:
        if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
            _join_again(cpu, patience)
        accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=handlers)
    except ValueError as error:  # half of a launcher's variables are there
        raise UserError(f"the processes of this job cannot find each other: {error}") from None
    except RuntimeError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        if re.search(_TAKEN, str(error)):
            raise Failure(
                f"process 0 cannot listen at {place}: something else does; "
                "give another port (--main_process_port, or MASTER_PORT), or end that"
            ) from None
        if not re.search(BROKEN_CONTACT, str(error)):
            raise
        raise Failure(
            f"the processes of this job did not find each other at {place} within {timeout:g} s "
            f"({str(error).strip().splitlines()[0]}); are all of them started, and does the network let them through?"
        ) from None
    _check_world(accelerator.num_processes)
    return accelerator


def _join_again(cpu: bool, patience: timedelta) -> None:
    """Start the process group of a launcher's second or later try, before Accelerate does.

    Where to find each other is written into the launcher's store, which has outlived the first try: under the same
    names, processes would now and then go where their neighbours were then.
    """
    store, rank, world = next(rendezvous("env://", timeout=patience))
    store = PrefixStore(f"try {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("gloo" if cpu else "nccl", store=store, rank=rank, world_size=world, timeout=patience)


def _check_world(world: int) -> None:
    """All whom the launcher started must be in it, and it must have started as many as it was asked for."""
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked != world:
        raise UserError(
            f"the launcher started {asked} processes but Accelerate sees {world}, each training alone; {_HOW}"
        )
    wanted = _wanted_of_launcher()
    if wanted is not None and wanted != world:
        raise UserError(f"`accelerate launch` was asked for {wanted} processes and started {world}; {_HOW}")


def _wanted_of_launcher() -> int | None:
    """The --num_processes on the launcher's own command line: with --cpu, or alone, it silently starts one process."""
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


def _share_devices() -> None:
    """Say so before CUDA does, if a machine has fewer GPUs than processes."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if count and os.environ.get("ACCELERATE_USE_CPU", "false").lower() != "true" and local >= count:
        raise Failure(f"process {local} of this machine has no GPU: there are {count}; start at most {count} processes")


def cores_of_a_process(local_world: int) -> int:
    """The CPU cores that each of ``local_world`` processes of this machine may use.

    Where srun started one task a process, SLURM has shared the cores out already: a task that is bound to its own sees
    no others, and they must not be divided again.
    """
    shared_out = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if shared_out.isdigit() and os.environ.get("SLURM_NTASKS") == os.environ.get("WORLD_SIZE"):
        return max(1, min(process_pool.available_cores(), int(shared_out)))
    return max(1, process_pool.available_cores() // local_world)
