"""Patterns of labels in file names: ``{age}_{gender}_*`` finds the age and the gender in 25_0_2017.jpg."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shards.core.errors import UserError
from shards.dataset.images import EXTENSIONS

ID = "id"  # a field that names the image, and is no label

_TOKEN = re.compile(r"\{([A-Za-z]\w*)\}|(\*)|(#)|([^{}*#]+)")
_MAX_LENGTH = 200
_MAX_STARS = 2  # in one folder or file name: more of them take too long on a hostile name
_MAX_NAME = 255  # letters of a folder or file name


@dataclass(frozen=True)
class NamePattern:
    """A pattern of file names.

    A field ``{name}`` is some text, ``#`` is a number and ``*`` is anything. A field has none of the separators beside
    it, unless it is the only label of its folder or file name: ``{breed}_#`` finds "shiba inu" in shiba_inu_12. A
    pattern with slashes describes folders too. The ending of the file may be left out.

    Attributes:
        text: as it is written.
        fields: the names of its fields, without `ID`.
    """

    text: str
    fields: tuple[str, ...]
    _regex: re.Pattern[str]
    _depth: int  # folders that it describes
    _with_ending: bool

    @classmethod
    def parse(cls, text: str) -> NamePattern:
        """Return the pattern of a text.

        Raises:
            UserError: it is not a pattern, names a field twice, or has no field that is a label.
        """
        levels = [_tokens(level, text) for level in text.strip("/").split("/")]
        names = [value for level in levels for kind, value in level if kind == "field"]
        labels = tuple(name for name in names if name != ID)
        if not labels or len(set(names)) != len(names):
            raise _invalid(text, "needs a field for each label, with different names")
        if any(sum(kind == "*" for kind, _ in level) > _MAX_STARS for level in levels) or len(text) > _MAX_LENGTH:
            raise _invalid(text, f"is too long, or has more than {_MAX_STARS} stars in one name")
        regex = re.compile("/".join(map(_level_regex, levels)))
        with_ending = text.lower().endswith(tuple(EXTENSIONS)) or text.endswith(".*")
        return cls(text, labels, regex, len(levels), with_ending)

    def match(self, path: str) -> dict[str, str] | None:
        """Return field → text for the path of an image; None if it does not match."""
        has_ending = "." in path.rpartition("/")[2]
        name = path.rpartition(".")[0] if has_ending and not self._with_ending else path
        levels = name.split("/")[-self._depth :]
        if any(len(level) > _MAX_NAME for level in levels):
            return None
        found = self._regex.fullmatch("/".join(levels))
        return {field: found[field] for field in self.fields} if found else None


def _tokens(level: str, text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(level):
        match = _TOKEN.match(level, at)
        if not match:
            raise _invalid(text, "has a brace without its other one")
        kind = ("field", "*", "#", "text")[(match.lastindex or 1) - 1]
        found.append((kind, match[match.lastindex or 0]))
        at = match.end()
    return found


def _level_regex(tokens: list[tuple[str, str]]) -> str:
    """Return the regular expression of one folder or file name."""
    labels = sum(kind == "field" and value != ID for kind, value in tokens)
    alone = labels == 1 and all(kind != "*" for kind, _ in tokens)
    pieces = []
    for at, (kind, value) in enumerate(tokens):
        if kind == "text":
            pieces.append(re.escape(value))
        elif kind != "field":
            pieces.append(r"[^/]*" if kind == "*" else r"\d+")
        else:
            before = tokens[at - 1][1][-1:] if at and tokens[at - 1][0] == "text" else ""
            after = tokens[at + 1][1][:1] if at + 1 < len(tokens) and tokens[at + 1][0] == "text" else ""
            excluded = "" if alone and value != ID else re.escape(before + after)
            pieces.append(f"(?P<{value}>[^/{excluded}]+)")
    return "".join(pieces)


def _invalid(text: str, why: str) -> UserError:
    return UserError(
        "invalid-value",
        f"--from-name {text!r}: {why}; write fields in braces, # for a number and * for anything, such as "
        "'{age}_{gender}_*' or '{breed}_#'",
    )
