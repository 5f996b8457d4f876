"""Assertions on errors: by message code and by what the message names, never by its prose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shards.core.errors import UserError


@contextmanager
def raises(code: str, *named: object, kind: type[UserError] = UserError) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expect a `UserError` (or a subclass) with this code whose message mentions everything in ``named``."""
    with pytest.raises(kind) as caught:
        yield caught
    assert_error(caught.value, code, *named)


def assert_error(error: UserError, code: str, *named: object) -> None:
    """Assert an error's code and that its message mentions everything in ``named``."""
    assert error.code == code, f"[{error.code}] {error}"
    missing = [str(name) for name in named if str(name) not in str(error)]
    assert not missing, f"{missing} not in: {error}"


def codes(output: str) -> list[str]:
    """Return the codes of all errors and warnings that a process printed, in order."""
    return re.findall(r"(?m)^(?:error|warning): .*\[([a-z0-9-]+)\]$", output)


def assert_printed(output: str, code: str, *named: object) -> None:
    """Assert that a process printed an error or a warning with this code that mentions everything in ``named``."""
    lines = [line for line in output.splitlines() if line.endswith(f"[{code}]")]
    assert lines, f"no [{code}] in: {output}"
    assert any(all(str(name) in line for name in named) for line in lines), f"{named} not in: {lines}"
