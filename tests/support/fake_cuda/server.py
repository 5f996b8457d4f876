"""The process on the fake GPU: one line of JSON in, [task, arguments…], and one out, for each task."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import traceback
import warnings
from multiprocessing.connection import Connection
from typing import Any

from support.fake_cuda import rig, tasks

_FORK = multiprocessing.get_context("fork")


def serve() -> None:
    """Run tasks until there are no more, each in a child."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a task prints is no answer
    for line in sys.stdin:
        answers.write(json.dumps(_in_child(*json.loads(line))) + "\n")
        answers.flush()


def _in_child(task: str, *arguments: Any) -> dict[str, Any]:
    ours, theirs = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_run, args=(theirs, task, arguments))
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        child.join()
        return {"error": f"the process of the task ended with status {child.exitcode}"}


def _run(pipe: Connection, task: str, arguments: tuple[Any, ...]) -> None:
    warnings.simplefilter("ignore")
    try:
        with rig.fake_cuda():
            answer = {"result": getattr(tasks, task)(*arguments)}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    pipe.send(answer)
    os._exit(0)  # without destructors


if __name__ == "__main__":
    serve()
