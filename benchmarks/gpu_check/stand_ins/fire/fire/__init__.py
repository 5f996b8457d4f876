"""The part of fire that command lines need here, for machines without it: words come as ``--name=value``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def Fire(component: Callable[..., Any], command: Sequence[str]) -> Any:
    """Call ``component`` with the options in ``command``."""
    return component(**dict(word[2:].split("=", 1) for word in command))
