"""A machine with a GPU that does not exist: fake tensors, and stand-ins for the functions of torch.cuda in use.

Import this module before torch, in a process of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

from support.fake_cuda import guard

guard.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch._inductor.utils  # noqa: E402 - it looks for a GPU when imported: before there is one
from torch import Tensor, nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # noqa: E402
from torch.multiprocessing.reductions import StorageWeakRef  # noqa: E402


class HostMemory:
    """What is known of tensors in host memory: which are pinned, and which an asynchronous copy still writes to.

    They are known by their storages, whose addresses no other storage gets while a `StorageWeakRef` exists.
    """

    def __init__(self) -> None:
        self._pinned: dict[int, StorageWeakRef] = {}
        self._arriving: dict[int, StorageWeakRef] = {}

    def pin(self, tensor: Tensor) -> None:
        """Note that a tensor was allocated in pinned memory."""
        self._pinned[tensor.untyped_storage()._cdata] = StorageWeakRef(tensor.untyped_storage())

    def is_pinned(self, tensor: Tensor) -> bool:
        """Return whether a tensor is in pinned memory."""
        return tensor.untyped_storage()._cdata in self._pinned

    def expect(self, copy: Tensor) -> None:
        """Note that an asynchronous copy from the GPU to ``copy`` was queued."""
        self._arriving[copy.untyped_storage()._cdata] = StorageWeakRef(copy.untyped_storage())

    def has_arrived(self, tensor: Tensor) -> bool:
        """Return whether a tensor may be read."""
        return tensor.untyped_storage()._cdata not in self._arriving

    def arriving(self) -> list[int]:
        """Return the copies that are queued, for `arrive`."""
        return list(self._arriving)

    def arrive(self, copies: list[int]) -> None:
        """Note that somebody waited for these copies."""
        for copy in copies:
            self._arriving.pop(copy, None)


host = HostMemory()


class Event:
    """A stand-in for torch.cuda.Event: whoever waits for it has the copies that were queued before it was recorded."""

    def __init__(self, **options: Any) -> None:
        self._covered: list[int] | None = None

    def record(self, stream: object = None) -> None:
        self._covered = host.arriving()

    def query(self) -> bool:
        self.synchronize()
        return True

    def synchronize(self) -> None:
        assert self._covered is not None, "an event is waited for that was not recorded"
        host.arrive(self._covered)


class Mode(FakeTensorMode):
    """A fake mode that does not initialize CUDA, whatever torch.cuda says, and that notes what is pinned."""

    avoid_device_init = True  # type: ignore[assignment] - a property in the base class

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs or {})
        if kwargs and kwargs.get("pin_memory"):
            host.pin(out)  # type: ignore[arg-type]
        return out


@contextlib.contextmanager
def fake_cuda(capability: tuple[int, int] = (9, 0), count: int = 1) -> Iterator[Mode]:
    """Within this context torch has ``count`` GPUs of a compute capability, and all tensors are fake."""
    stand_ins: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: count,
        "current_device": lambda: 0,
        "is_initialized": lambda: True,
        "_is_compiled": lambda: True,
        "get_device_capability": lambda device=None: capability,
        "get_device_name": lambda device=None: "a GPU that does not exist",
        "is_bf16_supported": lambda including_emulation=True: capability >= (8, 0),
        "set_device": lambda device: None,
        "synchronize": lambda device=None: host.arrive(host.arriving()),
        "manual_seed_all": lambda seed: None,
        "mem_get_info": lambda device=None: (84_000_000_000, 85_000_000_000),
        "Event": Event,
    }
    with contextlib.ExitStack() as stack:
        for name, stand_in in stand_ins.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _apply))
        stack.enter_context(mock.patch("trainer.run.host_buffer.allocate", _allocate))
        stack.enter_context(mock.patch.object(FakeTensor, "numpy", _numpy, create=True))
        stack.enter_context(mock.patch.object(FakeTensor, "__deepcopy__", _deepcopy, create=True))
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        yield stack.enter_context(Mode(allow_non_fake_inputs=True))


def _allocate(size: int, pinned: bool) -> Tensor:
    """Return host memory as `trainer.run.host_buffer` does, which pins it by its address: fakes have none."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=pinned)


def _apply(self: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Do what `Module._apply` does with new parameters; the real one replaces their content, which fakes forbid."""
    for child in self.children() if recurse else ():
        child._apply(function)
    for name, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                moved = function(parameter)
            if moved is not parameter:
                self._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
    for name, buffer in self._buffers.items():
        self._buffers[name] = None if buffer is None else function(buffer)
    return self


def _numpy(self: Tensor) -> np.ndarray:
    """Return zeros for the numbers that a fake tensor lacks, where a real one could be read."""
    if self.device.type != "cpu":
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")
    assert host.has_arrived(self), "an array is made of a copy that may not have arrived"
    return np.zeros(tuple(self.shape), np.dtype(str(self.dtype).removeprefix("torch.")))


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    """Copy a fake tensor; `Tensor.__deepcopy__` asks for its address, which corrupts the heap."""
    copied = self.detach().clone()
    if isinstance(self, nn.Parameter):
        copied = nn.Parameter(copied, self.requires_grad)
    memo[id(self)] = copied
    return copied
