"""The console command `cgan`: every command under one name, the same code as `python -m shards|trainer|launch`."""

from __future__ import annotations

import sys

from launch import __main__ as launch
from shards import __main__ as shards
from shards.core.cli import dispatch
from shards.core.version import version_line
from trainer import __main__ as trainer
from trainer.process.exit import end

COMMANDS = shards.COMMANDS | trainer.COMMANDS | launch.COMMANDS


def main() -> None:
    """The console script."""
    end(lambda: dispatch(COMMANDS, sys.argv[1:], program="cgan", version=version_line()))
