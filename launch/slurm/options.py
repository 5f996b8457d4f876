"""What can be chosen about a SLURM job, checked before anything is written or queued."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shards.core.cli import option, validate
from shards.core.errors import UserError

# What SLURM's names are made of.
_NAME = r"[\w.,@+-]+"
_PATTERNS = {
    "partition": _NAME,
    "account": _NAME,
    "qos": _NAME,
    "constraint": r"[\w.,@+&|!*()\[\]:=-]+",
    "gres": r"[\w.,:*=-]+",
    "mem": r"\d+[KMGT]?",
    "mail": r"[\w.+-]+@[\w.-]+",
    "name": r"\w[\w.+-]{0,63}",
}
_EXAMPLES = {
    "gres": ", like gpu:a100:8",
    "mem": ", like 64G, or 0 for all of a node's",
    "mail": ", like ada@example.org",
}
# sbatch's own options that this command decides itself, and what decides them.
_OURS = {
    "job-name": "--name",
    "output": "--logs",
    "error": "--logs",
    "open-mode": None,
    "requeue": None,
    "no-requeue": None,
    "signal": "--warn",
    "time": "--time",
    "nodes": "--nodes",
    "ntasks": None,
    "ntasks-per-node": "--gpus-per-node",
    "gpus-per-task": "--gpus-per-node",
    "cpus-per-task": "--cpus",
    "array": "--array",
    "dependency": None,
    "wrap": None,
    "chdir": None,
    "parsable": None,
    "test-only": "--dry-run",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """Write a SLURM job, or submit it: one that trains, or with --array jobs that pack one data set together.

    After `--` come the options of the trainer (or of `python -m shards pack`). They are checked first; then the script
    is printed, or handed to sbatch by --submit.
    """

    nodes: int = option(1, "machines", minimum=1)
    gpus_per_node: int = option(
        1, "GPUs, and so processes, of each; 0: a partition without GPUs", minimum=0, maximum=64
    )
    processes_per_node: int | None = option(
        None, "processes of each where there are no GPUs; 1 if not given", minimum=1
    )
    cpus: int = option(4, "CPU cores for each process", minimum=1)
    time: str = option("04:00:00", "limit of one try, as SLURM writes it: minutes, H:M:S, D-H, D-H:M:S")
    warn: int = option(120, "seconds before that limit at which the trainer saves and is queued again", minimum=30)
    array: int | None = option(
        None, "pack by so many jobs, and merge by one that waits for them", minimum=1, maximum=9999
    )
    partition: str | None = option(None, "SLURM's partition; this and the next ones are the site's own if not given")
    account: str | None = option(None, "whom to charge")
    qos: str | None = option(None, "quality of service")
    constraint: str | None = option(None, "features that the nodes must have")
    gres: str | None = option(None, "how GPUs are asked for; gpu:N if not given")
    mem: str | None = option(None, "memory of each node")
    mail: str | None = option(None, "address that hears of the end, a failure, another try")
    name: str = option("cgan", "name of the job and of its log")
    logs: Path = option(Path("logs"), "folder for logs; --submit makes it")
    setup: str | None = option(
        None, "shell line, or file of such lines, to run first: module load …, source …/activate"
    )
    sbatch: str = option("", "further options of sbatch, as 'exclusive exclude=node7,node9'")
    python: str | None = option(None, "interpreter on the nodes; this one if not given, in a container python3")
    container: str | None = option(None, "image to run in, by the pyxis plugin's --container-image")
    launcher: str = option(
        "srun", "srun: a task a process; accelerate: a task a node, `accelerate launch`", choices=("srun", "accelerate")
    )
    storage: str = option(
        "check", "trust: folders are seen by all nodes, whatever it looks like", choices=("check", "trust")
    )
    submit: bool = option(False, "hand the job to sbatch")
    dry_run: bool = option(False, "with --submit: ask the controller whether it would take the job, and queue nothing")

    def __post_init__(self) -> None:
        """Hold the values against their bounds, and against what SLURM takes.

        Raises:
            UserError: a value makes no sense.
        """
        validate(self)
        for name, pattern in _PATTERNS.items():
            value = getattr(self, name)
            if value is not None and not re.fullmatch(pattern, value, re.ASCII):
                raise UserError(f"--{name}: {value!r} is nothing that SLURM takes there{_EXAMPLES.get(name, '')}")
        for name in ("logs", "python", "container"):
            if any(ord(letter) < 32 for letter in str(getattr(self, name))):
                raise UserError(
                    f"--{name}: {str(getattr(self, name))!r} has a line break or another control character in it"
                )
        if "\\" in str(self.logs.absolute()):
            raise UserError(f"--logs {self.logs.absolute()}: SLURM takes backslashes out of it; choose another folder")
        if seconds(self.time) <= self.warn:
            raise UserError(f"--time {self.time} leaves nothing before the warning, --warn {self.warn} seconds earlier")
        if self.processes_per_node is not None and self.gpus_per_node:
            raise UserError("--processes-per-node: one process has one GPU; leave it out, or give --gpus-per-node 0")
        self._check_array()
        self.further()
        self.setup_lines()

    def _check_array(self) -> None:
        if self.array is None:
            return
        for name in ("nodes", "gpus_per_node", "processes_per_node", "warn", "gres", "container", "launcher"):
            if getattr(self, name) != getattr(Job, name):
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag}: each job of --array packs by itself on --cpus of one node; leave it out")

    @property
    def ranks_per_node(self) -> int:
        """Processes of each node."""
        return self.gpus_per_node or self.processes_per_node or 1

    @property
    def world(self) -> int:
        """Processes of the job."""
        return self.nodes * self.ranks_per_node

    def further(self) -> list[tuple[str, str]]:
        """``--sbatch`` as pairs of option and value.

        Raises:
            UserError: it cannot be read, or names what this command decides.
        """
        try:
            words = shlex.split(self.sbatch)
        except ValueError as error:
            raise UserError(f"--sbatch {self.sbatch!r}: {str(error).lower()}") from None
        pairs = []
        for word in words:
            name, _, value = word.removeprefix("--").partition("=")
            if not re.fullmatch(r"[a-z][a-z-]+", name) or any(ord(letter) < 32 for letter in value):
                raise UserError(f"--sbatch: {word!r} is no long option of sbatch; write NAME=VALUE or NAME")
            if name in _OURS or name in _PATTERNS:
                instead = _OURS.get(name, f"--{name}")
                raise UserError(f"--sbatch {name}: " + (f"use {instead}" if instead else "the job decides this itself"))
            pairs.append((name, value))
        return pairs

    def setup_lines(self) -> list[str]:
        """``--setup`` as lines of shell.

        Raises:
            UserError: they are no shell.
        """
        if not self.setup:
            return []
        text = self.setup
        try:
            if Path(text).is_file():
                text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"--setup {self.setup}: {error}") from None
        plain = {**os.environ, "LC_ALL": "C"}  # what bash says of here-documents is looked for below
        checked = subprocess.run(["bash", "-n", "-c", text], env=plain, capture_output=True, text=True, check=False)
        if checked.returncode:
            raise UserError(f"--setup is no shell: {' '.join(checked.stderr.split())}")
        text = text.strip()
        if text.endswith("\\") or "here-document" in checked.stderr:  # bash would take the job's own lines for the rest
            raise UserError(f"--setup {self.setup!r} ends in the middle of a command or a here-document")
        return text.splitlines()


def seconds(time: str) -> int:
    """A time limit as SLURM writes it, in seconds.

    Raises:
        UserError: it is none.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time, re.ASCII)
    if not found:
        raise UserError(f"--time {time!r} is no time limit; write minutes, H:M:S, D-H or D-H:M:S, like 24:00:00")
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is None and len(numbers) < 3:  # M, or M:S
        numbers = [0, *numbers]
    hours, minutes, rest = (numbers + [0, 0])[:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest
