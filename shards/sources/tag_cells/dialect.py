"""How a column writes tags into its cells: decided once for the whole column, from all of its cells."""

from __future__ import annotations

import html
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

from shards.core.problems import Problems
from shards.sources.cells import InvalidValue, Tags, sanitize, short_repr, shorten_names
from shards.sources.tag_cells import emoticons
from shards.sources.tag_cells.lists import Weighted, flatten, read_list, read_numbers
from shards.sources.tag_cells.namespaces import LEFT_OUT, line_joiner, split_namespace, tags_of_lines
from shards.sources.tag_cells.phrases import Phrases, learn_phrases
from shards.sources.tag_cells.scores import Place, score_place, with_own_scores, without_score
from shards.sources.tag_cells.separators import BLANKS, COMMA, Separators, find_separators, pattern
from shards.sources.tag_cells.weights import Suffix, rejoin, suffix_of, without_brackets, without_suffix
from shards.vocabulary.spelling import clean_letters, normalise

_SAMPLE = 50_000  # different cells from which the dialect is inferred
_REMEMBERED = 200_000  # different cells
_ENTITY = re.compile(r"&#?\w{1,31};")
_ESCAPED = re.compile(r"\\([()\[\]{}_:,'\"&^*~#-])")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`", "«": "»", "「": "」"}
_LIST_STARTS = ("[", "{", "(", "array", "np.array", "numpy.array")


class TagDialect:
    """The dialect of a column of tags.

    Make one with `infer`, read every cell with `tags` or `split`, and then `report` what was interpreted.

    Args:
        separators: names of what separates tags, of `shards.sources.tag_cells.separators`.
        suffix: how weights follow tags.
        min_weight: weighted tags below this are left out.
        are_tags: see `infer`.
    """

    def __init__(
        self,
        separators: Separators = (COMMA, "line ends"),
        suffix: Suffix = "",
        min_weight: float = 0,
        are_tags: bool = True,
    ) -> None:
        self.separators, self.min_weight, self.are_tags = separators, min_weight, are_tags
        self.suffix: Suffix = suffix
        self.has_lists = False
        self.phrases: Phrases | None = None  # set if cells are phrases; the separators are not used then
        self.joiner = ""  # of the tags of lines with a namespace each; see `line_joiner`
        self.scores: Place = ""  # where tags have scores, with blanks between
        self._pattern = pattern(separators)
        self._known: dict[str, tuple[list[Weighted], str]] = {}
        self._counts: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()  # phrases
        self._left_out: Counter[tuple[str, str]] = Counter()  # namespaces and tags

    @classmethod
    def infer(cls, cells: Iterable[Any], *, are_tags: bool = True, min_weight: float = 0) -> TagDialect:
        """Return the dialect of a column.

        Args:
            cells: its cells: texts, or lists and objects.
            are_tags: True if the column is known to hold tags. False: it may as well hold class names, such as "tench,
                Tinca tinca", so that even commas need evidence.
            min_weight: see the class.
        """
        counts: Counter[str] = Counter()
        for cell in cells:
            if isinstance(cell, str) and (cell in counts or len(counts) < _SAMPLE):
                counts[cell] += 1
        joiner = line_joiner(counts) if are_tags else ""
        dialect = cls((), "", min_weight, are_tags)
        if not joiner and (phrases := learn_phrases(counts)):
            dialect.phrases = phrases
            return dialect
        texts: Counter[str] = Counter()
        for cell, count in counts.items():
            text = tags_of_lines(_prepared(cell), joiner) if joiner else _prepared(cell)
            text, _ = emoticons.set_aside(text)
            if not _starts_list(text) or read_list(text) is None:
                texts[text] += count
        dialect = cls(find_separators(texts, are_tags), "", min_weight, are_tags)
        dialect.joiner = joiner
        dialect.has_lists = len(texts) < len(counts)
        dialect.suffix = suffix_of(dialect._pieces(text) for text in texts)
        dialect.scores = "" if dialect.suffix or not are_tags else score_place(map(dialect._pieces, texts))
        return dialect

    @property
    def has_several(self) -> bool:
        """True if cells hold several tags, so that a column of classes is one of tags."""
        return bool(self.separators) or self.has_lists or self.phrases is not None

    @property
    def described(self) -> str:
        """How cells are written, for people."""
        if self.phrases:
            return f"phrases about {shorten_names(self.phrases.nouns, 5)}"
        if not self.separators:
            return "lists of tags" if self.has_lists else "one tag each"
        return f"tags separated by {self._separators}"

    @property
    def _separators(self) -> str:
        return " and ".join(name if name.isalpha() or " " in name else f"'{name}'" for name in self.separators)

    def split(self, cell: Any) -> list[Weighted]:
        """Return the tags of a cell with their weights, before normalisation; None for a tag without a weight.

        Raises:
            InvalidValue: the cell is neither a text nor a list or object of tags.
        """
        pairs, kind = self._split(cell)
        if isinstance(cell, str) and not cell.isascii() and clean_letters(cell) != unicodedata.normalize("NFC", cell):
            self._counts["cleaned"] += 1
        if kind == "unread phrase":
            self._unread[cell] += 1
        elif kind:
            self._counts[kind] += 1
        return self._without_namespaces(pairs) if self.are_tags else pairs

    def _without_namespaces(self, pairs: list[Weighted]) -> list[Weighted]:
        """Return tags without their namespaces, and without those that say nothing of the image; count them."""
        if not any(":" in tag for tag, _ in pairs):
            return pairs
        kept: list[Weighted] = []
        for tag, weight in pairs:
            namespace, rest = split_namespace(tag)
            if namespace in LEFT_OUT:
                self._left_out[namespace, rest] += 1
            else:
                kept.append((rest, weight))
                self._counts["namespace"] += bool(namespace)
        return kept

    def tags(self, cell: Any, interned: dict[Tags, Tags] | None = None) -> Tags | None:
        """Return the normalised tags of a cell, without repetitions; None for None, or a phrase that cannot be read.

        Raises:
            InvalidValue: as `split`.
        """
        if cell is None:
            return None
        pairs = self.split(cell)
        if not pairs and self.phrases and isinstance(cell, str) and cell.strip():
            return None
        kept = [tag for tag, weight in pairs if weight is None or weight >= self.min_weight]
        self._counts["weighted"] += sum(weight is not None for _, weight in pairs)
        self._counts["light"] += len(pairs) - len(kept)
        tags = tuple(sys.intern(word) for word in dict.fromkeys(map(normalise, kept)) if word)
        return interned.setdefault(tags, tags) if interned is not None else tags

    def pieces(self, cell: str) -> list[str]:
        """Return the tags of a text, without counting anything; none if they cannot be read."""
        try:
            pairs = [split_namespace(tag) if self.are_tags else ("", tag) for tag, _ in self._split(cell)[0]]
            return [tag for namespace, tag in pairs if namespace not in LEFT_OUT]
        except InvalidValue:
            return []

    def report(self, problems: Problems) -> None:
        """Say what was interpreted or left out since the last report."""
        counts, self._counts = self._counts, Counter()
        if BLANKS in self.separators and counts["split"]:
            problems.add("tags-split-at-blanks", count=counts["split"])
        elif counts["split"] and not (self.are_tags and {COMMA, "line ends"}.issuperset(self.separators)):
            problems.add("tags-split", detail=self._separators, count=counts["split"])
        if self.phrases and counts["phrase"]:
            nouns = shorten_names(self.phrases.nouns, 5)
            problems.add("phrases-read", detail=nouns, count=counts["phrase"])
        for phrase, count in self._unread.most_common():
            problems.add("phrase-not-understood", phrase, count=count)
        self._unread.clear()
        for (namespace, tag), count in self._left_out.most_common():
            problems.add("tag-of-category", tag, detail=namespace, count=count)
        self._left_out.clear()
        if counts["namespace"]:
            problems.add("tags-with-namespace", count=counts["namespace"])
        if counts["cleaned"]:
            problems.add("letters-cleaned", count=counts["cleaned"])
        if counts["list"]:
            problems.add("tags-in-lists", count=counts["list"])
        if counts["weighted"]:
            problems.add("tags-weighted", count=counts["weighted"])
        if counts["light"]:
            problems.add("tags-light", detail=f"{self.min_weight:g}", count=counts["light"])

    def _split(self, cell: Any) -> tuple[list[Weighted], str]:
        if not isinstance(cell, str):
            return [(_plain(clean_letters(tag)), weight) for tag, weight in flatten(cell)], ""
        if (known := self._known.get(cell)) is None:
            known = self._parsed(cell)
            if len(self._known) < _REMEMBERED:
                self._known[cell] = known
        return known

    def _parsed(self, cell: str) -> tuple[list[Weighted], str]:
        text = tags_of_lines(_prepared(cell), self.joiner) if self.joiner else _prepared(cell)
        if self.phrases:
            tags = self.phrases.read(text)
            return [(tag, None) for tag in tags or ()], "phrase" if tags is not None else "unread phrase"
        if _starts_list(text) and (value := read_list(text)) is not None:
            return [(_plain(tag), weight) for tag, weight in flatten(value)], "list"
        if read_numbers(text) is not None:
            raise InvalidValue(f"a list of numbers, not tags: {short_repr(text)}")
        text, found = emoticons.set_aside(text)
        pieces = self._pieces(text)
        pairs: list[Weighted] = []
        for tag, weight in without_brackets(pieces):
            tag, own = without_score(tag, self.scores) if self.scores else without_suffix(tag, self.suffix)
            tag = emoticons.put_back(_plain(tag), found)
            pairs.append((tag, weight if own is None else own))
        return pairs, "split" if len(pieces) > 1 else ""

    def _pieces(self, text: str) -> list[str]:
        pieces = self._pattern.split(text) if self._pattern else [text]
        pieces = [piece.strip() for piece in pieces if piece.strip()]
        return rejoin(with_own_scores(pieces) if self.scores else pieces)


def _prepared(cell: str) -> str:
    """Return a cell with clean letters and without HTML entities."""
    text = clean_letters(sanitize(cell))
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text) if "&" in text else text


def _starts_list(text: str) -> bool:
    return text.lstrip().startswith(_LIST_STARTS)


def _plain(tag: str) -> str:
    """Return a tag without escapes and without the quotes around it."""
    tag = _ESCAPED.sub(r"\1", tag.strip()) if "\\" in tag else tag.strip()
    if len(tag) > 2 and _QUOTES.get(tag[0]) == tag[-1] and tag[0] not in tag[1:-1]:
        tag = tag[1:-1].strip()
    return tag
