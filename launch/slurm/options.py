"""Options of a SLURM job, validated before anything is written or queued."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shards.core.cli import option, validate
from shards.core.errors import UserError

# Characters that SLURM accepts.
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
    "mem": ", like 64G, or 0 for all memory of a node",
    "mail": ", like ada@example.org",
}
# Options of sbatch that this command sets itself, and our option that controls them.
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
    """Write or submit a SLURM job that trains, or with --array a job array that packs a dataset.

    The options of `cgan train` (or of `cgan pack`) follow after `--`. They are checked first; then the script is
    printed, or submitted with --submit.
    """

    nodes: int = option(1, "number of nodes", minimum=1)
    gpus_per_node: int = option(1, "GPUs, and thus processes, per node; 0: train on CPUs", minimum=0, maximum=64)
    processes_per_node: int | None = option(None, "processes per node with --gpus-per-node 0 (default: 1)", minimum=1)
    cpus: int = option(4, "CPU cores per process", minimum=1)
    time: str = option("04:00:00", "time limit of one attempt in SLURM's format: minutes, H:M:S, D-H, D-H:M:S")
    warn: int = option(
        120, "seconds before the time limit at which the trainer saves and the job is requeued", minimum=30
    )
    array: int | None = option(
        None,
        "pack a dataset with this many jobs, and merge the parts in a final job (default: train)",
        minimum=1,
        maximum=9999,
    )
    partition: str | None = option(None, "SLURM partition (default: the site's, as for the options below)")
    account: str | None = option(None, "account to charge")
    qos: str | None = option(None, "quality of service")
    constraint: str | None = option(None, "required features of the nodes")
    gres: str | None = option(None, "generic resources per node (default: gpu:N with --gpus-per-node N)")
    mem: str | None = option(None, "memory per node")
    mail: str | None = option(None, "e-mail address to notify when the job ends, fails or is requeued")
    name: str = option("cgan", "name of the job and of its log file")
    logs: Path = option(Path("logs"), "directory for logs; --submit creates it")
    setup: str | None = option(
        None, "shell line, or file of such lines, to run before the program: module load …, source …/activate"
    )
    sbatch: str = option("", "further options of sbatch, like 'exclusive exclude=node7,node9'")
    python: str | None = option(
        None, "Python interpreter on the nodes (default: the current one; in a container: python3)"
    )
    container: str | None = option(None, "container image to run in (--container-image of the pyxis plugin)")
    launcher: str = option(
        "srun",
        "srun: one task per process; accelerate: one task per node, which runs `accelerate launch`",
        choices=("srun", "accelerate"),
    )
    storage: str = option(
        "check",
        "check: verify that directories are on shared storage; trust: do not verify",
        choices=("check", "trust"),
    )
    submit: bool = option(False, "submit the job with sbatch instead of printing the script")
    dry_run: bool = option(False, "with --submit: only ask SLURM whether it would accept the job")

    def __post_init__(self) -> None:
        """Validate the values against their bounds and against SLURM's syntax.

        Raises:
            UserError: a value is invalid, or two options contradict each other.
        """
        validate(self)
        for name, pattern in _PATTERNS.items():
            value = getattr(self, name)
            if value is not None and not re.fullmatch(pattern, value, re.ASCII):
                raise UserError(
                    "invalid-value", f"--{name}: {value!r} is not a valid SLURM value{_EXAMPLES.get(name, '')}"
                )
        for name in ("logs", "python", "container"):
            if any(ord(letter) < 32 for letter in str(getattr(self, name))):
                raise UserError(
                    "invalid-value",
                    f"--{name}: {str(getattr(self, name))!r} contains a line break or another control character",
                )
        if "\\" in str(self.logs.absolute()):
            raise UserError(
                "invalid-value", f"--logs {self.logs.absolute()}: SLURM removes backslashes; choose another directory"
            )
        if seconds(self.time) <= self.warn:
            raise UserError(
                "option-conflict",
                f"--time {self.time} must be longer than --warn {self.warn} (seconds before the limit)",
            )
        if self.processes_per_node is not None and self.gpus_per_node:
            raise UserError(
                "option-conflict",
                "--processes-per-node: there is one process per GPU; leave it out, or use --gpus-per-node 0",
            )
        self._check_array()
        self.further()
        self.setup_lines()

    def _check_array(self) -> None:
        if self.array is None:
            return
        for name in ("nodes", "gpus_per_node", "processes_per_node", "warn", "gres", "container", "launcher"):
            if getattr(self, name) != getattr(Job, name):
                flag = f"--{name.replace('_', '-')}"
                raise UserError(
                    "option-without-effect",
                    f"{flag}: every job of --array packs on its own, with --cpus cores of one node; leave it out",
                )

    @property
    def ranks_per_node(self) -> int:
        """Processes per node."""
        return self.gpus_per_node or self.processes_per_node or 1

    @property
    def world(self) -> int:
        """Processes of the whole job."""
        return self.nodes * self.ranks_per_node

    def further(self) -> list[tuple[str, str]]:
        """Parse ``--sbatch`` into pairs of option and value.

        Raises:
            UserError: its syntax is invalid, or it names an option that this command sets itself.
        """
        try:
            words = shlex.split(self.sbatch)
        except ValueError as error:
            raise UserError("invalid-value", f"--sbatch {self.sbatch!r}: {str(error).lower()}") from None
        pairs = []
        for word in words:
            name, _, value = word.removeprefix("--").partition("=")
            if not re.fullmatch(r"[a-z][a-z-]+", name) or any(ord(letter) < 32 for letter in value):
                raise UserError(
                    "invalid-value", f"--sbatch: {word!r} is not a long option of sbatch; write NAME=VALUE or NAME"
                )
            if name in _OURS or name in _PATTERNS:
                instead = _OURS.get(name, f"--{name}")
                how = f"use {instead} instead" if instead else "this command sets it itself"
                raise UserError("option-conflict", f"--sbatch {name}: {how}")
            pairs.append((name, value))
        return pairs

    def setup_lines(self) -> list[str]:
        """Return ``--setup`` as lines of shell.

        Raises:
            UserError: they are not complete, valid shell commands.
        """
        if not self.setup:
            return []
        text = self.setup
        try:
            if Path(text).is_file():
                text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError("file-unreadable", f"--setup {self.setup}: {error}") from None
        plain = {**os.environ, "LC_ALL": "C"}  # bash's warning about here-documents is matched below
        checked = subprocess.run(["bash", "-n", "-c", text], env=plain, capture_output=True, text=True, check=False)
        if checked.returncode:
            raise UserError("invalid-shell", f"--setup is not valid shell: {' '.join(checked.stderr.split())}")
        text = text.strip()
        if text.endswith("\\") or "here-document" in checked.stderr:  # bash would read the job's own lines as the rest
            raise UserError(
                "invalid-shell", f"--setup {self.setup!r} ends in the middle of a command or a here-document"
            )
        return text.splitlines()


def seconds(time: str) -> int:
    """Convert a time limit in SLURM's format to seconds.

    Raises:
        UserError: the format is invalid.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time, re.ASCII)
    if not found:
        raise UserError(
            "invalid-value",
            f"--time {time!r} is not a time limit; write minutes, H:M:S, D-H or D-H:M:S, like 24:00:00",
        )
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is None and len(numbers) < 3:  # M, or M:S
        numbers = [0, *numbers]
    hours, minutes, rest = (numbers + [0, 0])[:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest
