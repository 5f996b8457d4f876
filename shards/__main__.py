"""`python -m shards COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from shards import version_line
from shards.errors import exit_status
from shards.options import dispatch

COMMANDS = {
    "faces": ("draw labelled cartoon faces to try everything with", "shards.faces:main"),
    "pack": ("turn a folder of tagged pictures into a data set", "shards.pack:main"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status is 0, 2 for a mistake in what was asked, 1 for trouble on the way."""
    words = sys.argv[1:] if argv is None else argv
    return exit_status(lambda: dispatch(COMMANDS, words, program="python -m shards", version=version_line()))


if __name__ == "__main__":
    sys.exit(main())
