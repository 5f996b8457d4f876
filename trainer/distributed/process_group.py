"""This process among those of its job: device, world, wrapping, precision, and what the processes agree on."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from shards.core.errors import Failure, UserError
from trainer.distributed.device import choose
from trainer.distributed.failure_notices import FAILED, LOST, Peers
from trainer.distributed.precision import AUTOCAST, resolve
from trainer.distributed.rendezvous import BROKEN_CONTACT, cores_of_a_process, join
from trainer.process import malloc

T = TypeVar("T")


class Distributed:
    """This process's place among the processes of the job.

    Accelerate finds device and world, starts the process group (`trainer.distributed.rendezvous`) and wraps
    modules. Precision is kept out of it: a module prepared under mixed precision re-enters autocast inside its forward,
    where a penalty step could not turn it off.

    Args:
        device: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda" or "mps".
        precision: "auto", "no", "bf16" or "fp16".
        threads: CPU threads of this process; 0 shares the machine's cores among its processes.
        timeout: seconds after which a process that waits for a lost one gives up.

    Raises:
        UserError: the launcher and Accelerate disagree on the number of processes, or the device is not to be had.
    """

    def __init__(self, device: str = "auto", precision: str = "auto", threads: int = 0, timeout: float = 300) -> None:
        self.accelerator = join(choose(device), timeout)
        self.device = torch.device(self.accelerator.device)
        self.rank: int = self.accelerator.process_index
        self.world_size: int = self.accelerator.num_processes
        self.local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE") or self.world_size)
        self.cores = cores_of_a_process(self.local_world_size)
        self.threads = threads or self.cores
        if self.device.type == "cpu":
            malloc.keep_freed()
        torch.set_num_threads(self.threads)  # the launcher pins one thread a process where nobody asked for it
        self.precision = resolve(precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        # What the processes agree on travels between CPUs: a GPU would have to be waited for at each step.
        self._group: Any = None
        self._peers: Peers | None = None
        self.resume_hint = "the same command starts again"
        if self.world_size > 1:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
            self._peers = Peers(self.rank, self.all_gather)
        self._under_way: tuple[Tensor, Any] | None = None

    @property
    def is_rank0(self) -> bool:
        """Whether this is rank 0, which writes and speaks for all."""
        return self.rank == 0

    def describe(self) -> str:
        """One line for the start of a log."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        world = f"{self.world_size} process" + ("es" if self.world_size > 1 else "")
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        line = f"{name}, {world} of {threads}, precision {self.precision}"
        idle = torch.cuda.device_count() - self.local_world_size if self.device.type == "cuda" else 0
        if idle > 0:
            line += f"; {idle} more GPUs of this machine stay idle (--multi_gpu --num_processes uses them)"
        return line

    # -------------------------------------------------------- modules and gradients

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the processes (itself, if there is one process)."""
        if self.world_size == 1:
            return module
        with warnings.catch_warnings():
            # torch 2.13 renames `broadcast_buffers`; older ones know no other name.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
            wrapped = self.accelerator.prepare_model(module)
        _settle_buckets(wrapped)
        return wrapped

    def accumulate(self, wrapped: nn.Module, micro_batches: Sequence[T]) -> Iterator[T]:
        """The micro-batches, with the all-reduce of ``wrapped``'s gradients held back until the last one's backward."""
        for number, micro_batch in enumerate(micro_batches, 1):
            silent = number < len(micro_batches) and self.world_size > 1
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

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        return self.accelerator.reduce(values, "sum") if self.world_size > 1 else values  # type: ignore[return-value]

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on every process."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def on_rank0(self, action: Callable[[], T]) -> T | None:
        """Do something on rank 0 only; its mistakes and failures are raised on every process.

        Returns:
            What ``action`` returned, on rank 0; None elsewhere (`broadcast` spreads it).
        """
        result: T | None = None
        error: Exception | None = None
        if self.is_rank0:
            try:
                result = action()
            except Exception as caught:
                error = caught
        told = error if error is None or isinstance(error, UserError) else Failure(f"process 0 failed: {error}")
        if (heard := self.broadcast(told)) is not None:
            heard.already_reported = not self.is_rank0
            raise error or heard
        return result

    def on_all_ranks(self, action: Callable[[], T]) -> T:
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
        errors = self.all_gather(error)
        if not any(errors):
            return result  # type: ignore[return-value]
        sentences = [str(e) if e else None for e in errors]
        if error is None or sentences.index(str(error)) < self.rank:
            error = error or next(e for e in errors if e)
            error.already_reported = True
        elif not self.is_rank0:  # nobody else says this one
            error = Failure(error.code, str(error))
        raise error

    def sum_to_floats(self, scalars: Mapping[str, Tensor]) -> dict[str, float]:
        """The scalars added up over all processes, as numbers. This waits for the device: for log steps only."""
        names = sorted(scalars)
        summed = self.all_reduce(torch.stack([scalars[name] for name in names]))
        return dict(zip(names, summed.tolist(), strict=True))

    def print(self, sentence: str) -> None:
        """Print, on rank 0."""
        if self.is_rank0:
            print(sentence, flush=True)

    def sum_async(self, *mine: int) -> list[int]:
        """The sums over all processes of what they gave *at the previous call*: the same on all, and nobody waits.

        One process has its own numbers back at once. After `flush`, and at first, the sums are zeros.
        """
        if self.world_size == 1:
            return list(mine)
        before = self.flush(len(mine))
        sums = torch.tensor(mine, dtype=torch.int64)
        self._under_way = (sums, dist.all_reduce(sums, group=self._group, async_op=True))
        return before

    def flush(self, length: int) -> list[int]:
        """The ``length`` sums that `sum_async` has under way, waited for; zeros if there are none."""
        if self._under_way is None:
            return [0] * length
        sums, work = self._under_way
        self._under_way = None
        work.wait()
        return sums.tolist()

    def all_gather(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value, group=self._group)
        return values

    def average_buffers(self, module: nn.Module) -> None:
        """Make every process's statistics in BatchNorm the mean over the processes; other buffers are alike."""
        for layer in module.modules() if self.world_size > 1 else ():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                for buffer in layer.buffers():
                    if buffer.is_floating_point():
                        buffer.copy_(self.all_reduce(buffer) / self.world_size)

    # -------------------------------------------------------- leaving

    def __enter__(self) -> Distributed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the process group; after an error, nothing that others owe us is waited for any more."""
        if self._peers is not None:
            self._peers.close()
        if kind is None and dist.is_initialized():
            self.flush(0)
            dist.destroy_process_group()

    @contextlib.contextmanager
    def coordinate_errors(self) -> Iterator[None]:
        """What ends one process ends all: the others are told, and one of them says why.

        Raises:
            Failure: another process was lost. Whatever else was raised, marked as told if another process says it.
        """
        try:
            yield
        except Exception as error:
            if self._peers is None or getattr(error, "told", False):
                raise
            lost_contact = isinstance(error, RuntimeError) and re.search(BROKEN_CONTACT, str(error))
            ours, lost = self._peers.leave(LOST if lost_contact else FAILED)
            if lost_contact:
                error = Failure(self._lost(lost, error))
            elif not isinstance(error, UserError):
                raise  # a bug, with its traceback
            elif ours and not self.is_rank0:  # rank 0 does not know of it
                error = Failure(error.code, str(error))
            error.already_reported = not ours
            raise error from None

    def _lost(self, lost: Mapping[int, str], error: Exception) -> str:
        if self._peers is not None and lost:
            return f"lost contact: {self._peers.describe(lost)}; when all are there again, {self.resume_hint}"
        reason = str(error).strip().splitlines()[0]
        return (
            f"the other processes are there, but did not come in time, or their connections broke ({reason}); "
            f"a longer --timeout waits for slow ones; {self.resume_hint}"
        )


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
