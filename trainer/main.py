"""The entry: `accelerate launch trainer/main.py --shards DATA --preset NAME --run RUN`; plain `python` works too."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the file and not in the repository.
if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from shards.core.errors import is_first_process
from trainer.process import openmp, signals
from trainer.process.exit import end

COMMAND = "accelerate launch trainer/main.py"


def train(argv: Sequence[str]) -> None:
    """Train as the command line says.

    Raises:
        UserError: it does not fit; nothing has run then.
    """
    signals.install()  # before any large import: a signal would kill the process meanwhile
    openmp.bound()
    # Config knows no torch: a wrong option is answered at once, not after seconds of imports.
    from trainer import config

    if "--version" in argv:
        from shards.core.version import version_line

        print(version_line())
        return
    if {"-h", "--help"} & set(argv):
        if is_first_process():
            print(config.usage(COMMAND))
        return
    options = config.load(argv)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        from trainer.process import stall_watchdog

        stall_watchdog.watch(options.machine.timeout)  # before torch has threads

    from trainer import loop

    try:
        loop.train(options)
    finally:
        signals.finish()


def main() -> None:
    """The process's entry: exits with status 0, 1 (a failure) or 2 (a mistake in what was asked)."""
    if sys.platform == "win32":
        sys.exit("error: native Windows is not supported; run this inside WSL2")
    end(lambda: train(sys.argv[1:]))


if __name__ == "__main__":
    main()
