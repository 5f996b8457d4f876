"""Rank 0 of two: the real DDP on the fake GPU, in a process group that talks to nobody.

DDP's reducer copies gradients into buckets and back as it does on GPUs. Three of its parts read numbers of tensors that
have none, or need a CUDA build of torch, and are left out: the comparison of the ranks' parameters, the copy of rank
0's to the others, and the log of its times. Buckets keep their first layout.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

from support.fake_cuda import rig  # noqa: F401 - before torch

import torch  # isort: skip - after the rig
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

WORLD = 2


@contextlib.contextmanager
def first_of_two() -> Iterator[Counter[str]]:
    """Within this context, `Distributed` is rank 0 of two; yield the numbers of its collectives."""
    seen: Counter[str] = Counter()
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=WORLD)
    ddp = "torch.nn.parallel.distributed."
    with (
        mock.patch(f"{ddp}_verify_param_shape_across_processes"),
        mock.patch(f"{ddp}_sync_module_states"),
        mock.patch("trainer.distributed.process_group.join", return_value=_Accelerator(seen)),
        mock.patch("trainer.distributed.process_group.Peers"),
        mock.patch.object(dist, "new_group"),
    ):
        yield seen


class _Accelerator:
    """A stand-in for what `Distributed` uses of Accelerate."""

    device, process_index, num_processes = torch.device("cuda", 0), 0, WORLD

    def __init__(self, seen: Counter[str]) -> None:
        self._seen = seen

    def prepare_model(self, module: nn.Module) -> DistributedDataParallel:
        wrapped = DistributedDataParallel(module, device_ids=[0], output_device=0, broadcast_buffers=False)
        wrapped.register_comm_hook(None, lambda state, bucket: self._average(bucket))
        wrapped.reducer = _Reducer(wrapped.reducer)  # type: ignore[assignment]
        wrapped.logger = mock.Mock()
        return wrapped

    def no_sync(self, wrapped: DistributedDataParallel) -> contextlib.AbstractContextManager[None]:
        return wrapped.no_sync()

    def reduce(self, values: Tensor, reduction: str) -> Tensor:
        self._seen["values"] += 1
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    def _average(self, bucket: Any) -> Future[Tensor]:
        """Do what DDP does of itself, whose result the fake process group does not give back."""
        self._seen["gradients"] += 1
        gradients = bucket.buffer()
        dist.all_reduce(gradients)
        done: Future[Tensor] = Future()
        done.set_result(gradients.div_(WORLD))
        return done


class _Reducer:
    """DDP's reducer, without a new layout of its buckets after the first backward pass."""

    def __init__(self, reducer: Any) -> None:
        self._reducer = reducer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reducer, name)

    def _rebuild_buckets(self) -> bool:
        return False
