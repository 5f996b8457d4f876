"""`cgan slurm`: validate a job, write its script, and submit it with sbatch."""

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
from shards.core.atomic_io import explain_disk_errors
from shards.core.errors import Failure, UserError
from shards.core.filesystems import existing
from shards.packing.pack import Pack
from trainer import config

COMMAND = "cgan slurm"


def main(argv: Sequence[str]) -> None:
    """Run ``cgan slurm``.

    Raises:
        UserError: an option is invalid. Nothing was written or queued.
    """
    ours, dashes, words = _split(argv)
    if cli.wants_help(ours):
        print(cli.usage(Job, COMMAND).replace("[--option VALUE …]", "[--option VALUE …] -- TRAINING OPTIONS"))
        return
    job = cli.parse(Job, ours, command=COMMAND)
    if not dashes:
        what = "SRC OUT --size 64" if job.array else "--shards data/mine --preset r3gan64"
        raise UserError(
            "missing-argument",
            f"the options of the program to run are missing; write them after `--`: {COMMAND} … -- {what}",
        )
    directory = Path.cwd()
    needed = _packing(words) if job.array else _training(job, words)
    _check_paths(job, directory, needed)
    made_by = shlex.join(["cgan", "slurm", *argv]).replace("\n", " ")
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
    """Return our words, whether `--` follows them, and the words after it."""
    words = list(argv)
    if "--" not in words:
        return words, False, []
    at = words.index("--")
    return words[:at], True, words[at + 1 :]


# ---------------------------------------------------------------- paths of the job


def _training(job: Job, words: Sequence[str]) -> dict[str, Path]:
    """Check the trainer's options for this number of processes, and return the paths that the training needs."""
    if cli.wants_help(words):
        raise UserError(
            "unexpected-argument", "--help after `--`: the options of a training are listed by `cgan train --help`"
        )
    asked = config.load(words)
    asked.check_division(job.world)
    if asked.data.shards is None and asked.preset != "smoke":
        raise UserError("option-missing", "--shards is missing after `--`: give a dataset made by `cgan pack`")
    paths = {"--run": asked.run_directory}
    if asked.data.shards is not None and "://" not in asked.data.shards:
        paths["--shards"] = Path(asked.data.shards)
        if not Path(asked.data.shards).is_dir():
            raise UserError(
                "dataset-missing", f"--shards {asked.data.shards} does not exist; make a dataset with `cgan pack`"
            )
    resumes = any(asked.run_directory.glob("checkpoints/[0-9]*"))  # and does not need --init-from
    if asked.init_from is not None and not resumes and not str(asked.init_from).startswith("hf:/"):
        paths["--init-from"] = asked.init_from
        if not asked.init_from.is_dir():
            raise UserError("run-missing", f"--init-from {asked.init_from} does not exist")
    filesystems.writable("--run", asked.run_directory)
    return paths


def _packing(words: Sequence[str]) -> dict[str, Path]:
    """Check the options of `cgan pack`, and return the paths that it needs."""
    asked = cli.parse(Pack, words, command="cgan pack")
    if [str(asked.src), str(asked.out)] != [str(Path(word).expanduser()) for word in words[:2]]:
        raise UserError("unexpected-argument", "write SRC and OUT directly after `--`, then the options of `cgan pack`")
    if asked.part is not None:
        raise UserError("option-conflict", "--part: each job of the array sets its own; leave it out")
    if not asked.src.exists():
        raise UserError("source-missing", f"{asked.src} does not exist")
    filesystems.writable("OUT", asked.out)
    return {"SRC": asked.src, "OUT": asked.out}


def _check_paths(job: Job, directory: Path, needed: dict[str, Path]) -> None:
    filesystems.writable("--logs", job.logs)
    if job.python and not job.container and not job.setup and shutil.which(job.python) is None:
        raise UserError("interpreter-missing", f"--python {job.python} does not exist")
    if job.storage == "check":
        paths = {"the working directory": directory, "--logs": job.logs, **needed}
        if job.container and "://" not in job.container and Path(job.container).exists():
            paths["--container"] = Path(job.container)
        if warning := filesystems.check(paths):
            print(f"warning: {warning}", file=sys.stderr)


def _mounts(directory: Path, needed: Mapping[str, Path]) -> list[Path]:
    """Return the needed paths outside of the job's directory, links resolved, for a container to mount.

    Raises:
        UserError: a path contains a separator of --container-mounts.
    """
    found: list[Path] = []
    for purpose, path in needed.items():
        place = existing(path)
        outside = [p for p in (place, place.resolve()) if not p.is_relative_to(directory) and p not in found]
        if any(set(",:") & set(str(p)) for p in outside):
            raise UserError(
                "invalid-value",
                f"{purpose} {path}: with --container a path must not contain ',' or ':'; choose another",
            )
        found += outside
    return found


# ---------------------------------------------------------------- sbatch


def _submit(job: Job, text: str) -> None:
    """Submit the script with sbatch; a dry run queues nothing."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "sbatch-missing", "sbatch was not found; run this on a login node, or without --submit to print the script"
        )
    if job.dry_run:
        print(_sbatch(text, "--test-only", *_array(job)))
        return
    with explain_disk_errors(job.logs):
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
            f"queued {job.array} jobs as {number}, and job {merge} to merge their parts; "
            f"logs: {job.logs / job.name}-*.out"
        )
    else:
        print(f"queued as job {number}; log: {job.logs / job.name}-{number}.out")


def _array(job: Job) -> list[str]:
    return [f"--array=1-{job.array}"] if job.array else []


def _sbatch(text: str, *words: str) -> str:
    """Run sbatch with a script as its input, and return its answer.

    Raises:
        UserError: it rejects the job.
        Failure: it cannot be run.
    """
    # sbatch passes the environment on. It would read the variables of an outer job as options of this one.
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
        raise Failure("sbatch-failed", f"sbatch does not answer: {error}") from None
    complaint = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in complaint.splitlines()]
        raise UserError("sbatch-rejected", f"sbatch rejects the job: {'; '.join(lines) or f'status {done.returncode}'}")
    answer = done.stdout.decode(errors="replace").strip()
    return answer.split(";")[0] if answer else complaint  # JOB or JOB;CLUSTER; --test-only answers on stderr
