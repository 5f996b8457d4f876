"""Memory on the host for copies of tensors: one buffer, exactly as large as they need."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from shards.core.errors import warn

_ALIGNMENT = 64  # bytes; more than any dtype needs

Layout = dict[str, dict[str, tuple[torch.dtype, torch.Size, tuple[int, ...], int]]]  # dtype, shape, strides, offset


def layout(tensors: Mapping[str, Mapping[str, Tensor]]) -> tuple[Layout, int]:
    """Return where in a buffer the copies of tensors are, by file and name, and the size of the buffer in bytes."""
    places: Layout = {}
    end = 0
    for file, held in tensors.items():
        places[file] = {}
        for name, tensor in held.items():
            strides = torch.empty_like(tensor, device="meta").stride()  # its own, unless it has gaps
            places[file][name] = tensor.dtype, tensor.shape, strides, end
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    return places, end


def views(buffer: Tensor, places: Layout) -> dict[str, dict[str, Tensor]]:
    """Return tensors of a layout in a buffer, uint8 (size,)."""
    return {
        file: {
            name: buffer[offset : offset + shape.numel() * dtype.itemsize].view(dtype).as_strided(shape, strides)
            for name, (dtype, shape, strides, offset) in held.items()
        }
        for file, held in places.items()
    }


def allocate(size: int, pinned: bool) -> Tensor:
    """Return a buffer, uint8 (size,); ``pinned``: a GPU can copy to it while other work goes on.

    torch's own allocator rounds pinned memory up to a power of two, tensor by tensor. This memory is the kernel's, and
    is pinned where it is. If CUDA cannot pin so much, a warning says so: copies are the same, but take longer.
    """
    if not pinned:
        return torch.empty(size, dtype=torch.uint8)
    buffer = torch.frombuffer(mmap.mmap(-1, max(size, 1)), dtype=torch.uint8)[:size]
    cuda: Any = torch.cuda.cudart()
    if status := int(cuda.cudaHostRegister(buffer.data_ptr(), buffer.nbytes, 0)):
        warn(
            "memory-not-pinned",
            f"CUDA cannot pin {size:,} bytes of memory for checkpoints (error {status}); saves delay training more",
            anywhere=True,
        )
        return buffer
    weakref.finalize(buffer, cuda.cudaHostUnregister, buffer.data_ptr()).atexit = False
    return buffer
