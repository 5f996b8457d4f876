"""The training program, `accelerate launch trainer/main.py --shards DATA --preset NAME --run RUN` or plain `python`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a script, Python searches modules in the directory of the script, not in the repository.
if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from shards.core import streams, utf8_mode
from shards.core.errors import is_first_process
from trainer.process import openmp, signals
from trainer.process.exit import end

COMMAND = "accelerate launch trainer/main.py"


def train(argv: Sequence[str]) -> None:
    """Train with the options of a command line.

    Raises:
        UserError: an option is invalid. Nothing has run.
    """
    signals.install()  # before any slow import, during which a signal would kill the process
    openmp.limit_spinning()
    # The configuration does not import torch, so an invalid option is reported at once, not after seconds of imports.
    from trainer import config

    if "--version" in argv:
        from shards.core.version import version_line

        print(version_line())
        return
    if {"-h", "--help"} & set(argv):
        if is_first_process():
            print(config.usage(COMMAND))
        return
    streams.output_is_optional()
    options = config.load(argv)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        from trainer.process import stall_watchdog

        stall_watchdog.watch(options.machine.timeout)  # before torch starts threads

    from trainer.setup import training

    try:
        training.train(options)
    finally:
        signals.finish()


def main() -> None:
    """Run the program; exits with status 0, 1 (failure) or 2 (invalid input)."""
    utf8_mode.ensure()
    if sys.platform == "win32":
        sys.exit("error: native Windows is not supported; run this inside WSL2")
    end(lambda: train(sys.argv[1:]))


if __name__ == "__main__":
    main()
