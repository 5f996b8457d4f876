"""Negative controls: what a careless change of the trainer would do to a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from support.fake_cuda.training import Training

import torch  # isort: skip - after the rig
from torch import Tensor


def _read_early(logits: Tensor) -> Tensor:
    copy = torch.empty_like(logits, device="cpu", pin_memory=True).copy_(logits, non_blocking=True)
    return logits * float(copy[0])


def _copy_to_pageable_memory(logits: Tensor) -> Tensor:
    torch.empty_like(logits, device="cpu").copy_(logits, non_blocking=True)
    return logits


# Each changes the logits of real images before the discriminator's loss.
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda logits: logits,
    "a value": lambda logits: logits * logits.mean().item(),
    "a condition": lambda logits: logits if logits.mean() > 0 else -logits,
    "a list": lambda logits: logits * max(logits.tolist()),
    "a mask": lambda logits: logits[logits > 0],
    "numbers from the host": lambda logits: logits * torch.tensor([2.0], device=logits.device),
    "a copy to the host": lambda logits: logits * logits.mean().cpu(),
    "a copy that is read early": _read_early,
    "a copy to pageable memory": _copy_to_pageable_memory,
    "a tensor made on the CPU": lambda logits: logits * torch.ones(len(logits)),
    "an index made on the CPU": lambda logits: logits[torch.arange(len(logits))],
    "a kernel more": lambda logits: logits.clone(),
    "memory": lambda logits: logits + torch.zeros(10_000_000, device=logits.device)[: len(logits)],
}


def changed(training: Training, change: str) -> AbstractContextManager[Any]:
    """Return a context in which steps of ``training`` have a change, one of `CHANGES`."""
    method, apply = training.state.method, CHANGES[change]
    loss = dataclasses.replace(
        method.loss, discriminator=lambda real, fake: method.loss.discriminator(apply(real), fake)
    )
    return mock.patch.object(training.state, "method", dataclasses.replace(method, loss=loss))
