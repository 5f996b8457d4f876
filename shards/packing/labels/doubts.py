"""Labels that look wrong: found before anything is packed, so that a person confirms them or corrects the reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from shards.core.atomic_io import join_names
from shards.core.errors import UserError
from shards.core.problems import sentence
from shards.dataset.schema import WORDLESS, Attribute, Schema
from shards.packing.labels.labelling import LabelOptions
from shards.packing.labels.value_shapes import combine_words, odd_shapes, shared_separator
from shards.sources.item import Item, Source
from shards.sources.layout.folder_names import is_container, is_portion, names_only_part
from shards.sources.layout.junk import is_junk
from shards.vocabulary.spelling import normalise

_SINGLES_SHARE, _SINGLES_LEAST = 1 / 3, 6  # values with one image: more than this share, and at least so many
_FEW_IMAGES = 10  # below which values with one image are no surprise
_EACH_ITS_OWN = 0.9  # values per image, above which an attribute tells nothing but which image it is
_MASKS = frozenset({"masks", "annotations", "labels", "segmentations", "trimaps", "thumbnails", "heatmaps", "gt"})
_ASKED = frozenset(  # codes of problems that a person has to decide
    {"class-list-unclear", "class-lists-differ", "words-unclear", "rows-lost", "images-left-to-folders"}
)
_BY_FOLDER = ("classes", "webdataset")  # formats whose classes are the names of folders
_EXAMPLES, _LETTERS = 3, 60  # values shown, and letters of each


class Doubt(NamedTuple):
    """A reason to think that labels were misread.

    Attributes:
        code: a stable name of the kind of doubt.
        sentence: what looks wrong, with counts and examples, and the option that corrects it.
    """

    code: str
    sentence: str


def find_doubts(source: Source, schema: Schema, given: bool = False) -> list[Doubt]:
    """Return what looks wrong about the labels of a source.

    Args:
        source: all items.
        schema: the attributes of its labels.
        given: True if a person wrote the schema, so that its values are as intended.
    """
    found: list[Doubt] = [*_of_reading(source), *_unlabelled(source, schema)]
    if given:
        return found
    counts = Counter(normalise(tag) for item in source.items for tag in item.tags or ())
    tags = [attribute.values[0] for attribute in schema.attributes if attribute.kind == "tag"]
    for attribute in schema.attributes:
        if attribute.kind == "exclusive":
            found += _of_exclusive(attribute, counts, source)
    return [*found, *_of_tags(tags, counts), *_of_values("the tags", tags, blanks=False)]


def check_labels(source: Source, schema: Schema, options: LabelOptions) -> None:
    """Raise UserError if the labels of a source look wrong and a person has not confirmed them."""
    doubts = [] if options.yes else find_doubts(source, schema, given=options.schema is not None)
    if not doubts:
        return
    examples = "; ".join([_described(item) for item in _labelled(source)[:_EXAMPLES]])
    why = f" ({source.evidence})" if source.evidence else ""
    raise UserError(
        "labels-doubtful",
        f"the labels look wrong: {'; '.join(doubt.sentence for doubt in doubts)}. Read as {source.kind}{why}, for "
        f"example {examples or 'no image with a label'}. See all with: cgan preview SRC; correct it with the options "
        "above, with --source, --table or --columns, or with --schema FILE; or confirm the labels with --yes",
    )


def _of_reading(source: Source) -> Iterator[Doubt]:
    """Yield what reading the source has left open."""
    for key, count in source.problems.counts().items():
        code = key.partition(" ")[0]
        if code in _ASKED:
            yield Doubt(code, f"{sentence(key)}: {count:,}")


def _of_exclusive(attribute: Attribute, counts: Counter[str], source: Source) -> Iterator[Doubt]:
    name, values = attribute.name, attribute.values
    images = sum(counts[value] for value in values)
    singles = [value for value in values if counts[value] == 1]
    if images < _FEW_IMAGES:
        pass  # a sample, to try things out
    elif len(values) >= _EACH_ITS_OWN * images:
        yield Doubt(
            "class-per-image",
            f"{name} has {len(values):,} values for {images:,} images ({_examples(values)}), nearly one for each; is "
            "it a name or an id? Choose other columns with --columns or --class",
        )
    elif len(singles) >= _SINGLES_LEAST and len(singles) > _SINGLES_SHARE * len(values):
        yield Doubt(
            "values-of-one-image",
            f"{len(singles):,} of the {len(values):,} values of {name} have one image only ({_examples(singles)}); "
            "--min-count 2 leaves them out",
        )
    yield from _of_values(name, values, blanks=True)
    if name == "class" and source.kind in _BY_FOLDER:
        yield from _of_folders(values)


def _of_tags(tags: Sequence[str], counts: Counter[str]) -> Iterator[Doubt]:
    singles = [tag for tag in tags if counts[tag] == 1]
    if len(singles) >= _FEW_IMAGES and len(singles) * 2 > len(tags):
        yield Doubt(
            "tags-of-one-image",
            f"{len(singles):,} of the {len(tags):,} tags have one image only ({_examples(singles)}); are they names or "
            "titles? Choose other columns with --columns or --class, or leave rare tags out with --min-count 2",
        )


def _of_values(name: str, values: Sequence[str], *, blanks: bool) -> Iterator[Doubt]:
    for shape, alike in odd_shapes([value.removesuffix(f" {name}") for value in values]):
        yield Doubt(
            "values-not-words",
            f"{len(alike):,} of the {len(values):,} values of {name} look like {shape} ({_examples(alike)}); leave "
            "the column out, or name measured ones in --numbers",
        )
    if joined := shared_separator(values):
        separator, alike = joined
        yield Doubt(
            "values-joined",
            f"{len(alike):,} of the {len(values):,} values of {name} join several with {separator!r} "
            f"({_examples(alike)}); separate them by commas in a column named tags",
        )
    elif blanks and (alike := combine_words(values)):
        yield Doubt(
            "values-joined",
            f"the values of {name} combine a few words in {len(alike):,} ways ({_examples(alike)}); write each word "
            "as a tag of its own, separated by commas",
        )


def _of_folders(values: Sequence[str]) -> Iterator[Doubt]:
    kinds = {
        "parts of a dataset": [value for value in values if names_only_part(value)],
        "portions of files": [value for value in values if is_portion(value)],
        "masks or annotations": [value for value in values if value in _MASKS],
        "files that a system left": [value for value in values if is_junk(value)],
        "folders that hold the images of any class": [value for value in values if is_container(value)],
    }
    for kind, alike in kinds.items():
        # One folder "train" among vehicles is a class; two names of parts are not.
        if len(alike) > 1 or (alike and (len(values) <= len(alike) + 1 or kind not in ("parts of a dataset",))):
            yield Doubt(
                "folders-not-classes",
                f"classes are named like {kind} ({_examples(alike)}); give the folder below or above them as SRC, or "
                "a table with --table",
            )


def _unlabelled(source: Source, schema: Schema) -> Iterator[Doubt]:
    known = {value for attribute in schema.attributes for value in attribute.values}
    if any(attribute.kind in WORDLESS for attribute in schema.attributes):
        return
    tagged = [item for item in source.items if item.tags]
    if tagged and not any(normalise(tag) in known for item in tagged for tag in item.tags or ()):
        yield Doubt(
            "schema-matches-nothing",
            f"none of the labels of {len(tagged):,} images is in the schema, so all of them would be unlabelled",
        )


def _labelled(source: Source) -> list[Item]:
    found = [item for item in source.items if item.tags or item.vector]
    return found[:: max(1, len(found) // _EXAMPLES)]


def _described(item: Item) -> str:
    words = list(item.tags or ()) or [f"{number:g}" for number in (item.vector or ())[:4]]
    return f"{item.id} = {join_names([_quoted(word) for word in words], 6)}"


def _examples(values: Sequence[str]) -> str:
    chosen = values[:: max(1, len(values) // _EXAMPLES)]
    return join_names([_quoted(value) for value in chosen], _EXAMPLES, len(values))


def _quoted(word: str) -> str:
    return repr(word if len(word) <= _LETTERS else f"{word[:_LETTERS]}…")
