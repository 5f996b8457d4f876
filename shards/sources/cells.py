"""Parsing of single cells, lines and notes into words, numbers and sentences.

Content from anywhere is parsed here: each function returns a value or raises `InvalidValue`, and nothing else.
"""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from shards.core.atomic_io import join_names
from shards.dataset.schema import MAX_SIZE
from shards.vocabulary.spelling import clean_letters

Tags = tuple[str, ...]
Label = str | int | float  # a single label as a source writes it

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*)?(e[+-]?[0-9]+)?")  # "007" is a word
_MAX_EXACT_INTEGER = 1 << 53  # larger floats cannot represent every integer
_UNSTORABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_BLANKS = re.compile(r"[^\S\t]+")
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class InvalidValue(ValueError):
    """A value is not of the expected kind; the message gives the reason in a few words."""


def sanitize(text: str) -> str:
    """Replace control characters and lone surrogates, so that the text can be stored anywhere."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def parse_json(data: bytes | str, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return the value of a JSON text.

    Args:
        data: in UTF-8 if it is bytes.
        hook: told each object, returns what takes its place.

    Raises:
        InvalidValue: it is not valid JSON or not UTF-8, is nested too deeply, or has huge numbers.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        return json.loads(text, object_hook=hook)
    except UnicodeDecodeError:
        raise InvalidValue("not UTF-8") from None
    except RecursionError:
        raise InvalidValue("nested too deeply") from None
    except ValueError as error:
        raise InvalidValue(f"not JSON: {' '.join(str(error).split())[:120]}") from None


def parse_label(value: Any, names: list[str] | None = None) -> Label | tuple[float, ...] | None:
    """Return a text, a single number (see `interpret_labels`), or a list of numbers as a vector; None for nothing.

    Args:
        value: the cell.
        names: names of the classes 0, 1, …, which replace numbers.

    Raises:
        InvalidValue: the cell holds something else, or a class that has no name in ``names``.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        value = str(value)
    if isinstance(value, int | float) and names:
        if not 0 <= value < len(names) or value != int(value):
            raise InvalidValue(f"class {short_repr(value)} of {len(names)}")
        value = names[int(value)]
    if isinstance(value, str):
        return sys.intern(" ".join(clean_letters(sanitize(value)).split())) or None
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise InvalidValue(f"class {short_repr(value)}")
    if isinstance(value, int | float):
        parse_vector([value])  # raises for a number that is not finite
        return value
    return parse_vector(value)


def interpret_labels(labels: Iterable[Label]) -> dict[Label, str | tuple[float, ...]]:
    """Map the single labels of a source to words, or to vectors of one number.

    If all numbers among them are whole they are classes: 3, 3.0 (as pandas writes integers in a column with gaps) and
    the texts "3" and "3.0" are the class "3". Otherwise they are measurements: vectors. A text that is a number
    counts as one if no other text is a word.
    """
    numbers = {label: number for label in labels if (number := _number(label)) is not None}
    words = {label for label in labels if isinstance(label, str) and label not in numbers}
    whole = all(
        (number == int(number) and abs(number) < _MAX_EXACT_INTEGER) or isinstance(number, int)
        for number in numbers.values()
    )
    result: dict[Label, str | tuple[float, ...]] = {word: word for word in words}
    for label, number in numbers.items():
        if whole:
            result[label] = sys.intern(str(int(number)))
        else:
            result[label] = label if isinstance(label, str) and words else (float(number),)
    return result


def _number(label: Label) -> int | float | None:
    """Return the number that a label is; None for a word."""
    if not isinstance(label, str):
        return label
    if len(label) > 40 or not _NUMBER.fullmatch(label):
        return None
    number = int(label) if label.lstrip("-").isdigit() else float(label)
    return number if abs(number) <= _FLOAT32_MAX else None


def parse_vector(value: Any) -> tuple[float, ...]:
    """Return a list of numbers as floats.

    Raises:
        InvalidValue: the value is not a list, is empty or too long, or holds anything but finite float32 numbers.
    """
    if not isinstance(value, list) or not 0 < len(value) <= MAX_SIZE:
        raise InvalidValue(f"{short_repr(value)} is not a label")
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in value):
        raise InvalidValue(f"{short_repr(value)} does not hold numbers only")
    if not all(abs(number) <= _FLOAT32_MAX for number in value):
        raise InvalidValue(f"{short_repr(value)} holds a number that is not finite")
    return tuple(map(float, value))


def parse_npy(data: bytes) -> float | list[float]:
    """Return the numbers of a .npy file: a list for one dimension, a single number for a scalar.

    Raises:
        InvalidValue: the file is anything else; pickled objects are never loaded.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = readers[version](file)
        count = math.prod(shape)
        if len(shape) > 1 or dtype.kind not in "fiub" or count * dtype.itemsize != len(data) - file.tell():
            raise InvalidValue(f"an array {dtype} {shape}"[:120])
        values = np.frombuffer(data, dtype, offset=file.tell())
        numbers = list(parse_vector([float(value) for value in values[: MAX_SIZE + 1]]))
        return numbers if shape else numbers[0]
    except InvalidValue:
        raise
    except Exception as error:  # NumPy fails in many ways on a damaged header
        raise InvalidValue(f"not an array: {' '.join(str(error).split())[:120]}") from None


def parse_caption(value: Any) -> str | None:
    """Return a text with single spaces and without empty lines, or the first of a list of texts; None for nothing.

    Tabs stay: they may separate tags.

    Raises:
        InvalidValue: the value is something else.
    """
    if isinstance(value, list) and value:
        value = value[0]
    if value is None or isinstance(value, str):
        lines = (_BLANKS.sub(" ", line).strip() for line in sanitize(value or "").splitlines())
        return "\n".join(line for line in lines if line) or None
    raise InvalidValue(f"must be a text, not {short_repr(value)}")


def shorten_names(names: Iterable[str], limit: int = 10) -> str:
    """Return names from a file for a message: on one line, with long names and the list itself shortened."""
    lines = (" ".join(sanitize(name[:61]).split()) for name in names)
    return join_names([line if len(line) <= 60 else f"{line[:60]}…" for line in lines], limit)


def short_repr(value: Any) -> str:
    """Return the repr of a value for a message, shortened."""
    if isinstance(value, int) and abs(value) >= 1 << 128:
        return "a huge number"
    try:
        text = repr(value[:4] if isinstance(value, list) else value[:60] if isinstance(value, str) else value)
    except (RecursionError, ValueError):
        text = type(value).__name__
    return sanitize(text if len(text) <= 60 else text[:60] + "…")


def first_value(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first value of a row, among the given columns, that is not empty; None if there is none."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)
