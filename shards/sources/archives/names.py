"""Names in archives that do not say their encoding: UTF-8, GBK, Shift-JIS, or the DOS code page of old archivers."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.sources.text.encoding import detect

_UNICODE = 0x800  # flag of a zip member whose name is UTF-8
_DOS = "cp437"
_READINGS = ("gb18030", "big5", "cp932", "cp949", "cp866", _DOS)  # that a person is shown


def is_written_in_unicode(info: zipfile.ZipInfo) -> bool:
    """Return True if a zip member says that its name is UTF-8."""
    return bool(info.flag_bits & _UNICODE)


def decode_names(path: Path, raw: Mapping[str, bytes], encoding: str | None, problems: Problems) -> dict[str, str]:
    """Return name → name as it was meant, for names whose encoding is not told; count them.

    Args:
        path: the archive, for messages.
        raw: name as Python read it → its bytes.
        encoding: that of ``--encoding``; None: detect it.
        problems: counts the names.

    Raises:
        UserError: the encoding cannot be told with confidence, or ``encoding`` does not fit.
    """
    if not raw:
        return {}
    chosen = encoding or _detect(list(raw.values()))
    decoded = _decoded(raw.values(), chosen) if chosen else None
    if not chosen or decoded is None:
        first = next(iter(raw.values()))
        readings = [f"{e} ({text[0]})" for e in _READINGS if (text := _decoded([first], e))]
        told = f"--encoding {encoding} does not fit them" if encoding else "their encoding is not told"
        raise UserError(
            "encoding-unclear",
            f"{path}: names in it are not UTF-8 and {told}; set --encoding, for example: {', '.join(readings)}",
        )
    for name in decoded:
        problems.add("name-decoded", name, detail=chosen)
    return dict(zip(raw, decoded, strict=True))


def _decoded(names: Iterable[bytes], encoding: str) -> list[str] | None:
    try:
        return [name.decode(encoding) for name in names]
    except (UnicodeDecodeError, LookupError):
        return None


def _detect(names: list[bytes]) -> str:
    """Return the encoding of names; "" if several would do."""
    if _decoded(names, "utf-8"):
        return "utf-8"
    return detect(names) or (_DOS if _are_accents(names) else "")


def _are_accents(names: list[bytes]) -> bool:
    """Return True if the letters beyond ASCII are single accented ones among plain ones, in the DOS code page."""
    text = b"/".join(names).decode(_DOS)
    foreign = re.findall(r"[^\x00-\x7f]+", text)
    return all(len(run) <= 2 and run.isalpha() and max(run) <= "\u00ff" for run in foreign)
