"""Write a program as JSON and bytes, for the runtime in assets/runtime."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from shards.core.errors import UserError
from trainer.playground import asset_files
from trainer.playground.program import GETITEM, Program, Step, Value, replaced

# Where and how a tensor is stored: a page has one place and one layout.
_PLACEMENT = {"device", "dtype", "layout", "memory_format", "pin_memory", "non_blocking"}
_ALIGNMENT = 4  # bytes


class Encoded(NamedTuple):
    """A program for the page: `content` is plain JSON values, `weights` the constants one after another."""

    content: dict[str, Any]
    weights: bytes


def encode(program: Program, dtype: torch.dtype) -> Encoded:
    """Encode a program.

    Args:
        dtype: float16 or float32; how its weights are stored.

    Raises:
        UserError: the page's runtime lacks one of its operators.
    """
    require_operators(program)
    constants, parts, start = [], [], 0
    for constant in program.constants:
        stored = constant.to(dtype if constant.is_floating_point() else torch.int32).numpy()
        data = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
        constants.append({"shape": list(constant.shape), "dtype": str(stored.dtype), "start": start})
        parts.append(data + bytes(-len(data) % _ALIGNMENT))
        start += len(parts[-1])
    steps = [[step.name, replaced(_positional(step), Value, lambda v: {"value": v.number})] for step in program.steps]
    return Encoded({"constants": constants, "steps": steps, "result": program.result.number}, b"".join(parts))


def require_operators(program: Program) -> None:
    """Check that the page's runtime can run a program.

    Raises:
        UserError: it lacks an operator, or a form of it; the message names all.
    """
    missing = sorted({step.name for step in program.steps} - asset_files.operators())
    missing += sorted({problem for step in program.steps for problem in _unsupported(step)})
    if missing:
        raise UserError(
            "operator-unsupported",
            f"the page cannot run this generator: it has no {', '.join(missing)}; "
            "add it to trainer/playground/assets/runtime, or draw with cgan sample",
        )


def _unsupported(step: Step) -> Iterator[str]:
    """Yield the forms of a known operator that the runtime would get wrong."""
    if step.options.get("dtype") not in (None, torch.float32):
        yield f"{step.name} to {step.options['dtype']}"
    for value in _leaves(_positional(step)):
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{step.name} of {value}"
        elif not isinstance(value, Value | bool | int | float | None):
            yield f"{step.name} of {value!r}"


def _leaves(part: Any) -> Iterator[Any]:
    if isinstance(part, list | tuple):
        for p in part:
            yield from _leaves(p)
    else:
        yield part


def _positional(step: Step) -> list[Any]:
    """Return all arguments of an operator by position, with torch's defaults, without those of placement."""
    if step.name == GETITEM:
        return list(step.arguments)
    found = []
    for position, argument in enumerate(step.target._schema.arguments):  # type: ignore[attr-defined]
        if argument.name in _PLACEMENT:
            continue
        if position < len(step.arguments):
            found.append(step.arguments[position])
        else:
            default = argument.default_value if argument.has_default_value() else None
            found.append(step.options.get(argument.name, default))
    return found


def choose_dtype(program: Program, z: np.ndarray, label: np.ndarray, known: np.ndarray) -> torch.dtype:
    """Return float16 if weights of half the size change no pixel of these images by 1 of 255, else float32."""
    rows = [torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in (z, label, known)]
    if any(c.is_floating_point() and c.abs().max() > torch.finfo(torch.float16).max for c in program.constants):
        return torch.float32
    exact, rounded = (p.run(*rows).clamp(-1, 1) * 127.5 for p in (program, program.rounded(torch.float16)))
    return torch.float16 if (exact - rounded).abs().max() < 1 else torch.float32
