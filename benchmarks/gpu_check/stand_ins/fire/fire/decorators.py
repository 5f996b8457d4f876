"""fire's decorators in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def SetParseFn(function: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Return a decorator that changes nothing: `fire.Fire` passes words as they are, which is what ``str`` does."""
    return lambda component: component
