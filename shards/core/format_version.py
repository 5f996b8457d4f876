"""The number of the format of a file that a later version of this project may have written."""

from __future__ import annotations

from typing import Any

from shards.core.errors import UserError

KEY = "format_version"


class NewerFormatError(UserError):
    """A file has a later format than this version reads."""


def check(content: Any, newest: int, where: str) -> None:
    """Check that a file's content has a format that this version reads.

    Args:
        content: an object of JSON, with its number under `KEY`.
        newest: the highest number that is read.
        where: names the file and the kind of format, such as "runs/first/evaluation.json has format".

    Raises:
        ValueError: there is no number, or it is not a whole number above 0.
        NewerFormatError: it is higher than ``newest``.
    """
    version = content.get(KEY) if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError(f"it has no {KEY}")
    if version > newest:
        raise NewerFormatError("newer-format", f"{where} {version}, and this version reads up to {newest}; upgrade")
