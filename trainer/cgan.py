"""The console command `cgan`: every command under one name, the same code as `python -m shards|trainer`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence

from shards import __version__
from shards.errors import exit_status
from shards.options import dispatch

# name -> (help, module, function of the remaining words); modules are imported when called
TRAINER = {
    "train": ("train a generator (several processes: accelerate launch trainer/main.py)", "trainer.main", "train"),
    "sample": ("draw pictures by words from a trained run", "trainer.sample", "main"),
    "report": ("write a run's report.html anew", "trainer.report", "main"),
    "demo": ("faces, pack, train, sample: the whole way on a small example", "trainer.demo", "main"),
}
SHARDS = {
    "faces": ("draw labelled cartoon faces to train on", "shards.faces", "main"),
    "pack": ("pack a folder of tagged pictures into a data set", "shards.pack", "main"),
}


def run(table: Mapping[str, tuple[str, str, str]], argv: Sequence[str], program: str) -> int:
    """Dispatch to one of the commands.

    Returns:
        The exit status.
    """

    def lazily(module: str, function: str) -> Callable[[Sequence[str]], object]:
        return lambda words: getattr(importlib.import_module(module), function)(words)

    commands = {name: (doc, lazily(module, function)) for name, (doc, module, function) in table.items()}
    return exit_status(lambda: dispatch(commands, argv, program=program, version=__version__))


def main() -> None:
    """The console script."""
    sys.exit(run({**SHARDS, **TRAINER}, sys.argv[1:], "cgan"))
