"""Names in archives that do not say their encoding: UTF-8, GBK, Shift-JIS, or the DOS code page of old archivers."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from shards.core.errors import UserError
from shards.core.problems import Problems

_UNICODE = 0x800  # flag of a zip member whose name is UTF-8
_KANA = re.compile(r"[\u3041-\u30ff]")
_ASIAN = ("gbk", "cp932", "big5", "euc_kr")


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
        readings = [f"{e} ({text[0]})" for e in (*_ASIAN, "cp437") if (text := _decoded([first], e))]
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
    if not any(_has_pair(name) for name in names):
        return "cp437"  # single letters with accents among plain ones
    joined = b"\n".join(names)
    fitting = [e for e, (score, least) in _SCORES.items() if (text := _decoded([joined], e)) and score(text[0]) > least]
    return fitting[0] if len(fitting) == 1 else ""


def _share_of_hangul(text: str) -> float:
    letters = _foreign(text)
    return sum("\uac00" <= letter <= "\ud7a3" for letter in letters) / max(1, len(letters))


def _has_pair(name: bytes) -> bool:
    return re.search(rb"[\x80-\xff][\x40-\xff]", name) is not None and re.search(rb"[\x80-\xff]{2}", name) is not None


def _foreign(text: str) -> list[str]:
    return [letter for letter in text if ord(letter) > 127]


def _share_of_kana(text: str) -> float:
    letters = _foreign(text)
    return sum(bool(_KANA.match(letter)) for letter in letters) / max(1, len(letters))


def _share_of_common_hanzi(text: str) -> float:
    """Return the share of letters that are among the 3,755 most frequent Chinese ones (level 1 of GB 2312)."""
    letters = _foreign(text)
    codes = [letter.encode("gbk") for letter in letters]
    return sum(len(code) == 2 and 0xB0 <= code[0] <= 0xD7 and code[1] >= 0xA1 for code in codes) / max(1, len(codes))


_SCORES: dict[str, tuple[Callable[[str], float], float]] = {  # what a text has much of, and how much is enough
    "cp932": (_share_of_kana, 0.3),
    "gbk": (_share_of_common_hanzi, 0.8),
    "euc_kr": (_share_of_hangul, 0.8),
}
