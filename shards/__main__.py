"""`python -m shards COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from shards import version_line
from shards.errors import exit_status
from shards.options import dispatch

COMMANDS = {
    "faces": ("draw labelled cartoon faces to try everything with", "shards.faces:main"),
    "pack": ("turn tagged pictures into a data set", "shards.pack:main"),
    "merge": ("make the data set of shards that several jobs packed", "shards.merge:main"),
    "index": ("make a data set of WebDataset tars where they lie", "shards.inplace:main"),
    "verify": ("find what is missing, damaged or altered in a data set", "shards.verify:main"),
    "describe": ("say what a data set holds, and draw a contact sheet", "shards.describe:main"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status is 0, 2 for a mistake in what was asked, 1 for trouble on the way."""
    words = sys.argv[1:] if argv is None else argv
    return exit_status(lambda: dispatch(COMMANDS, words, program="python -m shards", version=version_line()))


if __name__ == "__main__":
    sys.exit(main())
