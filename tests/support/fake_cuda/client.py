"""The test's end of a process on the fake GPU. This module does not import torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any

from support import ROOT


class TaskFailed(Exception):
    """A task raised an error, whose traceback is the message, or its process crashed."""


class FakeCuda:
    """A process on the fake GPU, while the context is open. Each task runs in a forked child of it."""

    def __enter__(self) -> FakeCuda:
        paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "support.fake_cuda.server"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT
        )
        return self

    def run(self, task: str, *arguments: object) -> Any:
        """Return what a function of `tasks` returns for these arguments, all of them values of JSON.

        Raises:
            TaskFailed: it raised an error.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([task, *arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the process of the fake GPU ended with status {self._process.wait()}"
        answer = json.loads(line)
        if "error" in answer:
            raise TaskFailed(answer["error"])
        return answer["result"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
