"""A batch script for one job: the script that lies in this folder, with its first part written anew."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from launch.slurm.options import Job

FOLDER = Path(__file__).resolve().parent
_BEGIN, _END = "# ---- this job", "# ---- every job ----"


def training(job: Job, words: Sequence[str], directory: Path, made_by: str, mounts: Sequence[Path] = ()) -> str:
    """The script of a job that trains.

    Args:
        job: what was chosen.
        words: the trainer's own options.
        directory: where the job works; it must be absolute, as relative paths in ``words`` start there.
        made_by: the command line that asked for it, for the script's reader.
        mounts: absolute paths that a container must see besides ``directory``, at the same places.
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
    """The script whose array packs and which merges without one; ``words`` are `shards pack`'s, SRC and OUT first."""
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
    """An #SBATCH line. sbatch reads it by rules of its own: no expansion, but quotes, backslashes and # count."""
    if not value:
        return f"#SBATCH --{name}"
    plain = all(letter.isalnum() or letter in "/._,:;@%+=&|!*()[]~^-" for letter in value)
    quoted = value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"#SBATCH --{name}={quoted}"


def _directives(job: Job, directory: Path) -> list[tuple[str, str]]:
    """What every job has."""
    folder = str(directory / job.logs).replace("%", "%%")  # %x and the like are SLURM's
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
    """The site's own lines: the first that fails ends the job. Unset variables are theirs to judge."""
    lines = job.setup_lines()
    return ["set -e", *lines, "set +e"] if lines else []


def _words(words: Iterable[str]) -> list[str]:
    """Lines that make ``words`` the script's arguments, an option a line, before those that sbatch hands on."""
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
    """The template with the lines between its two marks replaced."""
    head, rest = (FOLDER / template).read_text(encoding="utf-8").split(_BEGIN, 1)
    _, tail = rest.split(_END, 1)
    ours = [
        f"{_BEGIN}, made by: {made_by}",
        "#",
        *(f"#   {line}" for line in usage),
        "#",
        *(directive(name, value) for name, value in directives),
        "",
        *settings,
        _END,
    ]
    return head + "\n".join(ours) + tail
