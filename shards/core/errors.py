"""How this project answers a person's mistake: one sentence and an exit status, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in what was asked: an option, a file, a word. Exit status 2.

    Args:
        code: a stable name of the kind of mistake, such as "row-without-image". It is printed in brackets after the
            message, so that it can be searched for; tests assert codes rather than prose.
        message: one sentence that says what is wrong, where (file, row, key) and what to do.
    """

    status = 2
    told = False  # whether another process of the job has printed it

    def __init__(self, code: str, message: str | None = None) -> None:
        # Transitional: a single argument is a message without a code.
        super().__init__(code if message is None else message)
        self.code = "" if message is None else code

    def __reduce__(self) -> tuple[type[UserError], tuple[str, ...], dict[str, object]]:
        """Pickle with both arguments: errors travel from worker processes."""
        return type(self), (self.code, str(self)) if self.code else (str(self),), self.__dict__


class Failure(UserError):
    """Something that went wrong while doing what was rightly asked (a full disk, lost data). Exit status 1."""

    status = 1


def is_first_process() -> bool:
    """Whether this process is the one that speaks to the terminal (rank 0, or not launched in parallel)."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def warn(sentence: str) -> None:
    """Print a warning, once in a job whose processes all come to it."""
    if is_first_process():
        print(f"warning: {sentence}", file=sys.stderr, flush=True)


def exit_status(command: Callable[[], object]) -> int:
    """Run ``command`` and return the exit status of the process, with a user's mistakes printed as one sentence."""
    try:
        command()
    except UserError as error:
        # All processes make the same mistake of asking, but each can fail alone.
        if not error.told and (is_first_process() or isinstance(error, Failure)):
            who = "" if is_first_process() else f"process {os.environ.get('RANK', '?')}: "
            code = f" [{error.code}]" if error.code else ""
            print(f"error: {who}{error}{code}", file=sys.stderr, flush=True)
        return error.status
    except BrokenPipeError:  # the reader of our output went away: `… | head`
        sys.stderr.close()
        return 141
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is None:
            raise
        # A path that one may not enter, or that is no possible name, met where nothing more can be said of it.
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr, flush=True)
        return 1
    return 0
