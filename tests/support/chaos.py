"""Interrupt a job at random and at chosen moments, and check that the same command resumes it.

A `Campaign` starts one command repeatedly. Each start meets a `Blow`; the files left after it must be intact, and when
the command finishes, its output must equal that of an undisturbed run bit for bit. All choices are drawn from one seed.
`test_chaos.py` defines the jobs and the number of blows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import psutil

from support.launching import ROOT, command, environment
from support.struck import Stroke

STRUCK = ROOT / "tests" / "support" / "struck.py"
SIGNALS = {"kill -9": "SIGKILL", "TERM": "SIGTERM", "USR1": "SIGUSR1", "Ctrl-C": "SIGINT"}
REFUSALS = {"full disk": "ENOSPC", "read-only": "EROFS"}  # errno of the targeted operation
PATIENCE = 150.0  # seconds that a start may take on a busy machine


class Job(Protocol):
    """One command and its output.

    Attributes:
        name: name in the table.
        processes: see `launching.command`.
        moments: regular expression for the line of `struck.operation` that marks a moment, by the moment's name.
        preludes: stroke that must precede a moment, by the moment's name.
        once: moments that occur once per start.
        lasts: seconds from which a random time is drawn: of the start-up, and of the work after it.
        compare: checks the output of the finished command; ``refused`` tells that the disk has refused an operation.
    """

    name: str
    processes: int
    moments: ClassVar[dict[str, str]]
    preludes: ClassVar[dict[str, Stroke]]
    once: frozenset[str]
    lasts: tuple[float, float]

    def line(self, strokes: str, log: str) -> list[str]: ...
    def variables(self) -> dict[str, str]: ...
    def working(self) -> bool: ...
    def finished(self) -> bool: ...
    def examine(self) -> None: ...
    def compare(self, refused: bool) -> None: ...
    def damage(self, kind: str, rng: random.Random) -> bool: ...
    def reset(self) -> None: ...


@dataclass(frozen=True)
class Blow:
    """An interruption of one start.

    Attributes:
        event: a name of `SIGNALS` or `REFUSALS`.
        moment: "start-up" or "any" (a random time, from outside), or one of the job's moments.
        nth: number of the moment's operation, from 1.
        whom: receivers of a signal, "process" or "job".
        delay: fraction of the job's time that passes before a blow from outside.
    """

    event: str
    moment: str
    nth: int = 1
    whom: str = "process"
    delay: float = 0.0

    def strokes(self, job: Job) -> list[Stroke]:
        """Return the strokes that the started process applies to itself."""
        if self.moment not in job.moments:
            return []
        event = SIGNALS.get(self.event) or REFUSALS[self.event]
        stroke = Stroke(job.moments[self.moment], event, self.nth, self.whom)
        if (prelude := job.preludes.get(self.moment)) is None:
            return [stroke]
        return [dataclasses.replace(prelude, nth=self.nth), dataclasses.replace(stroke, nth=1)]


def draw_blows(rng: random.Random, job: Job, count: int) -> Iterator[Blow]:
    """Yield ``count`` blows that cycle through the moments, with random events."""
    moments = ["start-up", "any", *job.moments, "any"]
    rng.shuffle(moments)
    for number in range(count):
        moment = moments[number % len(moments)]
        doing = job.moments.get(moment, "")
        asked = moment in job.preludes and job.preludes[moment].event.startswith("SIG")
        events = ["kill -9"] if asked else list(SIGNALS)
        if re.search("write|rename", doing) and "rmtree" not in doing:  # operations that can fail on a disk
            events += REFUSALS
        event = rng.choice(["kill -9", *events])  # the most destructive event more often
        whom = "process" if event == "USR1" else rng.choice(["process", "job"])
        nth = 1 if moment in job.once else rng.choice([1, 1, 2, 3])
        yield Blow(event, moment, nth, whom, rng.random())


@dataclass
class Campaign:
    """Blows to one job, and their outcomes.

    Attributes:
        struck: count per event and moment; a start that ended before its blow is not counted.
    """

    job: Job
    folder: Path
    rng: random.Random
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    survived: Counter[tuple[str, str]] = field(default_factory=Counter)
    history: list[str] = field(default_factory=list)

    def tallies(self) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
        """Return the counts of blows that struck and of those survived."""
        return self.struck, self.survived

    def run(self, blows: Iterator[Blow]) -> None:
        """Start once per blow, then run to the end; compare the output whenever the job has finished.

        Raises:
            AssertionError: something was lost; the message contains the latest history.
        """
        open_blows: list[tuple[str, str]] = []
        try:
            for blow in blows:
                if self.job.finished():
                    open_blows = self._settle(open_blows)
                if self._start(blow):
                    open_blows.append((blow.event, blow.moment))
                self.job.examine()
                self._damage(open_blows)
            self._finish()
            self._settle(open_blows)
        except Exception as error:
            raise AssertionError("\n".join([str(error), f"{self.job.name}:", *self.history[-12:]])) from error

    def _settle(self, blows: list[tuple[str, str]]) -> list[tuple[str, str]]:
        self.job.compare(any(event in REFUSALS for event, _ in blows))
        for blow in blows:
            self.survived[blow] += 1
        self.job.reset()
        return []

    def _damage(self, blows: list[tuple[str, str]]) -> None:
        if self.rng.random() < 0.2:
            kind = self.rng.choice(["truncated", "bit flipped", "emptied"])
            if not self.job.finished() and self.job.damage(kind, self.rng):
                self.history.append(f"damage: {kind}")
                self.struck["damaged", f"the newest, {kind}"] += 1
                blows.append(("damaged", f"the newest, {kind}"))

    def _finish(self) -> None:
        for _ in range(3):  # an orphan of the previous start may still be running
            if self.job.finished():
                return
            self._start(None)
        assert self.job.finished(), "the same command does not finish"

    def _start(self, blow: Blow | None) -> bool:
        """Run one start to its end; return whether the blow struck it."""
        log = self.folder / "log"
        log.write_bytes(b"")
        strokes = blow.strokes(self.job) if blow else []
        line = self.job.line(json.dumps([dataclasses.asdict(stroke) for stroke in strokes]), str(log))
        output = self.folder / "output"
        with output.open("wb") as file:
            env = environment(self.job.processes, self.job.variables())
            process = subprocess.Popen(line, env=env, stdout=file, stderr=file, start_new_session=True)
            struck = _follow(process, self._timed(blow, strokes))
        text = output.read_text(errors="replace")
        struck = struck or "struck" in log.read_text()
        self.history.append(f"{blow} struck: {struck}, status {process.returncode}\n    {_tail(text)}")
        if blow is None:
            assert process.returncode == 0, f"an undisturbed start failed:\n{text[-3000:]}"
        elif not struck:
            assert process.returncode == 0, f"a start that nothing struck failed:\n{text[-3000:]}"
        elif blow.event in REFUSALS:
            assert re.search("error: |warning: |had to be skipped", text), f"no sentence:\n{text[-3000:]}"
        if blow and struck:
            self.struck[blow.event, blow.moment] += 1
        return struck

    def _timed(self, blow: Blow | None, strokes: list[Stroke]) -> Callable[[subprocess.Popen[bytes]], bool] | None:
        """Return a function that strikes from outside when due; None if the process strikes itself."""
        if blow is None or strokes:
            return None
        starting, working = self.job.lasts
        since = time.monotonic()
        worked: list[float] = []

        def strike(process: subprocess.Popen[bytes]) -> bool:
            now = time.monotonic()
            if blow.moment == "start-up":
                due = now - since > blow.delay * starting
            else:
                if not worked and self.job.working():
                    worked.append(now)
                due = bool(worked) and now - worked[0] > blow.delay * working
            if due:
                _send(process, SIGNALS[blow.event], blow.whom)
            return due

        return strike


def _send(process: subprocess.Popen[bytes], name: str, whom: str) -> None:
    """Send a signal to the started process or to its whole job, as Ctrl-C or a scheduler does."""
    number = getattr(signal, name)
    found = psutil.Process(process.pid)
    below = found.children(recursive=True)
    receivers = [found, *below] if whom == "job" or name == "SIGINT" else [found]
    if name == "SIGUSR1":  # a scheduler sends it to its tasks
        receivers = below or [found]
    if name == "SIGKILL" and whom == "job":
        found.suspend()  # so that it starts no other process meanwhile
        receivers = [found, *found.children(recursive=True)]
    for receiver in reversed(receivers):
        with contextlib.suppress(psutil.NoSuchProcess):
            receiver.send_signal(number)


def _follow(process: subprocess.Popen[bytes], strike: Callable[[subprocess.Popen[bytes]], bool] | None) -> bool:
    """Wait until the process and its descendants have ended; return whether it was struck from outside."""
    family: dict[int, psutil.Process] = {}
    end, struck, looked = time.monotonic() + PATIENCE, False, 0.0
    while process.poll() is None:
        now = time.monotonic()
        assert now < end, "a start has not ended"
        if now - looked > 0.1:
            looked = now
            with contextlib.suppress(psutil.NoSuchProcess):
                family |= {child.pid: child for child in psutil.Process(process.pid).children(recursive=True)}
        if strike is not None and not struck:
            struck = strike(process)
        time.sleep(0.005)
    _, alive = psutil.wait_procs(list(family.values()), timeout=max(1.0, end - time.monotonic()))
    for orphan in alive:
        orphan.kill()
    assert not alive, f"an orphan is still running: {alive}"
    return struck


def _tail(text: str) -> str:
    return " | ".join(line for line in text.splitlines()[-40:] if re.match("error|warning|stopped|done|resuming", line))


def table(campaigns: list[Campaign]) -> str:
    """Return a table of what struck when, how often, and how often the same command then gave the same output."""
    lines = [f"{'job':<20} {'event':<10} {'moment':<34} struck  survived"]
    for campaign in campaigns:
        for (event, moment), struck in sorted(campaign.struck.items()):
            kept = campaign.survived[event, moment]
            lines.append(f"{campaign.job.name:<20} {event:<10} {moment:<34} {struck:>6}  {kept:>8}")
    struck, kept = (
        sum(sum(c.values()) for c in tallies) for tallies in zip(*map(Campaign.tallies, campaigns), strict=True)
    )
    return "\n".join([*lines, f"{'in all':<66} {struck:>6}  {kept:>8}"])


def words_of(program: str | Path, strokes: str, log: str, words: list[object], processes: int) -> list[str]:
    """Return the command line of a program that is struck."""
    if processes == 0:
        return [sys.executable, str(STRUCK), strokes, log, str(program), *map(str, words)]
    return command([strokes, log, program, *words], processes, STRUCK)


def damage_file(path: Path, kind: str, rng: random.Random) -> None:
    """Truncate a file, flip one of its bits, or empty it."""
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        del content[rng.randrange(len(content)) :]
    elif kind == "emptied":
        content.clear()
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    with path.open("rb") as file:
        os.fsync(file.fileno())
