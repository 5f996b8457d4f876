"""`python -m shards COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from shards.core.cli import dispatch
from shards.core.errors import exit_status
from shards.core.version import version_line

COMMANDS = {
    "faces": ("draw labelled cartoon faces to try everything with", "shards.examples.faces:main"),
    "pack": ("turn tagged pictures into a data set", "shards.packing.pack:main"),
    "merge": ("make the data set of shards that several jobs packed", "shards.packing.merge:main"),
    "index": ("make a data set of WebDataset tars where they lie", "shards.packing.index_in_place:main"),
    "verify": ("find what is missing, damaged or altered in a data set", "shards.inspect.verify:main"),
    "describe": ("say what a data set holds, and draw a contact sheet", "shards.inspect.describe:main"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status is 0, 2 for a mistake in what was asked, 1 for trouble on the way."""
    words = sys.argv[1:] if argv is None else argv
    return exit_status(lambda: dispatch(COMMANDS, words, program="python -m shards", version=version_line()))


if __name__ == "__main__":
    sys.exit(main())
