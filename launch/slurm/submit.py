"""`python -m launch slurm`: check what is asked for, write the job's script, hand it to sbatch."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.slurm import filesystems, script
from launch.slurm.options import Job
from shards.core import cli
from shards.core.atomic_io import explained
from shards.core.errors import Failure, UserError
from shards.packing.pack import Pack
from shards.stream.sampling import check_division
from trainer import config

COMMAND = "python -m launch slurm"


def main(argv: Sequence[str]) -> None:
    """``python -m launch slurm``.

    Raises:
        UserError: something asked for cannot be; nothing was written or queued then.
    """
    ours, dashes, words = _split(argv)
    if cli.wants_help(ours):
        print(cli.usage(Job, COMMAND).replace("[--option VALUE …]", "[--option VALUE …] -- TRAINER'S OPTIONS"))
        return
    job = cli.parse(Job, ours, command=COMMAND)
    if not dashes:
        what = "SRC OUT --size 64" if job.array else "--shards data/mine --preset faces64"
        raise UserError(f"what to run is missing; write it after two dashes: {COMMAND} … -- {what}")
    directory = Path.cwd()
    needed = _packing(words) if job.array else _training(job, words)
    _check_places(job, directory, needed)
    made_by = shlex.join(["python", "-m", "launch", "slurm", *argv]).replace("\n", " ")
    if job.array:
        text = script.packing(job, words, directory, made_by)
    else:
        mounts = _mounts(directory, needed) if job.container else []
        text = script.training(job, words, directory, made_by, mounts)
    if job.submit:
        _submit(job, text)
    else:
        print(text, end="")


def _split(argv: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    """Our words, whether two dashes follow, and the words after them."""
    words = list(argv)
    if "--" not in words:
        return words, False, []
    at = words.index("--")
    return words[:at], True, words[at + 1 :]


# ---------------------------------------------------------------- what it needs


def _training(job: Job, words: Sequence[str]) -> dict[str, Path]:
    """Check the trainer's words for this number of processes; the places that the training needs."""
    if cli.wants_help(words):
        raise UserError("after `--` stand the options of a training; `python -m trainer train --help` lists them")
    asked = config.load(words)
    check_division(asked.data.batch, job.world, asked.machine.accumulate)
    if asked.data.shards is None and asked.preset != "smoke":
        raise UserError("--shards is missing after `--`: give a data set directory made by `python -m shards pack`")
    places = {"--run": asked.run_directory}
    if asked.data.shards is not None and "://" not in asked.data.shards:
        places["--shards"] = Path(asked.data.shards)
        if not Path(asked.data.shards).is_dir():
            raise UserError(
                f"--shards {asked.data.shards}: there is no such data set; make one by `python -m shards pack`"
            )
    if asked.init_from is not None and not any(asked.run_directory.glob("checkpoints/[0-9]*")):  # or it is not needed
        places["--init-from"] = asked.init_from
        if not asked.init_from.is_dir():
            raise UserError(f"--init-from {asked.init_from}: there is no such run")
    filesystems.writable("--run", asked.run_directory)
    return places


def _packing(words: Sequence[str]) -> dict[str, Path]:
    """Check `shards pack`'s words; the places that it needs."""
    asked = cli.parse(Pack, words, command="python -m shards pack")
    if [str(asked.src), str(asked.out)] != [str(Path(word).expanduser()) for word in words[:2]]:
        raise UserError("write SRC and OUT first after `--`, then the options of `python -m shards pack`")
    if asked.part is not None:
        raise UserError("--part: each job of the array has its own; leave it out")
    if not asked.src.exists():
        raise UserError(f"{asked.src}: there is no such folder or file")
    filesystems.writable("OUT", asked.out)
    return {"SRC": asked.src, "OUT": asked.out}


def _check_places(job: Job, directory: Path, needed: dict[str, Path]) -> None:
    filesystems.writable("--logs", job.logs)
    if job.python and not job.container and not job.setup and shutil.which(job.python) is None:
        raise UserError(f"--python {job.python}: there is no such interpreter")
    if job.storage == "check":
        places = {"this folder,": directory, "--logs": job.logs, **needed}
        if job.container and "://" not in job.container and Path(job.container).exists():
            places["--container"] = Path(job.container)
        if warning := filesystems.check(places):
            print(f"warning: {warning}", file=sys.stderr)


def _mounts(directory: Path, needed: Mapping[str, Path]) -> list[Path]:
    """What a container must see of what lies outside the folder of the job, also through a link in it.

    Raises:
        UserError: a path that cannot be named among others.
    """
    found: list[Path] = []
    for purpose, path in needed.items():
        place = filesystems.existing(path)
        outside = [p for p in (place, place.resolve()) if not p.is_relative_to(directory) and p not in found]
        if any(set(",:") & set(str(p)) for p in outside):
            raise UserError(f"{purpose} {path}: --container takes paths apart at ',' and ':'; choose another place")
        found += outside
    return found


# ---------------------------------------------------------------- to SLURM


def _submit(job: Job, text: str) -> None:
    """Hand the script to sbatch; nothing is queued in a dry run."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "there is no sbatch here; run this where jobs are submitted, or without --submit for the script"
        )
    if job.dry_run:
        print(_sbatch(text, "--test-only", *_array(job)))
        return
    with explained(job.logs):
        job.logs.mkdir(parents=True, exist_ok=True)
    number = _sbatch(text, "--parsable", *_array(job))
    if job.array:
        try:
            merge = _sbatch(text, "--parsable", f"--dependency=afterok:{number}", "--kill-on-invalid-dep=yes")
        except UserError:
            with contextlib.suppress(OSError):
                subprocess.run(["scancel", number], capture_output=True, check=False)
            raise
        print(
            f"queued {job.array} jobs as {number}, and {merge} to merge what they pack; "
            f"logs: {job.logs / job.name}-*.out"
        )
    else:
        print(f"queued as job {number}; log: {job.logs / job.name}-{number}.out")


def _array(job: Job) -> list[str]:
    return [f"--array=1-{job.array}"] if job.array else []


def _sbatch(text: str, *words: str) -> str:
    """What sbatch answers to a script.

    Raises:
        UserError: it refuses the job.
        Failure: it cannot be run.
    """
    # sbatch takes the environment along. What an outer job set for itself would be read as asked for here.
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}
    try:
        done = subprocess.run(
            ["sbatch", *words],
            input=text.encode("utf-8", "surrogateescape"),
            env=own,
            capture_output=True,
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"sbatch gives no answer: {error}") from None
    complaint = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in complaint.splitlines()]
        raise UserError(f"sbatch refuses the job: {'; '.join(lines) or f'status {done.returncode}'}")
    answer = done.stdout.decode(errors="replace").strip()
    return answer.split(";")[0] if answer else complaint  # JOB, or JOB;CLUSTER; --test-only answers beside
