"""Explain that a device has not enough memory for a step, and which options need less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from shards.core.errors import Failure

# torch has one class for its own allocators of GPUs; libraries and other allocators report in their own words.
_WORDS = (
    "out of memory|can't allocate memory|not enough memory|_STATUS_ALLOC_FAILED|_STATUS_NOT_INITIALIZED.*cublasCreate"
)


@contextmanager
def explain_out_of_memory(batch: int, accumulate: int) -> Iterator[None]:
    """Turn an error for lack of memory into a sentence.

    Args:
        batch: images of a step on this process.
        accumulate: micro-batches that it is divided into.

    Raises:
        Failure: the memory of the device was not enough. Other errors are raised as they are.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not is_out_of_memory(error):
            raise
        raise Failure("out-of-memory", describe(error, batch, accumulate)) from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error says that the memory of a device, or of the machine, is used up."""
    return isinstance(error, torch.OutOfMemoryError) or re.search(_WORDS, str(error)) is not None


def describe(error: RuntimeError, batch: int, accumulate: int) -> str:
    """Return a sentence with what to do."""
    less = next((parts for parts in range(accumulate + 1, batch + 1) if batch % parts == 0), None)
    remedies = [f"--accumulate {less} (the same update, in {batch // less} images at a time)"] if less else []
    remedies += ["a smaller --batch, more processes or smaller networks"]
    asked = re.search(r"ried to allocate ([\d.]+ \w+)", str(error))
    return (
        f"out of memory with {batch // accumulate} images at a time on each process"
        f"{f' (tried to allocate {asked[1]})' if asked else ''}: use {', or '.join(remedies)}; "
        "--dry-run estimates what a step needs, and other programs may use the same device"
    )
