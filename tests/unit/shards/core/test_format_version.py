"""A file's format number: absent or odd is damage, a higher one asks for an upgrade."""

from __future__ import annotations

from typing import Any

import pytest

from shards.core import format_version
from shards.core.format_version import NewerFormatError
from support.errors import raises


@pytest.mark.parametrize("number", [1, 2])
def test_formats_up_to_the_newest_pass(number: int) -> None:
    format_version.check({"format_version": number}, 2, "x has format")


def test_later_format_is_named() -> None:
    with raises("newer-format", "notes.json has format 3", "up to 2", "upgrade", kind=NewerFormatError):
        format_version.check({"format_version": 3}, 2, "notes.json has format")


@pytest.mark.parametrize("content", [{}, [], None, *({"format_version": n} for n in ("1", 1.0, True, 0, -1, None))])
def test_anything_else_is_damage(content: Any) -> None:
    with pytest.raises(ValueError, match="format_version"):
        format_version.check(content, 2, "x has format")
