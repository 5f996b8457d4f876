"""One rank of a check; `python -m launch check` starts it, once for each."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from shards.core import cli
from shards.core.errors import exit_status, is_first_process
from trainer.preflight.options import COMMAND, Check
from trainer.process.exit import leave


def check() -> None:
    """Take part in the check that the command line asks for.

    Raises:
        UserError: it cannot be.
        Failure: something is red.
    """
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] - a terminal that knows no ✓
    words = sys.argv[1:]
    if cli.wants_help(words):
        if is_first_process():
            print(cli.usage(Check, COMMAND))
        return
    asked = cli.parse(Check, words, command=COMMAND)

    if is_first_process():
        print("… starting", file=sys.stderr, flush=True)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # it says by stack traces what is said here in a sentence
    from trainer.preflight.run import examine  # and so torch, which takes seconds: a wrong option is answered before

    examine(asked)


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave as by an error, so that what was written for the check goes."""
    raise SystemExit(128 + number)


def main() -> None:
    """The rank's entry: exits with status 0, 1 (something is red) or 2 (a mistake in what was asked)."""
    signal.signal(signal.SIGTERM, _leave)
    leave(exit_status(check))  # a thread may hang in a driver or a dead file system


if __name__ == "__main__":
    main()
