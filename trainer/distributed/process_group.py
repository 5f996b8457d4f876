"""The process group of a job: device, wrapped modules, precision, collectives, and coordinated errors."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from shards.core.errors import Failure, UserError
from trainer.distributed.device import choose
from trainer.distributed.device_wait import Event, wait_in_contact
from trainer.distributed.failure_notices import FAILED, LOST, Peers
from trainer.distributed.frozen import frozen
from trainer.distributed.precision import AUTOCAST, disable_tf32, resolve, use_deterministic_algorithms
from trainer.distributed.rendezvous import cores_per_process, is_lost_contact, join
from trainer.process import malloc

T = TypeVar("T")


class Distributed:
    """This rank's view of the job.

    Accelerate finds the device, starts the process group (`trainer.distributed.rendezvous`) and wraps modules. It does
    not handle precision: a module prepared under mixed precision enters autocast inside its forward, where a penalty
    step could not turn it off.

    Args:
        device: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda" or "mps".
        precision: "auto", "no", "bf16" or "fp16".
        threads: CPU threads of this process; 0 divides the machine's cores among its processes.
        timeout: seconds that a rank waits for others in a collective.
        deterministic: use only operations that give the same bits each time, on a GPU too.

    Attributes:
        device, rank, world_size, local_world_size, threads: as usual.
        precision: "no", "bf16" or "fp16".
        resume_hint: what to tell a person whose job has lost a rank.

    Raises:
        UserError: the launcher and Accelerate disagree on the world size, or the device does not exist.
    """

    def __init__(
        self,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        timeout: float = 300,
        deterministic: bool = False,
    ) -> None:
        self.accelerator = join(choose(device), timeout)
        self.timeout = timeout
        self.device = torch.device(self.accelerator.device)
        self.rank: int = self.accelerator.process_index
        self.world_size: int = self.accelerator.num_processes
        self.local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE") or self.world_size)
        self.cores = cores_per_process(self.local_world_size)
        self.threads = threads or self.cores
        if self.device.type == "cpu":
            malloc.keep_freed()
        torch.set_num_threads(self.threads)  # the launcher defaults to one thread per process
        self.precision = resolve(precision, self.device)
        self.deterministic = deterministic
        if self.device.type == "cuda":
            disable_tf32()
            if deterministic:
                use_deterministic_algorithms()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        # Small collectives use gloo on the CPU: with NCCL each would wait for the GPU.
        self._group: Any = None
        self._peers: Peers | None = None
        self.resume_hint = "re-run the same command to start again"
        if self.world_size > 1:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
            self._peers = Peers(self.rank, self.all_gather)
        self._pending: tuple[Tensor, Any] | None = None

    @property
    def is_rank0(self) -> bool:
        """True on rank 0, which writes files and prints."""
        return self.rank == 0

    @property
    def penalties_may_be_mixed(self) -> bool:
        """True if the run's mixed precision is good enough for gradient penalties: bf16.

        A penalty squares ∂logit/∂image, which the loss scaler does not scale: much of it is below fp16's range.
        """
        return self.precision == "bf16"

    def describe(self) -> str:
        """Return one line that describes the device and the ranks."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        world = f"{self.world_size} process" + ("es" if self.world_size > 1 else "")
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        line = f"{name}, {world} of {threads}, precision {self.precision}"
        if self.device.type == "cuda":
            line += ", float32 without TF32" + (", deterministic" if self.deterministic else "")
        idle = torch.cuda.device_count() - self.local_world_size if self.device.type == "cuda" else 0
        if idle > 0:
            line += f"; {idle} more GPUs of this machine are idle (--multi_gpu --num_processes uses them)"
        return line

    # -------------------------------------------------------- modules and gradients

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap a module in DDP, which averages gradients over the ranks; return it unchanged on one process."""
        if self.world_size == 1:
            return module
        with warnings.catch_warnings():
            # torch 2.13 renames `broadcast_buffers`; older ones know no other name.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
            wrapped = self.accelerator.prepare_model(module)
        _freeze_buckets(wrapped)
        return wrapped

    def accumulate(self, wrapped: nn.Module, micro_batches: Sequence[T]) -> Iterator[T]:
        """Yield micro-batches for gradient accumulation; gradients of ``wrapped`` are all-reduced in the last one."""
        for number, micro_batch in enumerate(micro_batches, 1):
            silent = number < len(micro_batches) and self.world_size > 1
            with self.accelerator.no_sync(wrapped) if silent else contextlib.nullcontext():
                yield micro_batch

    def autocast(self, enabled: bool = True) -> torch.autocast:
        """Return a context with the run's mixed precision for a forward pass; ``enabled=False``: full precision."""
        dtype = AUTOCAST.get(self.precision)
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=enabled and dtype is not None)

    def frozen(self, module: nn.Module, cast: bool = True) -> AbstractContextManager[None]:
        """Return a context in which a module gets no gradients; ``cast``: its weights have the dtype of autocast."""
        return frozen(module, AUTOCAST.get(self.precision) if cast else None)

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass through the loss scaler (which only fp16 uses)."""
        self.scaler.scale(loss).backward()

    def step(self, module: nn.Module, optimizer: Optimizer, last: bool = True) -> Tensor:
        """Step the optimizer of a module, unless a gradient is not finite: then weights and moments do not change.

        Args:
            last: no other optimizer follows whose gradients were scaled together with these.

        Returns:
            The Euclidean norm of all gradients, a scalar on the device; this does not synchronize.
        """
        self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
        if self.scaler.is_enabled():  # which skips such steps, too, and lowers its scale
            self.scaler.step(optimizer)
            if last:
                self.scaler.update()
        elif optimizer.defaults.get("fused"):
            optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined] - as the scaler sets it
            optimizer.step()
        elif norm.isfinite():
            optimizer.step()
        return norm

    # -------------------------------------------------------- collectives

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks."""
        return self.accelerator.reduce(values, "sum") if self.world_size > 1 else values  # type: ignore[return-value]

    def broadcast(self, value: T) -> T:
        """Return rank 0's value on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def on_rank0(self, action: Callable[[], T]) -> T | None:
        """Run ``action`` on rank 0 only; an error there is raised on every rank.

        Returns:
            The result of ``action`` on rank 0; None elsewhere (see `broadcast`).
        """
        result: T | None = None
        error: Exception | None = None
        if self.is_rank0:
            try:
                result = action()
            except Exception as caught:
                error = caught
        told = (
            error
            if error is None or isinstance(error, UserError)
            else Failure("rank-failed", f"rank 0 failed: {error}")
        )
        if (heard := self.broadcast(told)) is not None:
            raised = error or heard
            if isinstance(raised, UserError):
                raised.already_reported = not self.is_rank0
            raise raised
        return result

    def on_all_ranks(self, action: Callable[[], T]) -> T:
        """Run ``action`` on all ranks; if any raises UserError, all do, and each distinct message is printed once.

        It must not train or communicate: where one rank fails, the others would wait for it.

        Raises:
            UserError: on every rank, if ``action`` raised one on any.
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
        reported = error is None or sentences.index(str(error)) < self.rank
        if error is None:
            error = next(e for e in errors if e)
        elif not reported and not self.is_rank0:  # no other rank reports this message
            error = Failure(error.code, str(error))
        error.already_reported = reported
        raise error

    def sum_to_floats(self, scalars: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the sums of scalars over all ranks as floats. This synchronizes with the device: log steps only."""
        names = sorted(scalars)
        summed = self.all_reduce(torch.stack([scalars[name] for name in names]))
        self.synchronize()
        return dict(zip(names, summed.tolist(), strict=True))

    def print(self, sentence: str) -> None:
        """Print on rank 0."""
        if self.is_rank0:
            print(sentence, flush=True)

    def sum_async(self, *mine: int) -> list[int]:
        """Start an all-reduce; return the sums submitted by the *previous* call, so that no rank blocks.

        The first call, and a call after `flush`, return zeros. A single process gets its own values back at once.
        """
        if self.world_size == 1:
            return list(mine)
        before = self.flush(len(mine))
        sums = torch.tensor(mine, dtype=torch.int64)
        self._pending = (sums, dist.all_reduce(sums, group=self._group, async_op=True))
        return before

    def flush(self, length: int) -> list[int]:
        """Wait for the all-reduce that `sum_async` started; return its ``length`` sums, or zeros if there is none."""
        if self._pending is None:
            return [0] * length
        sums, work = self._pending
        self._pending = None
        work.wait()
        return sums.tolist()

    def all_gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in rank order."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value, group=self._group)
        return values

    def wait_for(self, event: Event) -> None:
        """Wait until this rank's GPU has reached an event, as long as the other ranks are there.

        Raises:
            LostContact: another rank is lost or late; `coordinate_errors` names it.
        """
        if self._peers is None:
            event.synchronize()
        else:
            wait_in_contact(event, self._check_pending, self._peers, self.timeout)

    def synchronize(self) -> None:
        """Wait for the GPU in contact with the other ranks, before something that would wait for it without."""
        if self.device.type == "cuda" and self.world_size > 1:
            event = torch.cuda.Event(blocking=True)
            event.record()
            self.wait_for(event)

    def _check_pending(self) -> None:
        """Raise the error of the all-reduce that `sum_async` started, if it has failed."""
        if self._pending is not None and self._pending[1].is_completed():
            self._pending[1].wait()

    def average_buffers(self, module: nn.Module) -> None:
        """Average the BatchNorm statistics of a module over the ranks; other buffers are equal already."""
        for layer in module.modules() if self.world_size > 1 else ():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                for buffer in layer.buffers():
                    if buffer.is_floating_point():
                        buffer.copy_(self.all_reduce(buffer) / self.world_size)

    # -------------------------------------------------------- exit and errors

    def __enter__(self) -> Distributed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Destroy the process group; after an error, do not wait for pending collectives."""
        if self._peers is not None:
            self._peers.close()
        if kind is None and dist.is_initialized():
            self.flush(0)
            dist.destroy_process_group()

    @contextlib.contextmanager
    def coordinate_errors(self) -> Iterator[None]:
        """Let an error on one rank end all ranks: notify the others, and let one rank report it.

        Raises:
            Failure: another rank was lost. Any other error is re-raised, marked if another rank reports it.
        """
        try:
            yield
        except Exception as error:
            if self._peers is None or getattr(error, "already_reported", None) is not None:
                raise  # one process, or all of them raise it
            lost_contact = is_lost_contact(error)
            ours, lost = self._peers.leave(LOST if lost_contact else FAILED)
            if lost_contact:
                error = self._lost(lost, error)
            elif not isinstance(error, UserError):
                raise  # a bug, with its traceback
            elif ours and not self.is_rank0:  # rank 0 does not know of it
                error = Failure(error.code, str(error))
            error.already_reported = not ours
            raise error from None

    def _lost(self, lost: Mapping[int, str], error: Exception) -> Failure:
        if self._peers is not None and lost:
            what = (
                f"lost contact: {self._peers.describe(lost)}; when all machines are available again, {self.resume_hint}"
            )
            return Failure("rank-lost", what)
        reason = str(error).strip().splitlines()[0]
        return Failure(
            "ranks-timed-out",
            f"the other ranks are alive, but were too late, or their connections broke ({reason}); "
            f"a longer --timeout waits for slow ranks; {self.resume_hint}",
        )


def _freeze_buckets(wrapped: nn.Module) -> None:
    """Freeze DDP's bucket layout with a dummy backward pass.

    The order in which the ranks' gradients are summed depends on their positions in the buckets, and DDP rebuilds its
    buckets after the first backward pass, in the order in which gradients became ready: one layout in a run that starts
    with a penalty step, another in one that resumes without. With three ranks or more, a resumed run would then differ
    by rounding.
    """
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    wrapped.reducer.prepare_for_backward([])  # type: ignore[operator, union-attr] - as DDP's forward does
    torch.stack([0 * p.sum() for p in parameters]).sum().backward()
    wrapped.zero_grad(set_to_none=True)
