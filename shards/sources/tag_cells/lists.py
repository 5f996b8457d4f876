"""Lists and objects of tags, as JSON, Python, NumPy and YAML write them into a cell."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from shards.sources.cells import InvalidValue, sanitize, short_repr

Weighted = tuple[str, float | None]

_LONGEST = 1 << 17  # characters of a cell that is parsed as Python
_DEEPEST = 6
_QUOTED = re.compile(r"[bu]?('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")", re.DOTALL)
_ARRAY = re.compile(r"(?:np\.|numpy\.)?array\((.*?)(?:,\s*dtype=[^()]*)?\)", re.DOTALL)
_NUMBERS = re.compile(r"\[[-+0-9.eE,\s]*\]")
_BRACKETS = {"[]", "{}", "()"}
_NAMES = ("name", "tag", "label", "value", "class", "category", "text")
_WEIGHTS = ("score", "confidence", "weight", "probability", "prob")


def read_list(text: str) -> list[Any] | dict[str, Any] | None:
    """Return the list or object that a text spells; None if it spells none, or a list of numbers."""
    text = text.strip()
    if array := _ARRAY.fullmatch(text):
        text = array[1].strip()
    if text[:1] + text[-1:] not in _BRACKETS:
        return None
    value = _json(text)
    if value is None:
        value = _quoted(text[1:-1]) if text[0] != "{" or ":" not in text else None
    if value is None:
        value = _python(text)
    if value is None and text[0] == "[" and not re.search(r"[\[\]:]", text[1:-1]):
        value = [_unquoted(word) for word in text[1:-1].split(",")]  # as YAML writes it
    if isinstance(value, list | dict) and not _numbers(value):
        return value
    return None


def read_numbers(text: str) -> list[float] | None:
    """Return the numbers of a list such as [0.5, 1] or, as NumPy writes it, [0.5 1. ]; None for any other text."""
    text = text.strip()
    if not _NUMBERS.fullmatch(text):
        return None
    try:
        return [float(word) for word in text[1:-1].replace(",", " ").split()] or None
    except ValueError:
        return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _quoted(text: str) -> list[str] | None:
    """Return quoted words between which there are only blanks and commas: Python, or NumPy without commas."""
    if _QUOTED.sub("", text).replace(",", "").strip():
        return None
    words = [match[1][1:-1] for match in _QUOTED.finditer(text)]
    return [re.sub(r"\\(['\"\\])", r"\1", word) for word in words] or None


def _python(text: str) -> Any:
    if len(text) > _LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # '\(' is an invalid escape
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    return list(value) if isinstance(value, tuple | set) else value


def _numbers(value: list[Any] | dict[str, Any]) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(number, int | float) for number in value)


def _unquoted(word: str) -> str:
    word = word.strip()
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"" else word


def flatten(value: Any, depth: int = 0) -> list[Weighted]:
    """Return the tags of a list or object, with their weights.

    Understood are words; objects with a name (``{"name": "blue_hair", "score": 0.9}``); lists under ``choices`` or any
    other key; and objects tag → weight, or tag → true and false.

    Raises:
        InvalidValue: it holds something else.
    """
    if depth > _DEEPEST:
        raise InvalidValue("nested too deeply")
    if isinstance(value, str):
        return [(sanitize(value), None)]
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [pair for one in value for pair in flatten(one, depth + 1)]
    if isinstance(value, Mapping):
        return _of_object(value, depth)
    raise InvalidValue(f"tags must be a text or a list of texts, not {short_repr(value)}")


def _of_object(value: Mapping[str, Any], depth: int) -> list[Weighted]:
    values = list(value.values())
    if values and all(isinstance(one, bool) for one in values):
        return [(sanitize(str(tag)), None) for tag, present in value.items() if present]
    if values and all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        return [(sanitize(str(tag)), float(weight)) for tag, weight in value.items()]
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), None)
    if name is not None:
        weight = next((value[key] for key in _WEIGHTS if isinstance(value.get(key), int | float)), None)
        return [(sanitize(name), None if weight is None else float(weight))]
    if values and all(isinstance(one, list | Mapping) for one in values):
        return [pair for one in values for pair in flatten(one, depth + 1)]
    raise InvalidValue(f"{short_repr(value)} does not name tags")
