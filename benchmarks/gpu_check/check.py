"""A check and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gpu_check.machine import Machine


@dataclass(frozen=True)
class Outcome:
    """Result of a check.

    Attributes:
        passed: None for what is measured without a limit.
        says: one or more lines for people.
        figures: the same and more, ready for JSON.
    """

    passed: bool | None
    says: str
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """PASS, FAIL or NOTE."""
        return "NOTE" if self.passed is None else "PASS" if self.passed else "FAIL"


@dataclass(frozen=True)
class Check:
    """A check, and about how many seconds it takes on an H100."""

    function: Callable[[Machine], Outcome]
    seconds: float

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.function.__name__
