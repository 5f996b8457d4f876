"""One rank of `cgan check`, which starts as many as it needs."""

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
    """Run this rank's part of the check.

    Raises:
        UserError: an option is invalid.
        Failure: the check has red findings.
    """
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] - terminals without ✓
    words = sys.argv[1:]
    if cli.wants_help(words):
        if is_first_process():
            print(cli.usage(Check, COMMAND))
        return
    asked = cli.parse(Check, words, command=COMMAND)

    if is_first_process():
        print("… starting", file=sys.stderr, flush=True)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # its stack traces would repeat our errors
    from trainer.preflight.run import run_checks  # imports torch, which takes seconds: validate options first

    run_checks(asked)


def _exit(number: int, frame: FrameType | None) -> None:
    """Exit by an exception, so that temporary files are removed."""
    raise SystemExit(128 + number)


def main() -> None:
    """Run one rank; exits with status 0, 1 (red findings) or 2 (invalid options)."""
    signal.signal(signal.SIGTERM, _exit)
    leave(exit_status(check))  # does not wait for threads that hang in a driver or file system


if __name__ == "__main__":
    main()
