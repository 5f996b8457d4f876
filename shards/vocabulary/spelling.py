"""How the words of labels are spelled: what people do not see or mean must not make two labels of one."""

from __future__ import annotations

import functools
import re
import unicodedata

# Zero-width and directional marks, soft hyphens, byte order marks. Joiners belong to some scripts and to emoji: they
# are removed only next to ASCII.
_INVISIBLE = re.compile(
    "[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
_WIDE = re.compile("[\u3000\uff01-\uff5e\uff61-\uff9f\uffe0-\uffe6]+")  # full-width ASCII, half-width katakana


def clean_letters(text: str) -> str:
    """Return a text without invisible characters, with full-width letters as plain ones, and in NFC.

    Other compatibility forms stay, such as ½, ™ and ①: they are what the author wrote.
    """
    if text.isascii():
        return text
    text = _WIDE.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", text))


@functools.lru_cache(maxsize=1 << 16)
def normalise(tag: str) -> str:
    """Return a tag as it is compared and stored: lower case; underscores, commas and runs of blanks as one space."""
    return " ".join(unicodedata.normalize("NFC", tag).lower().replace("_", " ").replace(",", " ").split())
