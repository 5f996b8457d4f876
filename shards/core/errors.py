"""Errors that people see: one sentence with a message code, and an exit status instead of a traceback."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable

from shards.core import streams

_MISTAKEN_PATHS = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES}
_LONG_WORD, _SHORT_WORD, _LONGEST = 500, 200, 10_000  # letters


class UserError(Exception):
    """A mistake in what was requested: an option, a file, a word. Exit status 2.

    Args:
        code: a stable name of the kind of mistake, such as "row-without-image". It is printed in brackets after the
            message, so that it can be searched for; tests assert codes rather than prose.
        message: one sentence that says what is wrong, where (file, row, key) and what to do.
    """

    status = 2
    # Whether another process of the job reports it; None until the processes have agreed.
    already_reported: bool | None = None

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str], dict[str, object]]:
        """Pickle with both arguments: errors travel from worker processes."""
        return type(self), (self.code, str(self)), self.__dict__


class Failure(UserError):
    """A valid request that failed (a full disk, lost data). Exit status 1."""

    status = 1


def is_first_process() -> bool:
    """Return True in the process that prints for the job: rank 0, or the only one."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def shortened(message: str) -> str:
    """Return a message without the rest of a word or a text that fills the screen, such as a tag of a megabyte.

    What a terminal would obey, such as an escape code in the answer of a server, is replaced.
    """
    message = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", message)
    message = re.sub(rf"\S{{{_LONG_WORD},}}", lambda word: word[0][:_SHORT_WORD] + "…", message)
    return message if len(message) <= _LONGEST else message[:_LONGEST] + "…"


def warn(code: str, message: str, *, anywhere: bool = False) -> None:
    """Print a warning with its message code, on rank 0 only unless it concerns the process that is ``anywhere``."""
    if anywhere or is_first_process():
        print(f"warning: {shortened(message)} [{code}]", file=sys.stderr, flush=True)


def exit_status(command: Callable[[], object]) -> int:
    """Run ``command`` and return the exit status of the process; print a `UserError` as one sentence.

    Standard streams are protected first (see `shards.core.streams`). Standard output that was lost makes the status of
    a command that succeeded 1, or 141 if its reader is gone (`… | head`), unless it is optional.
    """
    streams.protect()
    status = _status_of(command)
    lost = streams.lost_output()
    if status or lost is None:
        return status
    return 141 if streams.is_without_reader(lost) else 1


def _status_of(command: Callable[[], object]) -> int:
    try:
        command()
    except UserError as error:
        # All ranks make the same mistake, but each can fail alone.
        if not error.already_reported and (is_first_process() or isinstance(error, Failure)):
            rank = "" if is_first_process() else f"rank {os.environ.get('RANK', '?')}: "
            code = f" [{error.code}]"
            print(f"error: {rank}{shortened(str(error))}{code}", file=sys.stderr, flush=True)
        return error.status
    except SystemExit as asked:  # --help
        if asked.code:
            raise
    except KeyboardInterrupt:
        return 130
    except (MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and not re.search("map segment|allocate memory", str(error)):
            raise
        print("error: not enough memory (see `ulimit -v` and `free`) [out-of-memory]", file=sys.stderr, flush=True)
        return 1
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        reason = shortened(str(error)).splitlines()[0]
        print(f"error: the GPU has not enough free memory ({reason}) [out-of-memory]", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        # A path that may not be entered, or that is not a possible name, in code that has no better message.
        mistaken = error.errno in _MISTAKEN_PATHS
        advice = "; check this path and its permissions" if mistaken else ""
        print(f"error: {error.filename}: {error.strerror}{advice} [file-unreadable]", file=sys.stderr, flush=True)
        return 2 if mistaken else 1
    return 0
