"""What single cells, lines and notes say: words, numbers, sentences. Nothing that they hold raises anything strange."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from shards.core.atomic_io import first
from shards.dataset.schema import MAX_SIZE, normalise

Tags = tuple[str, ...]
Label = str | int | float  # a single one, as a source writes it

BETWEEN, BLANKS = "[,\n]", r"\s+"  # what parts tags in a text
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*)?(e[+-]?[0-9]+)?")  # "007" is a word
_WHOLE = 1 << 53  # up to which floats tell whole numbers apart
_STRANGE = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_FLOAT32 = float(np.finfo(np.float32).max)
_PIECE = 40  # characters that a tag has at most when texts are looked at


class NotOne(ValueError):
    """A value is not of the kind that was asked for; the message says why, in a few words."""


def clean(text: str) -> str:
    """Text that can be stored anywhere: no control characters, no halves of surrogate pairs."""
    return _STRANGE.sub("\N{REPLACEMENT CHARACTER}", text)


def parsed(data: bytes | str) -> Any:
    """What a JSON text says.

    Raises:
        NotOne: it is none, no UTF-8, nested too deep, or has numbers without end.
    """
    try:
        return json.loads(data.decode("utf-8-sig") if isinstance(data, bytes) else data)
    except UnicodeDecodeError:
        raise NotOne("not UTF-8") from None
    except RecursionError:
        raise NotOne("nested too deep") from None
    except ValueError as error:
        raise NotOne(f"no JSON: {' '.join(str(error).split())[:120]}") from None


def split(text: str, kept: dict[Tags, Tags] | None = None, at: str = BETWEEN) -> Tags:
    """The tags in a text, between commas or line ends; equal tuples are one object if ``kept`` is given."""
    words = map(normalise, re.split(at, clean(text)))
    tags = tuple(sys.intern(word) for word in dict.fromkeys(words) if word)
    return kept.setdefault(tags, tags) if kept is not None else tags


def parted(text: str) -> bool:
    """Whether a text has several tags, or may have: a comma or line end in it."""
    return re.search(BETWEEN, text) is not None


def tags_of(value: Any, kept: dict[Tags, Tags]) -> Tags | None:
    """The tags that a cell holds: text with commas, or a list of texts; None for nothing.

    Raises:
        NotOne: something else.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return split(value, kept)
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return split(",".join(word.replace(",", " ") for word in value), kept)
    raise NotOne(f"tags are text or a list of texts, not {shown(value)}")


def label_of(value: Any, names: list[str] | None = None) -> Label | tuple[float, ...] | None:
    """One class as a word, a single number (see `meanings`), or a list of numbers as a vector; None for nothing.

    Raises:
        NotOne: something else, or a class without a name where classes have names.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        value = str(value)
    if isinstance(value, int | float) and names:
        if not 0 <= value < len(names) or value != int(value):
            raise NotOne(f"class {shown(value)} of {len(names)}")
        value = names[int(value)]
    if isinstance(value, str):
        return sys.intern(normalise(clean(value))) or None
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise NotOne(f"class {shown(value)}")
    if isinstance(value, int | float):
        vector_of([value])  # what is no finite number is no label
        return value
    return vector_of(value)


def meanings(labels: Iterable[Label]) -> dict[Label, str | tuple[float, ...]]:
    """What the single labels of a source are: words, or vectors of one number.

    Where all numbers among them are whole they are classes: 3, 3.0 (as pandas writes integers beside nulls) and the
    texts "3" and "3.0" are the class "3". Where some are not, they are measured: vectors. A text that is a number
    counts as one if no other text is a word.
    """
    numbers = {label: number for label in labels if (number := _number(label)) is not None}
    words = {label for label in labels if isinstance(label, str) and label not in numbers}
    whole = all(
        (number == int(number) and abs(number) < _WHOLE) or isinstance(number, int) for number in numbers.values()
    )
    found: dict[Label, str | tuple[float, ...]] = {word: word for word in words}
    for label, number in numbers.items():
        if whole:
            found[label] = sys.intern(str(int(number)))
        else:
            found[label] = label if isinstance(label, str) and words else (float(number),)
    return found


def _number(label: Label) -> int | float | None:
    """The number that a label is; None: a word."""
    if not isinstance(label, str):
        return label
    if len(label) > 40 or not _NUMBER.fullmatch(label):
        return None
    number = int(label) if label.lstrip("-").isdigit() else float(label)
    return number if abs(number) <= _FLOAT32 else None


def vector_of(value: Any) -> tuple[float, ...]:
    """A list of numbers.

    Raises:
        NotOne: no list, none or too many, no numbers, or not finite as float32.
    """
    if not isinstance(value, list) or not 0 < len(value) <= MAX_SIZE:
        raise NotOne(f"{shown(value)} is no label")
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in value):
        raise NotOne(f"{shown(value)} holds what is no number")
    if not all(abs(number) <= _FLOAT32 for number in value):
        raise NotOne(f"{shown(value)} holds what is no finite number")
    return tuple(map(float, value))


def array_of(data: bytes) -> float | list[float]:
    """The numbers in a .npy file of one dimension, or the one number of a file without any.

    Raises:
        NotOne: no such file; what is pickled in one is never read.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        reading = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = reading[version](file)
        count = math.prod(shape)
        if len(shape) > 1 or dtype.kind not in "fiub" or count * dtype.itemsize != len(data) - file.tell():
            raise NotOne(f"an array {dtype} {shape}"[:120])
        values = np.frombuffer(data, dtype, offset=file.tell())
        found = list(vector_of([float(value) for value in values[: MAX_SIZE + 1]]))
        return found if shape else found[0]
    except NotOne:
        raise
    except Exception as error:  # numpy's reading of a damaged header fails in many ways
        raise NotOne(f"no array: {' '.join(str(error).split())[:120]}") from None


def sentence_of(value: Any) -> str | None:
    """A text with its lines evened out; the first of a list of them; None for nothing.

    Raises:
        NotOne: something else.
    """
    if isinstance(value, list) and value:
        value = value[0]
    if value is None or isinstance(value, str):
        lines = (" ".join(line.split()) for line in clean(value or "").splitlines())
        return "\n".join(line for line in lines if line) or None
    raise NotOne(f"a text, not {shown(value)}")


def blank_parted(texts: Iterable[str]) -> bool:
    """Whether texts are tags between blanks, as boorus write them (`1girl long_hair`): none has a comma, most have
    several words with an underscore among them, and most words come again."""
    counts: Counter[str] = Counter()
    rows = several = 0
    for text in texts:
        if parted(text):
            return False
        words = text.split()
        rows += bool(words)
        several += len(words) > 1 and "_" in text
        if len(counts) < 1_000_000:
            counts.update(words)
    again = sum(count for count in counts.values() if count > 1)
    return several * 2 > rows and again * 2 >= counts.total()


def tag_like(texts: Iterable[str]) -> bool:
    """Whether texts are tags between commas rather than captions: short pieces, most of which come again."""
    counts: Counter[str] = Counter()
    rows = longer = commas = 0
    for text in texts:
        pieces = [normalise(piece) for piece in re.split("[,\n]", text) if piece.strip()]
        rows += 1
        commas += len(pieces) > 1
        longer += any(len(piece) > _PIECE or piece.count(" ") > 4 or piece.endswith(".") for piece in pieces)
        if len(counts) < 1_000_000:
            counts.update(pieces)
    if not rows or longer * 10 > rows:
        return False
    total, again = counts.total(), sum(count for count in counts.values() if count > 1)
    # Short captions without commas come again too ("a red fox"); an article gives them away.
    articled = sum(count for piece, count in counts.items() if piece.startswith(("a ", "an ", "the ")))
    if articled * 5 > total:
        return False
    return bool(commas) and (again * 2 >= total or commas * 10 >= rows * 9)


def listed(names: Iterable[str], limit: int = 10) -> str:
    """Names from a file for a sentence: in one line, the long ones and the list itself shortened."""
    lines = (" ".join(clean(name[:61]).split()) for name in names)
    return first([line if len(line) <= 60 else f"{line[:60]}…" for line in lines], limit)


def shown(value: Any) -> str:
    """A value for a sentence, shortened."""
    if isinstance(value, int) and abs(value) >= 1 << 128:
        return "a number without end"
    try:
        text = repr(value[:4] if isinstance(value, list | str) else value)
    except (RecursionError, ValueError):
        text = type(value).__name__
    return clean(text if len(text) <= 60 else text[:60] + "…")


def get(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of some columns that a row has something in."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)
