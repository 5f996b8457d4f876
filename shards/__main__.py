"""Commands of the dataset: `cgan pack`, `cgan verify`, …, or `python -m shards COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from shards.core import utf8_mode
from shards.core.cli import dispatch
from shards.core.errors import exit_status
from shards.core.version import version_line

COMMANDS = {
    "faces": ("draw a small example dataset of labelled cartoon faces", "shards.examples.faces:main"),
    "preview": ("show how a source would be read and labelled", "shards.inspect.preview:main"),
    "pack": ("convert a folder of labelled images to a dataset", "shards.packing.pack:main"),
    "merge": ("merge the parts that several jobs packed into one dataset", "shards.packing.merge:main"),
    "index": ("index existing WebDataset tars in place, without copying them", "shards.packing.index_in_place:main"),
    "verify": ("check a dataset for missing, damaged or altered files", "shards.inspect.verify:main"),
    "describe": ("summarize a dataset and draw a contact sheet", "shards.inspect.describe:main"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status: 0, 2 for a mistake in the request, 1 for a failure."""
    words = sys.argv[1:] if argv is None else argv
    return exit_status(lambda: dispatch(COMMANDS, words, program="python -m shards", version=version_line()))


if __name__ == "__main__":
    utf8_mode.ensure()
    sys.exit(main())
