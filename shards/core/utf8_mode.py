"""UTF-8 for file names, files and words of the command line, whatever the locale says.

Python takes the encoding of file names and of `open` from the locale: under zh_CN.GBK or en_US.ISO-8859-1 a dataset, a
run and a word would read differently from everywhere else. Its UTF-8 mode ends that, but only from the start.
"""

from __future__ import annotations

import os
import sys


def ensure() -> None:
    """Start this program again in Python's UTF-8 mode (as the same process) if it is in another encoding.

    Words of the command line that are not UTF-8 come from a terminal with the locale's encoding, which then stays.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    if sys.platform == "win32" or not all(map(_is_utf8, sys.argv)):
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _is_utf8(word: str) -> bool:
    try:
        return bool(os.fsencode(word).decode()) or not word
    except UnicodeDecodeError:
        return False
