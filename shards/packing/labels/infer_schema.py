"""Infer a label schema from tags: which tags exclude each other, and which are independent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from shards.core.errors import UserError
from shards.dataset.schema import Attribute, Schema
from shards.packing.labels.tag_families import Family, RowSample, find_families
from shards.vocabulary.spelling import normalise

_RARER = 3.0  # tags exclude each other if they occur together less than a third as often as expected by chance
_SWEEPS = 50


class Found(NamedTuple):
    """An inferred attribute, and why it is what it is, in a few words for people."""

    attribute: Attribute
    reason: str


def infer_schema(rows: Iterable[Sequence[str] | None], *, one_class: bool = False) -> Schema:
    """Return the schema of the attributes that `infer_attributes` finds."""
    return Schema(tuple(found.attribute for found in infer_attributes(rows, one_class=one_class)))


def infer_attributes(rows: Iterable[Sequence[str] | None], *, one_class: bool = False) -> list[Found]:
    """Infer attributes from rows of tags.

    Tags with the same last word (their noun) that (almost) never occur together become the values of one exclusive
    attribute. If groups of them do occur together (hair colours, hair lengths), they become several attributes. Tags
    without a common noun become one if they exclude each other and cover (almost) all rows, as "elf", "orc" and
    "dwarf" may do (see `shards.packing.labels.tag_families`). Other tags are independent. If no row has two tags, all
    tags are one attribute.

    Args:
        rows: the tags of each row; None and empty rows are ignored.
        one_class: make all tags the values of one attribute "class".

    Raises:
        UserError: no row has a tag.
    """
    count: Counter[str] = Counter()
    together: Counter[tuple[str, str]] = Counter()
    filled, longest = 0, 0
    sample = RowSample()
    for row in rows:
        tags = sorted({normalise(tag) for tag in row or ()} - {""})
        if not tags:
            continue
        count.update(tags)
        together.update(_pairs(tags))
        sample.add(tags)
        filled, longest = filled + 1, max(longest, len(tags))
    if not count:
        raise UserError(
            "source-unlabelled",
            "no image has a tag, so there are no labels; provide tags or class folders, or pack the images unlabelled "
            "with the schema of another dataset: --schema OTHER/schema.yaml",
        )
    nouns = {_noun(tag) for tag in count}
    if one_class or (longest == 1 and len(count) > 1):
        name = nouns.pop() if len(nouns) == 1 and not one_class else ""
        reason = f"each of {filled:,} images has one of its {len(count):,} values"
        return [Found(Attribute(name or "class", "exclusive", tuple(sorted(count))), reason)]
    groups = _groups(count, together, filled)
    families = _families(sample, count, groups)
    grouped = {tag for sets in groups.values() for group in sets for tag in group}
    grouped |= {tag for family in families for tag in family.tags}
    singles = [
        Found(Attribute(tag, "tag", (tag,)), f"in {count[tag]:,} of {filled:,} images, independent of the other tags")
        for tag in sorted(set(count) - grouped)
    ]
    taken = {found.attribute.name for found in singles}
    exclusive = [*_named(groups, taken, count, filled), *_named_families(families, taken)]
    return [*sorted(exclusive, key=lambda found: found.attribute.name), *singles]


def _families(sample: RowSample, count: Iterable[str], groups: dict[str, list[list[str]]]) -> list[Family]:
    """Return the families of tags without a common noun; groups with a noun that are part of a larger one are removed.

    A family that has some of a noun's tags and not the others is refused: what is left might be one.
    """
    by_noun = [frozenset(group) for sets in groups.values() for group in sets]
    families = []
    for family in find_families(sample.rows, count):
        met = [group for group in by_noun if not group.isdisjoint(family.tags)]
        if all(group < set(family.tags) for group in met):
            families.append(family)
    inside = {tag for family in families for tag in family.tags}
    for noun, sets in groups.items():
        groups[noun] = [group for group in sets if inside.isdisjoint(group)]
    free = set(count) - inside - {tag for sets in groups.values() for group in sets for tag in group}
    return [*families, *find_families(sample.rows, free)]


def _named_families(families: list[Family], taken: set[str]) -> list[Found]:
    """Return an attribute per family, named after its most frequent values."""
    found = []
    for family in families:
        name = _free("/".join(family.tags[:3]) + ("/…" if len(family.tags) > 3 else ""), taken)
        reason = f"one of these is in {family.covered:.1%} of the images, and several are in {family.doubled:.1%}"
        found.append(Found(Attribute(name, "exclusive", tuple(sorted(family.tags))), reason))
    return found


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, and add it to those that are."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name} {number}", number + 1
    taken.add(free)
    return free


def _noun(tag: str) -> str:
    """Return the last of several words; "" for a single word."""
    return tag.rpartition(" ")[2] if " " in tag else ""


def _pairs(tags: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of tags with the same noun; ``tags`` are sorted, and so is each pair."""
    by_noun: dict[str, list[str]] = {}
    for tag in tags:
        if noun := _noun(tag):
            by_noun.setdefault(noun, []).append(tag)
    for same in by_noun.values():
        for i, one in enumerate(same):
            for other in same[i + 1 :]:
                yield one, other


def _groups(count: Counter[str], together: Counter[tuple[str, str]], rows: int) -> dict[str, list[list[str]]]:
    """Return, for each noun, the sets of at least two of its tags that exclude each other."""
    tags: dict[str, list[str]] = {}
    for tag in sorted(count, key=lambda tag: (-count[tag], tag)):
        tags.setdefault(_noun(tag), []).append(tag)
    met: dict[str, list[tuple[str, str]]] = {noun: [] for noun in tags}
    for pair in together:
        met[_noun(pair[0])].append(pair)
    groups = {}
    for noun in sorted(set(tags) - {""}):
        place = {tag: i for i, tag in enumerate(tags[noun])}
        pairs = np.array([(place[a], place[b], together[a, b]) for a, b in met[noun]], np.int64).reshape(-1, 3)
        group = _exclusive(np.array([count[tag] for tag in tags[noun]], np.float64), pairs, rows)
        sets = [[tag for tag, g in zip(tags[noun], group, strict=True) if g == label] for label in dict.fromkeys(group)]
        groups[noun] = [sorted(members) for members in sets if len(members) > 1]
    return groups


def _exclusive(size: np.ndarray, pairs: np.ndarray, rows: int) -> list[int]:
    """Sort the tags of one noun into sets whose members exclude each other.

    Correlation clustering by local moves: the gain of a tag in a set is the number of rows in which it would occur
    together with the set's other members by chance, minus `_RARER` times the observed number. Each tag moves to the
    set with the largest gain, or to its own set if no gain is positive, until nothing moves. This terminates, since
    each move increases the sum of gains. Frequent tags move first, so that rare ones find complete sets. Sets that
    chance could have kept apart (at most one expected co-occurrence in total) are dissolved.

    Args:
        size: float64 (T,), rows with each tag, descending.
        pairs: int64 (P, 3), (tag, other tag, rows with both).
        rows: number of rows with at least one tag.

    Returns:
        The number of the set of each tag.
    """
    both = np.concatenate([pairs, pairs[:, [1, 0, 2]]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    bounds = np.searchsorted(both[:, 0], np.arange(len(size) + 1))
    group = np.full(len(size), -1)
    total = np.zeros(len(size) + 1)  # sum of the sizes in each set; the last is for tags without a set
    earned = np.zeros(len(size))
    for _ in range(_SWEEPS):
        moved = False
        for tag in range(len(size)):
            old = int(group[tag])
            total[old] -= size[tag]
            together = both[bounds[tag] : bounds[tag + 1]]
            met = np.bincount(group[together[:, 1]] + 1, together[:, 2], len(size) + 1)[1:]
            gain = size[tag] * total[:-1] / rows - _RARER * met
            best = int(np.argmax(gain))
            if old >= 0 and gain[old] >= gain[best]:
                best = old
            if gain[best] <= 0:  # alone: in its own set if that has no other member, else in an empty one
                best = old if old >= 0 and not total[old] else int(np.flatnonzero(total[:-1] == 0)[0])
            group[tag], earned[tag] = best, gain[best]
            total[best] += size[tag]
            moved |= best != old
        if not moved:
            break
    evidence = np.bincount(group, earned, len(size)) / 2  # each pair was counted from both ends
    weak = evidence[group] < min(1.0, rows / 4)
    group[weak] = len(size) + np.flatnonzero(weak)
    return group.tolist()


def _named(groups: dict[str, list[list[str]]], taken: set[str], count: Counter[str], rows: int) -> list[Found]:
    """Return an attribute per set: the largest set of a noun is named after it, the others after their values."""
    attributes = []
    for noun, sets in groups.items():
        for group in sorted(sets, key=lambda group: (-len(group), group)):
            shown = [tag.removesuffix(f" {noun}") for tag in group]
            content = f"{noun} ({'/'.join(shown[:3])}{'/…' if len(shown) > 3 else ''})"
            name = _free(noun if noun not in taken else content, taken)
            have = min(rows, sum(count[tag] for tag in group))
            reason = f"tags that end in {noun!r} and (almost) never occur together; {have / rows:.0%} of the images"
            attributes.append(Found(Attribute(name, "exclusive", tuple(group)), reason))
    return attributes
