"""The shell blocks of documents: found, read and run as a reader would."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHELLS = {"bash", "sh", "shell", "console", "zsh"}
SHOWN = "text"  # a block of this language after one of a shell is what that prints
BLOCK_TIMEOUT = 600  # seconds


@dataclass(frozen=True)
class Block:
    """A fenced block of shell commands."""

    document: str
    line: int
    code: str
    not_run: str | None  # the reason
    shown: str = ""  # what the document says that it prints

    @property
    def commands(self) -> list[str]:
        """Its lines, with continued ones joined, without comments."""
        lines = re.sub(r"\\\n\s*", " ", self.code).splitlines()
        return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]

    @property
    def make_targets(self) -> list[str]:
        """The targets of its `make` commands."""
        words = [w for c in self.commands if c.split()[0] == "make" for w in shlex.split(c, comments=True)[1:]]
        return [w for w in words if "=" not in w and not w.startswith("-")]

    @property
    def script(self) -> str:
        """What is run: all but the `make` commands."""
        return "\n".join(line for line in self.code.splitlines() if not re.match(r"\s*make\b", line))


@dataclass(frozen=True)
class _Fence:
    language: str
    line: int
    code: str
    above: str  # the last line before it that is not blank


def blocks(document: str, text: str) -> Iterator[Block]:
    """Yield the shell blocks of a document."""
    fences = list(_fences(document, text))
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence.language in SHELLS:
            reason = re.fullmatch(r"\s*<!--\s*not run:\s*(.*?)\s*-->\s*", fence.above)
            shown = following.code if following is not None and following.language == SHOWN else ""
            yield Block(document, fence.line, fence.code, reason[1] if reason else None, shown)


def _fences(document: str, text: str) -> Iterator[_Fence]:
    lines = text.splitlines()
    opened: int | None = None
    fence = language = ""
    for number, line in enumerate(lines):
        if opened is None:
            if start := re.match(r"\s*(`{3,}|~{3,})\s*(\w*)", line):
                opened, fence, language = number, start[1], start[2].lower()
        elif line.strip() == fence:
            above = next((above for above in reversed(lines[:opened]) if above.strip()), "")
            yield _Fence(language, opened + 1, "\n".join(lines[opened + 1 : number]), above)
            opened = None
    assert opened is None, f"{document}:{(opened or 0) + 1}: this block is never closed"


def blocks_of(path: Path) -> list[Block]:
    """Return the shell blocks of a document; none of one that does not exist."""
    return list(blocks(path.name, path.read_text(encoding="utf-8"))) if path.exists() else []


def environment(where: Path) -> dict[str, str]:
    """Return the environment of a reader who has set up the checkout at ``where`` and activated it."""
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(where),
        "VIRTUAL_ENV": sys.prefix,
        "XDG_CACHE_HOME": str(where / ".cache"),  # what a reader's commands keep is not for this machine's user
    }


def run(script: str, where: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script as a reader would, in an environment that is set up and active."""
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=where,
        env=environment(where),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=BLOCK_TIMEOUT)
        finally:  # a script that failed or took too long leaves what it started, such as a server with its port
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(script, process.returncode, printed)


def run_all(document: Path, checkout: Path) -> None:
    """Run the blocks of a document in order; each must succeed, and print what the document shows."""
    for block in blocks_of(document):
        if block.not_run is None and block.script.strip():
            done = run(block.script, checkout)
            report = f"{block.document}:{block.line}: status {done.returncode}\n{block.script}\n---\n"
            assert done.returncode == 0, report + done.stdout[-6000:]
            missing = missing_lines(block.shown, done.stdout)
            assert not missing, f"{report}{done.stdout[-6000:]}\n--- and not\n" + "\n".join(missing)


def missing_lines(shown: str, printed: str) -> list[str]:
    """Return the lines that a document shows and a command did not print, in this order.

    Numbers, and the width of gaps, may differ. A line "…" stands for any lines; one that ends in "…" may go on.
    """
    lines = iter([_without_numbers(line) for line in printed.splitlines()])
    wanted = [line for line in shown.splitlines() if line.strip() not in ("", "…")]
    return [line for line in wanted if not any(_fits(_without_numbers(line), other) for other in lines)]


def _without_numbers(line: str) -> str:
    return " ".join(re.sub(r"\d[\d,.]*", "#", line).split())


def _fits(shown: str, printed: str) -> bool:
    return printed.startswith(shown[:-1].rstrip()) if shown.endswith("…") else shown == printed
