"""Find out what separates the tags of a column's cells.

Commas, line ends, tabs and ``|||`` separate tags wherever tags are expected. Any other sign separates them only if the
column as a whole supports it: most pieces that it would make recur elsewhere, alone or beside other pieces. So
``Effusion|Mass`` is split where ``Effusion`` and ``Mass`` are found, and ``hip-hop/rap`` and ``c++`` stay whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from shards.sources.tag_cells.emoticons import is_placeholder
from shards.sources.tag_cells.joined import FREE_CLASSES, FREE_TAGS, are_word_lists, number_separator
from shards.vocabulary.spelling import normalise

COMMA, BLANKS, HASHES = ",", "blanks", "#"
_STRONG = {"|||": r"\s*\|\|\|\s*", "line ends": r"[\r\n]+", "tabs": r"\t+", "、": "、", "،": "،"}
_WEAK = {";": r"[;；؛]", "|": r"\|", "/": "/", "+": r"\+", "·": "[·•・]"}
_PATTERNS = {COMMA: ",", **_STRONG, **_WEAK, BLANKS: r"\s+", HASHES: r"[\s,;]*(?<!\S)#"}
_RECURRING = 0.8  # of the pieces that a weak separator makes
_RECURRING_LISTS = 0.6  # of those of signs that hardly any name has
_NUMBER = re.compile(r"[-\s0-9.:]*")
_WEIGHT = re.compile(r"([^\W\d][^:]*):[0-9.]+$")
_ENDING = re.compile(r"\.[a-zA-Z][a-zA-Z0-9]{1,4}")

Separators = tuple[str, ...]


def pattern(separators: Separators) -> re.Pattern[str] | None:
    """Return the pattern of any of the separators; None if there are none."""
    return re.compile("|".join(_PATTERNS[name] for name in separators)) if separators else None


def find_separators(cells: Mapping[str, int], are_tags: bool) -> Separators:
    """Return the separators of a column.

    Args:
        cells: the text of each cell, without lists and emoticons → how often it occurs.
        are_tags: True if the column is known to hold tags; then commas and the like need no evidence.
    """
    if _are_hashtags(cells):
        return (HASHES,)
    if are_tags and _are_blank_separated(cells):
        return (BLANKS,)
    if separator := number_separator(cells):
        return (separator,)
    if are_word_lists(cells, FREE_TAGS if are_tags else FREE_CLASSES):
        return (BLANKS,)
    strong = [name for name in (*_STRONG, COMMA) if any(re.search(_PATTERNS[name], cell) for cell in cells)]
    found = [name for name in strong if are_tags or _is_supported(name, cells)]
    pieces = _pieces(cells, pattern(tuple(found)))
    for name in _WEAK:
        needed = _RECURRING if name not in ";|" else 0.5 if are_tags else _RECURRING_LISTS
        lists = are_tags and name in ";|"
        if _is_supported(name, pieces, needed) or (lists and _is_everywhere(name, pieces)):
            found.append(name)
            pieces = _pieces(pieces, pattern((name,)))
    return tuple(found)


def _pieces(cells: Mapping[str, int], split: re.Pattern[str] | None) -> Counter[str]:
    pieces: Counter[str] = Counter()
    for cell, count in cells.items():
        for piece in split.split(cell) if split else (cell,):
            if piece := piece.strip():
                pieces[piece] += count
    return pieces


def _is_supported(name: str, pieces: Mapping[str, int], needed: float = _RECURRING) -> bool:
    """Return True if most of the parts that a separator would make are found elsewhere too."""
    split = re.compile(_PATTERNS[name])
    whole: set[str] = set()
    beside: dict[str, set[frozenset[str]]] = {}
    together: list[list[str]] = []
    for piece in pieces:
        if not split.search(piece):
            whole.add(_without_weight(piece))
            continue
        parts = [_without_weight(part) for part in split.split(piece)]
        if name not in _STRONG and not all(parts) and not (name in ";|" and all(parts[:-1])):
            return False  # "c++", "w/"
        parts = [part for part in parts if part and not is_placeholder(part)]
        together.append(parts)
        for part in parts:
            contexts = beside.setdefault(part, set())
            if len(contexts) < 2:
                contexts.add(frozenset(parts) - {part})
    parts = [part for one in together for part in one]
    if not parts or all(_NUMBER.fullmatch(part) or _ENDING.search(part) for part in parts):
        return False
    if name not in _STRONG and any(_is_compound(one, whole) for one in together):
        return False
    recurring = sum(part in whole or len(beside[part]) > 1 for part in parts)
    return recurring >= needed * len(parts) and any(part in whole or len(beside[part]) > 1 for part in beside)


def _without_weight(piece: str) -> str:
    """Return a normalised tag without the count or weight after it, which may differ in each row."""
    return normalise(_WEIGHT.sub(r"\1", piece.strip()))


def _is_compound(parts: list[str], whole: set[str]) -> bool:
    """Return True for ``black/white hair`` where ``black hair`` is a tag and ``black`` is not."""
    noun = parts[-1].rpartition(" ")[2] if " " in parts[-1] else ""
    return bool(noun) and any(
        " " not in part and part not in whole and f"{part} {noun}" in whole for part in parts[:-1]
    )


def _is_everywhere(name: str, pieces: Mapping[str, int]) -> bool:
    """Return True if nearly every cell has several tags by this separator, as lists of tags that hardly recur do."""
    several = sum(count for piece, count in pieces.items() if len(re.findall(_PATTERNS[name], piece)) > 1)
    return several > 0.9 * sum(pieces.values())


def _are_hashtags(cells: Iterable[str]) -> bool:
    """Return True if every word begins with #."""
    some = False
    for cell in cells:
        text = cell.strip()
        if text and (text[0] != "#" or any(not re.search(r"[\w]", part) for part in text.split("#")[1:])):
            return False
        some = some or text.count("#") > 1
    return some


def _are_blank_separated(cells: Mapping[str, int]) -> bool:
    """Return True if texts are tags as boorus write them: ``1girl long_hair smile``.

    Hardly any has a comma before a blank or a line end, most have several words with an underscore among them, and most
    words recur.
    """
    counts: Counter[str] = Counter()
    rows = several = listed = 0
    for cell, count in cells.items():
        words = cell.split()
        rows += bool(words) * count
        several += (len(words) > 1 and "_" in cell) * count
        listed += (re.search(r",(\s|$)|\n|[|;]", cell) is not None) * count
        if len(counts) < 1_000_000:
            counts.update(dict.fromkeys(words, count))
    repeated = sum(count for count in counts.values() if count > 1)
    return several * 2 > rows and listed * 50 <= rows and repeated * 2 >= counts.total()
