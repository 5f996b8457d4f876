"""The console command `cgan`: all commands under one name, the same as `python -m shards|trainer|launch`."""

from __future__ import annotations

import sys

from launch import __main__ as launch
from shards import __main__ as shards
from shards.core import utf8_mode
from shards.core.cli import dispatch
from shards.core.version import version_line
from trainer import __main__ as trainer
from trainer.process.exit import end

COMMANDS = shards.COMMANDS | trainer.COMMANDS | launch.COMMANDS


def main() -> None:
    """Run the console script."""
    utf8_mode.ensure()
    end(lambda: dispatch(COMMANDS, sys.argv[1:], program="cgan", version=version_line()))
