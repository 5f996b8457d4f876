"""How a process of a job ends: at once, when all it had to do and to close is done.

An interpreter that tears itself down does not go well with the threads of a process group, which outlive the group as
long as torch holds it somewhere (DDP always does). A thread that is late to let go of the last tensor that it sent asks
for the interpreter's lock, and that aborts the process: "terminate called without an active exception"
(pytorch#190489). A lost process's connections can keep the interpreter from its end altogether.
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

_LAST_SECONDS = 30.0  # for what may wait for a disk or a server that is no more


def end(command: Callable[[], object]) -> NoReturn:
    """Run a command and end the process with its status (`shards.core.errors.exit_status`); 1 and a traceback for a
    bug."""
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
    """End the process now, after what libraries have left to be done at its end, if it comes to an end."""
    watchdog = threading.Timer(_LAST_SECONDS, os._exit, (status,))
    watchdog.daemon = True
    watchdog.start()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader went away
            stream.flush()
    os._exit(status)
