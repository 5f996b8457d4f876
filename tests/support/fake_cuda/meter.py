"""A dispatch mode that sees every kernel: their number, the memory that is live, and what would wait for the GPU."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Any

from support import ROOT
from support.fake_cuda import rig

import torch  # isort: skip - after the rig
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from support.fake_cuda.kernels import kernels_of

_READS = {torch.ops.aten._local_scalar_dense.default}
_COPIES = {"_to_copy", "copy_", "copy"}


class Meter(TorchDispatchMode):
    """Watches what runs within this context; `restart` begins a new count, with the memory that is live.

    Fake tensors have no values. One that is read is False or 1: steps are finite, and Adam's step counter is not zero.

    Attributes:
        kernels: number by operator (see `kernels_of`).
        wide: convolutions whose kernel is wider than any of the networks', as ATen's second derivative makes them.
        live, peak: bytes of tensors on the GPU, the allocator's rounding and cuDNN's workspaces not counted.
        waits: places where the program would wait for the GPU.
        copies: asynchronous copies between GPU and CPU, by direction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}  # by their addresses, with their bytes
        self.restart()

    def restart(self) -> None:
        """Begin a new count."""
        self._forget_freed()
        self.kernels: Counter[str] = Counter()
        self.wide, self.peak = 0, self.live
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _READS:
            return self._read(args[0])
        out = func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if name in _COPIES:
            self._copied(name, args, kwargs, inputs, outputs)
        elif any(tensor.is_cuda for tensor in inputs) and any(not t.is_cuda and t.dim() for t in inputs):
            self.waits[f"{name} of tensors on the CPU and on the GPU copies and waits{place()}"] += 1
        if any(tensor.is_cuda for tensor in inputs + outputs):
            for tensor in outputs:
                self._allocated(tensor)
            if not func.is_view:
                self._count(name, args, inputs, outputs)
        return out

    def _read(self, tensor: Tensor) -> float | int | bool:
        if tensor.is_cuda or not rig.host.has_arrived(tensor):
            self.waits[f"a value is read{place()}"] += 1
        return False if tensor.dtype == torch.bool else 1.0 if tensor.is_floating_point() else 1

    def _copied(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tensor], outputs: list[Tensor]
    ) -> None:
        source, copy = inputs[-1 if name != "_to_copy" else 0], outputs[0]
        if source.is_cuda == copy.is_cuda:
            return
        direction = f"{source.device.type} to {copy.device.type}"
        if not (kwargs.get("non_blocking") or (name != "_to_copy" and len(args) > 2 and args[2])):
            self.waits[f"a copy from {direction} blocks{place()}"] += 1
            return
        if not rig.host.is_pinned(source if copy.is_cuda else copy):
            self.waits[f"a copy from {direction} blocks, as the memory is not pinned{place()}"] += 1
        self.copies[direction] += 1
        if copy.device.type == "cpu":
            rig.host.expect(copy)

    def _allocated(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if tensor.is_cuda and storage._cdata not in self._storages:
            self._storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
            self.live += storage.nbytes()
            if self.live > self.peak:
                self._forget_freed()
                self.peak = max(self.peak, self.live)

    def _forget_freed(self) -> None:
        """Subtract what was freed since the last call."""
        for key in [key for key, (storage, _) in self._storages.items() if storage.expired()]:
            self.live -= self._storages.pop(key)[1]

    def _count(self, name: str, args: tuple[Any, ...], inputs: list[Tensor], outputs: list[Tensor]) -> None:
        self.kernels[name] += kernels_of(name, args)
        if name == "convolution" and args[1].shape[-1] > 7:
            self.wide += 1


def place() -> str:
    """Return where the project's code is, as " at FILE:LINE"; in a backward pass, where that was started."""
    sources = (str(ROOT / "trainer"), str(ROOT / "shards"))
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(sources)]
    return f" at {frames[-1].filename.removeprefix(f'{ROOT}/')}:{frames[-1].lineno}" if frames else ""
