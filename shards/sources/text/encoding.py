"""From bytes to text: the encoding is told by marks, validity and plausibility of the text, or it is asked for."""

from __future__ import annotations

import codecs
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.sources.text.letters import LEGACY, is_rare, plausibility, prior

_MARKS = (  # the longer ones first: that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_BOUNDARY = re.compile(rb"[\x00-\x2f\x3a-\x3f]+")  # bytes that end a character in every encoding
_UTF8_LETTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_SAMPLE = 1 << 20  # bytes that are looked at
_MAX_PIECES = 5_000
_MARGIN = 4.0  # natural logarithm of how much more probable the best encoding must be
_UNLIKELY = re.compile("[\x00-\x08\x0e-\x1f\ufffe\uffff\ue000-\uf8ff]")


class Decoded(NamedTuple):
    """A text, its encoding by Python's name, and how the encoding is known, for people."""

    text: str
    encoding: str
    evidence: str


class _Guess(NamedTuple):
    encodings: list[str]  # the most plausible first
    sure: bool


def decode(data: bytes, where: str, encoding: str | None = None, problems: Problems | None = None) -> Decoded:
    """Return the text of a file.

    Args:
        data: its bytes.
        where: its path, for messages.
        encoding: that of ``--encoding``; None: detect it.
        problems: counts texts that are not in UTF-8.

    Raises:
        UserError: the encoding cannot be told, ``encoding`` does not fit, or this is no text.
    """
    decoded = _decode_as(data, where, encoding) if encoding else _detect_and_decode(data, where)
    if problems is not None and decoded.encoding != "utf-8":
        problems.add("text-decoded", posixpath.basename(where), detail=decoded.encoding)
    return decoded


def detect(texts: Iterable[bytes]) -> str:
    """Return the one legacy encoding of texts that are not UTF-8; "" if several would do."""
    guess = _guess(b"\n".join(texts))
    return guess.encodings[0] if guess.sure else ""


def _decode_as(data: bytes, where: str, encoding: str) -> Decoded:
    try:
        name = codecs.lookup(encoding).name
        text = data.decode(name)
    except LookupError:
        raise UserError(
            "invalid-value", f"--encoding: {encoding!r} is no encoding; write for example gb18030"
        ) from None
    except (UnicodeError, ValueError) as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        raise UserError(
            "encoding-mismatch",
            f"{where}, line {_line(data, start)}: not {encoding}, which --encoding names; omit it, or name another",
        ) from None
    return Decoded(_checked(text, where).removeprefix("\ufeff"), name, "--encoding")


def _detect_and_decode(data: bytes, where: str) -> Decoded:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                text = data[len(mark) :].decode(encoding)
            except UnicodeDecodeError:
                raise _damaged(where, encoding) from None
            return Decoded(_checked(text, where), encoding, "byte order mark")
    if b"\x00" in data:
        return _decode_wide(data, where)
    if b"\x1b$" in data and (text := _try(data, "iso2022_jp")) is not None:
        return Decoded(text, "iso2022_jp", "escape sequences")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return _decode_legacy(data, where, error.start)
    if _has_impossible_letters(text) and (name := detect([data])):
        return Decoded(data.decode(name), name, "as UTF-8 it has letters that do not exist")
    return Decoded(text, "utf-8", "valid UTF-8")


def _decode_wide(data: bytes, where: str) -> Decoded:
    """Return the text of a file with NULs: UTF-16 or UTF-32 without a mark."""
    ascii_share = sum(32 <= byte < 127 for byte in data[:4096]) / len(data[:4096])  # half of UTF-16 at most
    for encoding in reversed(_WIDE if ascii_share < 0.6 else ()):
        text = _try(data, encoding)
        if text and not _UNLIKELY.search(text) and _plain_share(text) > 0.05:
            return Decoded(text, encoding, "NULs between letters")
    line = _line(data, data.index(b"\x00"))
    raise UserError(
        "text-binary", f"{where}, line {line}: contains NUL bytes; this is not a text file, or a damaged one"
    )


def _decode_legacy(data: bytes, where: str, start: int) -> Decoded:
    sample = data[:_SAMPLE]
    beyond = sum(byte > 127 for byte in sample)
    if sum(map(len, _UTF8_LETTER.findall(sample))) > 0.9 * beyond and beyond > 20:
        raise UserError(
            "encoding-mixed",
            f"{where}, line {_line(data, start)}: not UTF-8, although most of the file is; correct that line, "
            "or set --encoding",
        )
    guess = _guess(data)
    if guess.sure:
        text = data.decode(guess.encodings[0])
        return Decoded(_checked(text, where), guess.encodings[0], "its letters are common only in this encoding")
    begin = data.rfind(b"\n", 0, start) + 1
    line = data[begin : data.find(b"\n", start) % (len(data) + 1)][:200]
    shown = (f"{name} ({_excerpt(line, name)})" for name in guess.encodings[:4])
    readings = ", ".join(shown) or "none of the usual ones fits"
    raise UserError(
        "encoding-unclear",
        f"{where}, line {_line(data, start)}: not UTF-8, and its encoding cannot be told; set --encoding, for example: "
        f"{readings}",
    )


def _guess(data: bytes) -> _Guess:
    """Rank the legacy encodings by the plausibility of all distinct pieces of text."""
    pieces = _pieces(data[:_SAMPLE])
    scores: dict[str, float] = {}
    for encoding in LEGACY:
        texts = [_try(piece, encoding) for piece in pieces]
        if all(text is not None for text in texts) and _try(data, encoding) is not None:
            scores[encoding] = prior(encoding) + sum(plausibility(text or "", encoding) for text in texts)
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    if not ranked:
        return _Guess([], sure=False)
    best = ranked[0]
    meant = [_try(piece, best) for piece in pieces]
    others = [name for name in ranked[1:] if [_try(piece, name) for piece in pieces] != meant]
    far = not others or scores[best] - scores[others[0]] > _MARGIN
    return _Guess(ranked, far and not is_rare("".join(filter(None, meant)), best))


def _pieces(data: bytes) -> list[bytes]:
    found = dict.fromkeys(piece for piece in _BOUNDARY.split(data) if not piece.isascii())
    pieces = list(found)[:_MAX_PIECES]
    return pieces[:-1] if len(data) == _SAMPLE and len(pieces) > 1 else pieces  # the last one may be cut


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _checked(text: str, where: str) -> str:
    if (at := text.find("\x00")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise UserError("text-binary", f"{where}, line {line}: contains NUL characters; this is not a text file")
    return text


def _has_impossible_letters(text: str) -> bool:
    """Return True if a text in UTF-8 may be one in GBK: some pairs of letters there are one letter here."""
    beyond = set() if text.isascii() else {letter for letter in set(text) if letter >= "\x80"}
    return bool(beyond) and max(beyond) < "\u0800" and any(unicodedata.category(letter) == "Cn" for letter in beyond)


def _damaged(where: str, encoding: str) -> UserError:
    return UserError(
        "encoding-mismatch",
        f"{where}: begins as {encoding.upper()}, but is not; it is damaged or incomplete: save it again as UTF-8",
    )


def _plain_share(text: str) -> float:
    sample = text[:4096]
    return sum(letter < "\x80" for letter in sample) / len(sample)


def _excerpt(line: bytes, encoding: str) -> str:
    text = line.decode(encoding, "replace")
    at = next((i for i, letter in enumerate(text) if letter >= "\x80"), 0)
    return " ".join(text[at : at + 12].split())


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1
