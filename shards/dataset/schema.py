"""The label schema of a dataset: its attributes, their values, and the label vector.

An *exclusive* attribute takes one of several values (hair colour: "blue hair", "red hair", …); a *tag* is present or
absent ("glasses"); a *vector* is numbers from the source; a *text* is a caption, encoded as a vector of unit length. A
label is a float32 vector with one entry per value or number; a mask says which attributes are known.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np

from shards.core import text_files
from shards.core.errors import UserError
from shards.vocabulary.spelling import normalise

Kind = Literal["exclusive", "tag", "vector", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WORDLESS = ("vector", "text")  # kinds with a size instead of values: phrases cannot name them
MAX_SIZE = 1 << 16  # numbers of a vector or text
WIDE = 256  # entries of zeros and ones, above which a label is stored as a list of its ones


@dataclass(frozen=True)
class Attribute:
    """One property of an image that a label describes.

    Attributes:
        name: unique in its schema.
        kind: "exclusive" (one of ``values``), "tag" (its value is present or absent), "vector" or "text" (numbers).
        values: normalised words (see `normalise`); exactly one for a tag, none for a vector or text.
        size: number of entries of a vector or text.
    """

    name: str
    kind: Kind
    values: tuple[str, ...] = ()
    size: int = 0

    @property
    def width(self) -> int:
        """Number of its entries in the label vector."""
        return self.size if self.kind in WORDLESS else len(self.values)


class Encoded(NamedTuple):
    """The label of one row: float32 (L,) of zeros and ones, bool (A,) mask, names of attributes with two values."""

    label: np.ndarray
    known: np.ndarray
    conflicts: tuple[str, ...]


@dataclass(frozen=True)
class Schema:
    """The A attributes of a dataset, in the order of the label vector, which has L entries.

    Raises:
        UserError: there are no attributes, a name or value is repeated, or a tag does not have exactly one value.
    """

    attributes: tuple[Attribute, ...]

    def __post_init__(self) -> None:
        if not self.attributes:
            raise UserError("schema-invalid", "the schema has no attributes; it needs at least one")
        for attribute in self.attributes:
            if attribute.kind == "tag" and attribute.width != 1:
                raise UserError(
                    "schema-invalid",
                    f"schema: {attribute.name!r} is a tag and must have exactly one value, not {attribute.width}",
                )
            if attribute.kind not in WORDLESS and not attribute.values:
                raise UserError("schema-invalid", f"schema: {attribute.name!r} has no values")
            if attribute.kind in WORDLESS and (attribute.values or not 0 < attribute.size <= MAX_SIZE):
                raise UserError(
                    "schema-invalid",
                    f"schema: {attribute.name!r} is a {attribute.kind}: no values, and a size of 1 to {MAX_SIZE:,}",
                )
        for kind, words in (("attribute name", [a.name for a in self.attributes]), ("value", list(self.values))):
            if double := [word for word, count in Counter(words).items() if count > 1]:
                raise UserError("schema-invalid", f"schema: the {kind} {double[0]!r} is repeated; each must be unique")

    @functools.cached_property
    def values(self) -> tuple[str, ...]:
        """All values, in the order of the label vector."""
        return tuple(value for attribute in self.attributes for value in attribute.values)

    @functools.cached_property
    def widths(self) -> tuple[int, ...]:
        """Number of entries of each attribute."""
        return tuple(attribute.width for attribute in self.attributes)

    @functools.cached_property
    def width(self) -> int:
        """L, the length of a label vector."""
        return sum(self.widths)

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """int64 (A,): the first entry of each attribute in the label vector."""
        return np.cumsum((0, *self.widths[:-1]), dtype=np.int64)

    @property
    def label_dtype(self) -> np.dtype:
        """How label vectors are stored: as bytes if all entries are zeros and ones, else float32."""
        return np.dtype(np.float32 if any(a.kind in WORDLESS for a in self.attributes) else np.uint8)

    @property
    def is_wide(self) -> bool:
        """Whether label vectors would take more space in a tar than small images: they are stored as a list there."""
        return self.label_dtype == np.uint8 and self.width > WIDE

    @functools.cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """Value → (index of its attribute, index of the value in it)."""
        return {
            value: (a, v) for a, attribute in enumerate(self.attributes) for v, value in enumerate(attribute.values)
        }

    def encode(
        self,
        tags: Sequence[str] | None,
        absent: str = "false",
        *,
        denied: Sequence[str] = (),
        explicit: frozenset[str] = frozenset(),
    ) -> Encoded:
        """Return the label for the tags of one row; vectors and texts stay unknown here.

        Args:
            tags: the row's tags, not necessarily normalised; tags that the schema lacks are ignored; None or empty:
                nothing is known.
            absent: what a missing independent tag means in a row that has tags, "false" or "unknown".
            denied: tags that the row states to be absent.
            explicit: normalised tags that have a column each: a missing one is unknown, and a present one implies
                nothing about the row's other tags.

        Returns:
            The label, the known mask and the exclusive attributes with two values, which are unknown; entries of
            unknown attributes are zero.
        """
        label, known = np.zeros(self.width, np.float32), np.zeros(len(self.attributes), bool)
        for tag in denied:
            if (place := self.places.get(normalise(tag))) and self.attributes[place[0]].kind == "tag":
                known[place[0]] = True
        if not tags:
            return Encoded(label, known, ())
        found: dict[int, set[int]] = {}
        for tag in tags:
            if place := self.places.get(normalise(tag)):
                found.setdefault(place[0], set()).add(place[1])
        if absent == "false" and not explicit.issuperset(map(normalise, tags)):
            known |= self._tags(explicit)
        for attribute, chosen in found.items():
            known[attribute] = len(chosen) == 1
            if known[attribute]:
                label[self.starts[attribute] + chosen.pop()] = 1
        return Encoded(label, known, tuple(self.attributes[a].name for a in sorted(found) if not known[a]))

    def _tags(self, explicit: frozenset[str]) -> np.ndarray:
        if explicit not in self._tag_masks:
            mask = [a.kind == "tag" and a.values[0] not in explicit for a in self.attributes]
            self._tag_masks[explicit] = np.array(mask, bool)
        return self._tag_masks[explicit]

    @functools.cached_property
    def _tag_masks(self) -> dict[frozenset[str], np.ndarray]:
        return {}

    def words(self, label: np.ndarray, known: np.ndarray) -> list[str]:
        """Return the values that a label (L,) with its mask (A,) names, in vector order: ``["blue hair", "smile"]``."""
        return [
            value
            for attribute, start, said in zip(self.attributes, self.starts.tolist(), known, strict=True)
            if said
            for value, entry in zip(attribute.values, label[start : start + len(attribute.values)], strict=True)
            if entry > 0.5
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the schema as plain JSON values."""
        return {"attributes": [_plain(attribute) for attribute in self.attributes]}

    @staticmethod
    def from_json(content: Any, where: str = "schema") -> Schema:
        """Return the schema that `to_json` (or a person) wrote.

        Raises:
            UserError: it is not valid; the message names ``where`` and the attribute.
        """
        entries = content.get("attributes") if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise UserError(
                "schema-invalid",
                f"{where}: a schema is a list under the key 'attributes', each with name, kind and values",
            )
        return Schema(tuple(_attribute(entry, f"{where}, attribute {i}") for i, entry in enumerate(entries, 1)))

    def save(self, path: Path, reasons: Mapping[str, str] | None = None) -> None:
        """Write the schema as YAML, atomically; ``reasons``: attribute → why it is what it is, written as comments."""
        import yaml

        from shards.core import atomic_io

        lines = ["# For: cgan pack … --schema FILE; kinds: exclusive (one of values), tag, vector, text"]
        lines.append("attributes:")
        for attribute in self.attributes:
            if reason := (reasons or {}).get(attribute.name):
                lines.append(f"# {attribute.name}: {reason}".replace("\n", " "))
            entry = yaml.safe_dump(
                [_plain(attribute)], sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
            )
            lines.append(entry.rstrip("\n"))
        atomic_io.write_bytes(path, ("\n".join(lines) + "\n").encode())

    @staticmethod
    def load(path: Path) -> Schema:
        """Read a schema from YAML (or JSON, which is YAML).

        Raises:
            UserError: the file is missing, not YAML, or not a schema.
        """
        try:
            content = text_files.read_yaml(path)
        except OSError as error:
            raise UserError("file-unreadable", f"{path}: the schema cannot be read ({error.strerror})") from None
        except text_files.UnreadableText as error:
            raise UserError("invalid-yaml", f"{path} {error}") from None
        return Schema.from_json(content, str(path))

    @functools.cached_property
    def text(self) -> str:
        """The schema as one canonical line, for hashes."""
        return json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":"))


def _plain(attribute: Attribute) -> dict[str, Any]:
    content = {"size": attribute.size} if attribute.kind in WORDLESS else {"values": list(attribute.values)}
    return {"name": attribute.name, "kind": attribute.kind, **content}


def _attribute(entry: Any, where: str) -> Attribute:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"].strip():
        raise UserError("schema-invalid", f"{where}: needs a name, a kind ({' or '.join(KINDS)}) and a list of values")
    name, kind = entry["name"].strip(), entry.get("kind")
    where = f"{where} ({name!r})"
    if kind not in KINDS:
        raise UserError("schema-invalid", f"{where}: kind is {kind!r}, and must be {' or '.join(KINDS)}")
    keys = ("name", "kind", "size" if kind in WORDLESS else "values")
    if unknown := set(entry) - set(keys):
        first = sorted(map(str, unknown))[0]
        raise UserError("schema-invalid", f"{where}: unknown key {first!r}; the keys are {', '.join(keys)}")
    if kind in WORDLESS:
        size = entry.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_SIZE:
            raise UserError(
                "schema-invalid", f"{where}: size is {size!r}, and must be a whole number from 1 to {MAX_SIZE:,}"
            )
        return Attribute(name, cast(Kind, kind), (), size)
    values = entry.get("values", [name] if kind == "tag" else None)
    if not isinstance(values, list) or not values:
        raise UserError("schema-invalid", f"{where}: values must be a list of words")
    for value in values:
        if not isinstance(value, str) or not normalise(value):
            raise UserError("schema-invalid", f"{where}: the value {value!r} is not a word; put it in quotes")
    return Attribute(name, cast(Kind, kind), tuple(normalise(value) for value in values))
