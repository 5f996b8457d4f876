"""Generate the batch script of a job: a script of this directory with its first part replaced."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from launch.slurm.options import Job

FOLDER = Path(__file__).resolve().parent
_BEGIN, _END = "# ---- this job", "# ---- every job ----"


def training(job: Job, words: Sequence[str], directory: Path, made_by: str, mounts: Sequence[Path] = ()) -> str:
    """Return the script of a training job.

    Args:
        job: the options of the job.
        words: the trainer's options.
        directory: absolute working directory of the job; relative paths in ``words`` start there.
        made_by: the command line that generated the script, for its readers.
        mounts: absolute paths to mount in a container in addition to ``directory``, at the same paths.
    """
    srun = job.launcher == "srun"
    ranks = job.ranks_per_node
    directives = [
        *_directives(job, directory),
        ("signal", f"{'' if srun else 'B:'}USR1@{job.warn}"),
        ("nodes", str(job.nodes)),
        ("ntasks-per-node", str(ranks if srun else 1)),
        ("cpus-per-task", str(job.cpus if srun else job.cpus * ranks)),
        *([("gres", job.gres or f"gpu:{job.gpus_per_node}")] if job.gpus_per_node or job.gres else []),
        *job.further(),
    ]
    container = []
    if job.container:
        seen = ",".join(map(str, (directory, FOLDER, *mounts)))
        container = [f"--container-image={job.container}", f"--container-mounts={seen}"]
        container.append(f"--container-workdir={directory}")
    settings = [
        f"directory={shlex.quote(str(directory))}",
        f"python={shlex.quote(_python(job))}",
        f"task={shlex.quote(str(FOLDER / ('rank.sh' if srun else 'node.sh')))}",
        f"container=({shlex.join(container)})",
        *([] if srun else [f"export RANKS_PER_NODE={ranks} GPUS_PER_NODE={job.gpus_per_node}"]),
        *_setup(job),
        *_words(words),
    ]
    return _render("train.sbatch", made_by, ["sbatch FILE"], directives, settings)


def packing(job: Job, words: Sequence[str], directory: Path, made_by: str) -> str:
    """Return the script that packs as an array and merges without one; ``words`` are those of `cgan pack`."""
    directives = [
        *_directives(job, directory),
        ("nodes", "1"),
        ("ntasks", "1"),
        ("cpus-per-task", str(job.cpus)),
        *job.further(),
    ]
    settings = [
        f"directory={shlex.quote(str(directory))}",
        f"python={shlex.quote(_python(job))}",
        *_setup(job),
        *_words(words),
    ]
    usage = [
        f"parts=$(sbatch --parsable --array=1-{job.array} FILE)",
        "sbatch --dependency=afterok:$parts --kill-on-invalid-dep=yes FILE",
    ]
    return _render("pack.sbatch", made_by, usage, directives, settings)


def directive(name: str, value: str) -> str:
    """Return an #SBATCH line. sbatch expands nothing in it, but interprets quotes, backslashes and #."""
    if not value:
        return f"#SBATCH --{name}"
    plain = all(letter.isalnum() or letter in "/._,:;@%+=&|!*()[]~^-" for letter in value)
    quoted = value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"#SBATCH --{name}={quoted}"


def _directives(job: Job, directory: Path) -> list[tuple[str, str]]:
    """Return the directives of every job."""
    folder = str(directory / job.logs).replace("%", "%%")  # % begins a pattern of SLURM's, such as %x
    found: list[tuple[str, str | None]] = [
        ("job-name", job.name),
        ("output", f"{folder}/%x-%j.out"),
        ("open-mode", "append"),
        ("requeue", ""),
        ("time", job.time),
    ]
    found += [(name, getattr(job, name)) for name in ("partition", "account", "qos", "constraint", "mem")]
    if job.mail:
        found += [("mail-user", job.mail), ("mail-type", "END,FAIL,REQUEUE")]
    return [(name, value) for name, value in found if value is not None]


def _python(job: Job) -> str:
    return job.python or ("python3" if job.container else sys.executable)


def _setup(job: Job) -> list[str]:
    """Return the lines of --setup; the first one that fails ends the job. Unset variables are allowed."""
    lines = job.setup_lines()
    return ["set -e", *lines, "set +e"] if lines else []


def _words(words: Iterable[str]) -> list[str]:
    """Return lines that set the script's arguments to ``words``, one option per line, before those given to sbatch."""
    lines = ["set --"]
    for word in words:
        quoted = shlex.quote(word)
        if word.startswith("--") or lines[-1] == "set --":
            lines.append(f"    {quoted}")
        else:
            lines[-1] += f" {quoted}"
    return [" \\\n".join([*lines, '    "$@"'])]


def _render(
    template: str,
    made_by: str,
    usage: Sequence[str],
    directives: Sequence[tuple[str, str]],
    settings: Sequence[str],
) -> str:
    """Return the template with the lines between its two marks replaced."""
    head, rest = (FOLDER / template).read_text(encoding="utf-8").split(_BEGIN, 1)
    _, tail = rest.split(_END, 1)
    generated = [
        f"{_BEGIN}, made by: {made_by}",
        "#",
        *(f"#   {line}" for line in usage),
        "#",
        *(directive(name, value) for name, value in directives),
        "",
        *settings,
        _END,
    ]
    return head + "\n".join(generated) + tail
