"""The body of ``POST /sample``: {"words": "blue hair", "count": 4, "seed": 0}, and the kind of answer it gets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shards.core import text_files
from trainer.generation.generate import FEW
from trainer.serving.problems import Problem

MAX_BODY = 16 << 10  # bytes
MAX_WORDS = 500  # characters
MAX_COUNT = FEW  # images, up to which they are drawn in passes of one shape
MAX_SEED = 2**53 - 1  # the largest whole number that JavaScript has exactly, as in the playground

PNG, JSON = "image/png", "application/json"


@dataclass(frozen=True)
class SampleRequest:
    """A request for images, as `cgan sample` takes it."""

    words: str
    count: int = 1
    seed: int = 0


def parse(body: bytes) -> SampleRequest:
    """Return the request of a body.

    Raises:
        Problem: it is not JSON (400), or not a request (422); the message names the field.
    """
    try:
        content = text_files.parse_json(body)
    except text_files.UnreadableText as error:
        raise Problem(400, "invalid-json", f"the body {error}") from None
    if not isinstance(content, dict):
        raise Problem(422, "invalid-value", 'the body is no JSON object; send {"words": "…", "count": 1, "seed": 0}')
    for unknown in (name for name in content if name not in _FIELDS):
        near = difflib.get_close_matches(unknown[:MAX_WORDS], _FIELDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_FIELDS)}"
        raise Problem(422, "unknown-field", f"unknown field {unknown[:80]!r}; {hint}")
    if "words" not in content:
        raise Problem(422, "missing-field", 'words is missing; give what to draw, or "anything"')
    return SampleRequest(**{name: _FIELDS[name](name, value) for name, value in content.items()})


def _words(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Problem(422, "invalid-value", f"{name}: {_shown(value)} is not a text")
    if len(value) > MAX_WORDS:
        raise Problem(422, "invalid-value", f"{name} has {len(value):,} characters; the limit is {MAX_WORDS}")
    if re.search("[\ud800-\udfff]", value):
        raise Problem(422, "invalid-value", f"{name} has half of a surrogate pair, which is no character")
    return value


def _whole_number(minimum: int, maximum: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())  # 4.0 is one in JSON
        if isinstance(value, bool) or not whole:
            raise Problem(422, "invalid-value", f"{name}: {_shown(value)} is not a whole number")
        if not minimum <= value <= maximum:
            raise Problem(
                422, "invalid-value", f"{name}: {_shown(value)} is not between {minimum} and {maximum}; choose another"
            )
        return int(value)

    return check


_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "words": _words,
    "count": _whole_number(1, MAX_COUNT),
    "seed": _whole_number(0, MAX_SEED),
}


def _shown(value: Any) -> str:
    kinds: Mapping[type, str] = {dict: "an object", list: "an array", type(None): "null"}
    return kinds.get(type(value), repr(value)[:40])


def choose_answer(accept: str | None) -> str:
    """Return `PNG` or `JSON`: what an Accept header prefers, and PNG if it has no preference (RFC 9110, 12.5.1).

    Raises:
        Problem: it accepts neither (406).
    """
    ranges = dict(_range(part) for part in (accept or "*/*").split(",") if part.strip())
    quality = {kind: _quality(kind, ranges) for kind in (PNG, JSON)}
    best = max(quality, key=lambda kind: quality[kind])
    if not quality[best]:
        raise Problem(406, "not-acceptable", f"this answers with {PNG} or {JSON}; name one of them in Accept")
    return best


def _range(part: str) -> tuple[str, float]:
    kind, *parameters = (word.strip().lower() for word in part.split(";"))
    quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    return kind, float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality) else 0.0


def _quality(kind: str, ranges: Mapping[str, float]) -> float:
    """Return the quality that the most specific range gives a kind."""
    return next((ranges[name] for name in (kind, f"{kind.split('/')[0]}/*", "*/*") if name in ranges), 0.0)
