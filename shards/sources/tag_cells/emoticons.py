"""Emoticons are tags that consist of separators: they are set aside while a cell is split."""

from __future__ import annotations

import re

_EMOTICONS = (
    r">?[:;=][-']?[)(\]dDpPoOqQtT3<>|/\\cxXsS*]=? [xX][dD] [dDcC]: \\m/ \\o/ \\n/ \\\|\|/ <o>_<o> <\|>_<\|> "
    r"\|{1,2}_\|{1,2} [\^>@=+.\-*<;'][_wo.][\^<@=+.\-*>;'o] \^{2,3} \^[oqQ]\^ \(\^o\^\)/ [oOuUxXtT0]_[oOuUxXtT0] <3 </3"
)
_BETWEEN = r"\s,;|/+"
_PATTERN = re.compile(rf"(?<![^{_BETWEEN}])(?:{'|'.join(_EMOTICONS.split(' '))})(?![^{_BETWEEN}])")
_FIRST = 0xE000  # private use: no text that people write has these


def set_aside(text: str) -> tuple[str, list[str]]:
    """Return a text with a placeholder for each emoticon, and the emoticons."""
    found: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        if len(found) >= 1000:
            return match[0]
        found.append(match[0])
        return chr(_FIRST + len(found) - 1)

    return _PATTERN.sub(placeholder, text), found


def put_back(text: str, emoticons: list[str]) -> str:
    """Return a text with the emoticons that `set_aside` removed."""
    for number, emoticon in enumerate(emoticons):
        text = text.replace(chr(_FIRST + number), emoticon)
    return text


def is_placeholder(text: str) -> bool:
    """Return True if a text is one emoticon that was set aside."""
    return len(text) == 1 and 0xE000 <= ord(text) < 0xF900
