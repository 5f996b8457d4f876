"""Exit of a process of a job: without the interpreter's teardown, once everything is done and closed.

The threads of a process group outlive the group while torch holds a reference to it (DDP always does), and do not
survive the interpreter's teardown: a thread that is late to release the last tensor that it sent requests the GIL,
which aborts the process with "terminate called without an active exception" (pytorch#190489). Connections to a lost
process can block the teardown forever.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from shards.core.errors import exit_status

_LAST_SECONDS = 30.0  # for exit handlers that wait for a lost disk or server


def end(command: Callable[[], object]) -> NoReturn:
    """Run a command and exit with its status (see `shards.core.errors.exit_status`); a bug prints a traceback: 1."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(exit_status(command))
    try:
        status = exit_status(command)
    except SystemExit as asked:  # --help, and a signal
        status = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    leave(status)


def leave(status: int) -> NoReturn:
    """Run the exit handlers of libraries, for 30 seconds at most, and end the process."""
    watchdog = threading.Timer(_LAST_SECONDS, os._exit, (status,))
    watchdog.daemon = True
    watchdog.start()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader is gone
            stream.flush()
    os._exit(status)
