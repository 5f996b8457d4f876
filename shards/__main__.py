"""``python -m shards faces|pack …``"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from shards import __version__, revision
from shards.errors import exit_status
from shards.options import dispatch


def _faces(argv: Sequence[str]) -> None:
    from shards.faces import main

    main(argv)


def _pack(argv: Sequence[str]) -> None:
    from shards.pack import main

    main(argv)


COMMANDS = {
    "faces": ("draw labelled cartoon faces to try everything with", _faces),
    "pack": ("turn a folder of tagged pictures into a data set", _pack),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status is 0, 2 for a mistake in what was asked, 1 for trouble on the way."""
    words = sys.argv[1:] if argv is None else argv
    version = f"cgan-trainer {__version__}" + (f" ({commit})" if (commit := revision()) else "")
    return exit_status(lambda: dispatch(COMMANDS, words, program="python -m shards", version=version))


if __name__ == "__main__":
    sys.exit(main())
