"""The one room that knows Accelerate: device, world, wrapping, precision, and what the processes agree on."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.optim import Optimizer

from shards import workers
from shards.errors import Failure, UserError
from trainer import interfaces, memory
from trainer.device import choose
from trainer.peers import FAILED, LOST, Peers
from trainer.precision import AUTOCAST, resolve

T = TypeVar("T")

# What a collective says whose other side is gone, or came too late.
_BROKEN_CONTACT = "onnection|imed out|imeout|gloo|NCCL"
_LAST_SECONDS = 5.0  # for a process that lost others to end by itself
_NCCL_WAITS = 15.0  # seconds longer than gloo: what gloo raises is a sentence, NCCL's watchdog kills the process
_HOW = (
    "on GPUs launch with --multi_gpu --num_processes N, "
    "on a CPU with --config_file launch/accelerate/cpu_processes.yaml"
)


class Distributed:
    """This process's place among the processes of the job.

    Accelerate finds device and world, starts the process group and wraps modules. Precision is kept out of it: a module
    prepared under mixed precision re-enters autocast inside its forward, where a penalty step could not turn it off.

    Args:
        device: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda" or "mps".
        precision: "auto", "no", "bf16" or "fp16".
        threads: CPU threads of this process; 0 shares the machine's cores among its processes.
        timeout: seconds after which a process that waits for a lost one gives up.

    Raises:
        UserError: the launcher and Accelerate disagree on the number of processes, or the device is not to be had.
    """

    def __init__(self, device: str = "auto", precision: str = "auto", threads: int = 0, timeout: float = 300) -> None:
        kind = choose(device).type
        _share_devices()
        self.accelerator = _start(kind == "cpu", timeout)
        self.device = torch.device(self.accelerator.device)
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        self._check_world()
        self.local_world = int(os.environ.get("LOCAL_WORLD_SIZE") or self.world)
        self.cores = cores_of_a_process(self.local_world)
        self.threads = threads or self.cores
        if self.device.type == "cpu":
            memory.keep_freed()
        torch.set_num_threads(self.threads)  # the launcher pins one thread a process where nobody asked for it
        self.precision = resolve(precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        # What the processes agree on travels between CPUs: a GPU would have to be waited for at each step.
        self._group: Any = None
        self._peers: Peers | None = None
        self.way_on = "the same command starts again"
        if self.world > 1:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
            self._peers = Peers(self.rank, self.gather)
        self._under_way: tuple[Tensor, Any] | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes and speaks for all."""
        return self.rank == 0

    def _check_world(self) -> None:
        asked = int(os.environ.get("WORLD_SIZE", "1"))
        if asked != self.world:
            raise UserError(
                f"the launcher started {asked} processes but Accelerate sees {self.world}, each training alone; {_HOW}"
            )
        wanted = _wanted_of_launcher()
        if wanted is not None and wanted != self.world:
            raise UserError(f"`accelerate launch` was asked for {wanted} processes and started {self.world}; {_HOW}")

    def describe(self) -> str:
        """One line for the start of a log."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        world = f"{self.world} process" + ("es" if self.world > 1 else "")
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        line = f"{name}, {world} of {threads}, precision {self.precision}"
        idle = torch.cuda.device_count() - self.local_world if self.device.type == "cuda" else 0
        if idle > 0:
            line += f"; {idle} more GPUs of this machine stay idle (--multi_gpu --num_processes uses them)"
        return line

    # -------------------------------------------------------- modules and gradients

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the processes (itself, if there is one process)."""
        if self.world == 1:
            return module
        with warnings.catch_warnings():
            # torch 2.13 renames `broadcast_buffers`; older ones know no other name.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
            wrapped = self.accelerator.prepare_model(module)
        _settle_buckets(wrapped)
        return wrapped

    def synchronised_at_last(self, wrapped: nn.Module, micro_batches: Sequence[T]) -> Iterator[T]:
        """The micro-batches, with the all-reduce of ``wrapped``'s gradients held back until the last one's backward."""
        for number, micro_batch in enumerate(micro_batches, 1):
            silent = number < len(micro_batches) and self.world > 1
            with self.accelerator.no_sync(wrapped) if silent else contextlib.nullcontext():
                yield micro_batch

    def autocast(self, enabled: bool = True) -> torch.autocast:
        """The run's mixed precision, opened around forwards; ``enabled=False`` computes in full precision."""
        dtype = AUTOCAST.get(self.precision)
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=enabled and dtype is not None)

    def backward(self, loss: Tensor) -> None:
        """Backward through the loss scaler (which only fp16 uses)."""
        self.scaler.scale(loss).backward()

    def step(self, module: nn.Module, optimizer: Optimizer) -> Tensor:
        """Step the optimizer of a module, unless a gradient is not finite: then weights and moments stay as they are.

        Returns:
            The Euclidean norm of all gradients, a scalar on the device; nothing here waits for it.
        """
        self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
        if self.scaler.is_enabled():  # which does the same, and lowers its scale
            self.scaler.step(optimizer)
            self.scaler.update()
        elif optimizer.defaults.get("fused"):
            optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined] - as the scaler tells it
            optimizer.step()
        elif norm.isfinite():
            optimizer.step()
        return norm

    # -------------------------------------------------------- agreement

    def add(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        return self.accelerator.reduce(values, "sum") if self.world > 1 else values  # type: ignore[return-value]

    def tell(self, value: T) -> T:
        """Rank 0's value, on every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def first(self, action: Callable[[], T]) -> T | None:
        """Do something on rank 0 only; its mistakes and failures are raised on every process.

        Returns:
            What ``action`` returned, on rank 0; None elsewhere (`tell` spreads it).
        """
        result: T | None = None
        error: Exception | None = None
        if self.is_first:
            try:
                result = action()
            except Exception as caught:
                error = caught
        told = error if error is None or isinstance(error, UserError) else Failure(f"process 0 failed: {error}")
        if (heard := self.tell(told)) is not None:
            heard.told = not self.is_first
            raise error or heard
        return result

    def together(self, action: Callable[[], T]) -> T:
        """Do something on every process; if it is a mistake on any of them, all leave, and each sentence is said once.

        Raises:
            UserError: on every process, if ``action`` raised one on any.
        """
        result: T | None = None
        error: UserError | None = None
        try:
            result = action()
        except UserError as caught:
            error = caught
        errors = self.gather(error)
        if not any(errors):
            return result  # type: ignore[return-value]
        sentences = [str(e) if e else None for e in errors]
        if error is None or sentences.index(str(error)) < self.rank:
            error = error or next(e for e in errors if e)
            error.told = True
        elif not self.is_first:  # nobody else says this one
            error = Failure(str(error))
        raise error

    def totals(self, scalars: Mapping[str, Tensor]) -> dict[str, float]:
        """The scalars added up over all processes, as numbers. This waits for the device: for log steps only."""
        names = sorted(scalars)
        summed = self.add(torch.stack([scalars[name] for name in names]))
        return dict(zip(names, summed.tolist(), strict=True))

    def say(self, sentence: str) -> None:
        """Print, on rank 0."""
        if self.is_first:
            print(sentence, flush=True)

    def count(self, *mine: int) -> list[int]:
        """The sums over all processes of what they gave *at the previous call*: the same on all, and nobody waits.

        One process has its own numbers back at once. After `settle`, and at first, the sums are zeros.
        """
        if self.world == 1:
            return list(mine)
        before = self.settle(len(mine))
        sums = torch.tensor(mine, dtype=torch.int64)
        self._under_way = (sums, dist.all_reduce(sums, group=self._group, async_op=True))
        return before

    def settle(self, length: int) -> list[int]:
        """The ``length`` sums that `count` has under way, waited for; zeros if there are none."""
        if self._under_way is None:
            return [0] * length
        sums, work = self._under_way
        self._under_way = None
        work.wait()
        return sums.tolist()

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value, group=self._group)
        return values

    def average_buffers(self, module: nn.Module) -> None:
        """Make every process's floating-point buffers (BatchNorm's statistics) the mean over the processes."""
        if self.world > 1:
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.add(buffer) / self.world)

    # -------------------------------------------------------- leaving

    def __enter__(self) -> Distributed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the process group; after an error, nothing that others owe us is waited for any more."""
        if self._peers is not None:
            self._peers.close()
        if not dist.is_initialized():
            return
        if kind is None:
            self.settle(0)
            dist.destroy_process_group()
        elif self.world > 1:  # a lost process's connections may keep the interpreter from its end
            faulthandler.dump_traceback_later(_LAST_SECONDS, exit=True, file=Path(os.devnull).open("w"))  # noqa: SIM115

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """What ends one process ends all: the others are told, and one of them says why.

        Raises:
            Failure: another process was lost. Whatever else was raised, marked as told if another process says it.
        """
        try:
            yield
        except Exception as error:
            if self._peers is None or getattr(error, "told", False):
                raise
            lost_contact = isinstance(error, RuntimeError) and re.search(_BROKEN_CONTACT, str(error))
            ours, lost = self._peers.leave(LOST if lost_contact else FAILED)
            if lost_contact:
                error = Failure(self._lost(lost, error))
            elif not isinstance(error, UserError):
                raise  # a bug, with its traceback
            elif ours and not self.is_first:  # rank 0 does not know of it
                error = Failure(str(error))
            error.told = not ours
            raise error from None

    def _lost(self, lost: Mapping[int, str], error: Exception) -> str:
        if self._peers is not None and lost:
            return f"lost contact: {self._peers.describe(lost)}; when all are there again, {self.way_on}"
        reason = str(error).strip().splitlines()[0]
        return (
            f"the other processes are there, but did not come in time, or their connections broke ({reason}); "
            f"a longer --timeout waits for slow ones; {self.way_on}"
        )


def cores_of_a_process(local_world: int) -> int:
    """The CPU cores that each of ``local_world`` processes of this machine may use.

    Where srun started one task a process, SLURM has shared the cores out already: a task that is bound to its own sees
    no others, and they must not be divided again.
    """
    shared_out = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if shared_out.isdigit() and os.environ.get("SLURM_NTASKS") == os.environ.get("WORLD_SIZE"):
        return max(1, min(workers.count(), int(shared_out)))
    return max(1, workers.count() // local_world)


def _settle_buckets(wrapped: nn.Module) -> None:
    """Lay out DDP's buckets for good, by a backward of nothing.

    In what order the processes' gradients are added up depends on where in a bucket they lie, and DDP lays its buckets
    out anew after the first backward, as gradients came in it: one way in a run that starts with a penalty, another way
    in one that resumes without. With three processes or more, a resumed run would then differ by rounding.
    """
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    wrapped.reducer.prepare_for_backward([])  # type: ignore[operator, union-attr] - as DDP's forward does
    torch.stack([0 * p.sum() for p in parameters]).sum().backward()
    wrapped.zero_grad(set_to_none=True)


def _start(cpu: bool, timeout: float) -> Accelerator:
    """Let Accelerate join the job's processes."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1 and "WORLD_SIZE" not in os.environ:
        raise UserError(
            f"srun started {tasks} tasks that know nothing of each other; start them through launch/slurm/task.sh"
        )
    interfaces.lead_gloo()
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
        return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=handlers)
    except ValueError as error:  # half of a launcher's variables are there
        raise UserError(f"the processes of this job cannot find each other: {error}") from None
    except RuntimeError as error:
        if not re.search(_BROKEN_CONTACT, str(error)):
            raise
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise Failure(
            f"the processes of this job did not find each other at {place} within {timeout:g} s "
            f"({str(error).strip().splitlines()[0]}); are all of them started, and does the network let them through?"
        ) from None


def _join_again(cpu: bool, patience: timedelta) -> None:
    """Start the process group of a launcher's second or later try, before Accelerate does.

    Where to find each other is written into the launcher's store, which has outlived the first try: under the same
    names, processes would now and then go where their neighbours were then.
    """
    store, rank, world = next(rendezvous("env://", timeout=patience))
    store = PrefixStore(f"try {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("gloo" if cpu else "nccl", store=store, rank=rank, world_size=world, timeout=patience)


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
