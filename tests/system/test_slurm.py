"""Jobs of `cgan slurm` on a real SLURM, with the real trainer: start, stop, save and resume."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shards.dataset.dataset import Dataset
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from support.errors import codes
from support.launching import TINY, assert_same_run, checkpoints, make_dataset, train
from support.slurm_cluster import Cluster, cluster, signalled

__all__ = ["cluster"]  # a fixture
pytestmark = pytest.mark.long

WORLD = ("--nodes", 2, "--gpus-per-node", 2, "--cpus", 1)
IMAGES = 640
LONG_ENOUGH = 4 * IMAGES  # for the ranks to be found and suspended before their end, on a busy machine too


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("slurm-data")).path


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four processes without SLURM that was never interrupted."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    train(*trainer_words(data, run), processes=4)
    return run


@pytest.fixture(autouse=True)
def empty_queue(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.clear()


def trainer_words(data: Path, run: Path, images: int = IMAGES) -> list[object]:
    words = [*TINY, "--shards", data, "--run", run, "--total-images", images, "--checkpoint-every", 64]
    return [*words, "--mixed-precision", "no"]


@dataclass
class Submitted:
    """A job in the queue, and its run."""

    cluster: Cluster
    number: str
    run: Path
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait(self, text: str, times: int = 1) -> None:
        """Wait until the log contains a text."""
        self.cluster.until(lambda: self.output.count(text) >= times, why=f"{text!r} is not in\n{self.output}")

    def train(self, count: int = 1) -> None:
        """Wait until the run has ``count`` checkpoints."""
        self.cluster.until(lambda: (self.run / "checkpoints").is_dir() and len(checkpoints(self.run)) >= count)

    def ends(self, *states: str, seconds: float = 120) -> str:
        state = self.cluster.reaches(self.number, *states, seconds=seconds)
        self.cluster.until(lambda: not list(self.cluster.processes()), 30, "processes of the job are still alive")
        return state

    def restarts(self) -> int:
        return int(self.cluster.field(self.number, "Restarts"))


def launch(cluster: Cluster, where: Path, *words: object, expect: int = 0) -> str:
    """Run `cgan slurm` and return its output."""
    command = [sys.executable, "-m", "launch", "slurm", "--storage", "trust", *map(str, words)]
    done = subprocess.run(command, cwd=where, env=cluster.env, text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == expect, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def submit(
    cluster: Cluster, folder: Path, data: Path, *options: object, images: int = IMAGES, more: str = ""
) -> Submitted:
    """Submit a job that trains ``folder/run``."""
    words = [*trainer_words(data, folder / "run", images), *more.split()]
    said = launch(cluster, folder, "--submit", *WORLD, *options, "--", *words)
    found = re.search(r"queued as job (\d+); log: (\S+)", said)
    assert found, said
    return Submitted(cluster, found[1], folder / "run", folder / found[2])


# ---------------------------------------------------------------- requeued jobs


def test_a_job_saves_before_its_time_limit_and_resumes(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    """The real warning, which SLURM sends up to half a minute early; until then the ranks are suspended."""
    options = "--log-with wandb --wandb-mode offline"
    job = submit(cluster, tmp_path, data, "--time", "2", "--warn", "60", images=LONG_ENOUGH, more=options)
    began = time.monotonic()
    cluster.until(lambda: len(cluster.ranks(job.number)) == 4)  # found early: the training takes seconds
    ranks = cluster.ranks(job.number).values()
    job.wait("training from 0")
    with cluster.suspended(ranks):  # on a slow machine the warning has come already
        cluster.until(lambda: all(signalled(rank) for rank in ranks) or time.monotonic() > began + 61)
    job.wait("saved a checkpoint; requeueing")
    # On a busy machine half a minute, which is what the limit leaves, may be over before the ranks have started.
    cluster.run("scontrol", "update", f"JobId={job.number}", "TimeLimit=10")
    assert job.ends("COMPLETED") and (restarts := job.restarts()) >= 1
    assert len(re.findall(r"attempt \d on", job.output)) == restarts + 1, "all attempts write one log"
    assert "stopped (SIGUSR1) and saved at" in job.output
    assert "resuming at" in job.output and f"done: {LONG_ENOUGH:,} images seen" in job.output
    train(*trainer_words(data, tmp_path / "unbroken", LONG_ENOUGH), processes=4)
    assert_same_run(job.run, tmp_path / "unbroken")
    assert not list(tmp_path.glob(".requeue-*"))
    segments = list((job.run / "wandb").glob("offline-run-*"))
    assert len(segments) == restarts + 1 and len({segment.name.rsplit("-", 1)[1] for segment in segments}) == 1


def test_a_job_with_accelerate_launch_saves_and_resumes(
    cluster: Cluster, data: Path, unbroken: Path, tmp_path: Path
) -> None:
    """The batch script receives the warning, and sends the launchers a TERM that they pass on."""
    job = submit(cluster, tmp_path, data, "--launcher", "accelerate")
    job.train()
    cluster.run("scancel", "--batch", "--signal=USR1", job.number)  # as --signal=B:USR1@120 does
    job.wait("saved a checkpoint; requeueing")
    assert job.ends("COMPLETED") and job.restarts() == 1
    assert_same_run(job.run, unbroken)


@pytest.mark.exhaustive
def test_a_preempted_job_saves_and_resumes(cluster: Cluster, data: Path, unbroken: Path, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, data, "--partition", "low")
    job.train()
    urgent = cluster.run(*"sbatch --parsable -phigh -N2 --exclusive -o/dev/null --wrap".split(), "sleep 1")
    cluster.reaches(urgent, "COMPLETED")
    assert "stopped (SIGTERM) and saved at" in job.output
    assert job.ends("COMPLETED") and job.restarts() == 1
    assert_same_run(job.run, unbroken)


@pytest.mark.exhaustive
def test_a_signal_during_imports_is_handled(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, data)
    cluster.until(lambda: len(cluster.ranks(job.number)) == 4)
    time.sleep(0.3)
    cluster.run("scancel", "--signal=USR1", job.number)
    job.wait("saved a checkpoint; requeueing")
    assert job.ends("COMPLETED") and job.restarts() == 1


# ---------------------------------------------------------------- jobs that end


def test_a_cancelled_job_saves_and_is_not_requeued(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, data, images=100_000)
    job.train()
    cluster.run("scancel", job.number)
    assert job.ends("CANCELLED")
    assert "and saved at" in job.output and "cancelled or requeued" in job.output
    time.sleep(7)  # longer than a requeued job waits in this cluster
    assert cluster.field(job.number, "JobState") == "CANCELLED" and job.restarts() == 0
    assert not list(tmp_path.glob(".requeue-*"))


def test_a_killed_rank_ends_the_job_within_seconds(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, data, images=100_000)
    job.train()
    ranks = cluster.ranks(job.number)
    nodes = {rank: process.environ()["SLURMD_NODENAME"] for rank, process in sorted(ranks.items())}
    assert nodes == {0: "node1", 1: "node1", 2: "node2", 3: "node2"}, job.output
    assert {process.environ()["CUDA_VISIBLE_DEVICES"] for process in ranks.values()} == {"0,1"}
    ranks[3].kill()
    assert job.ends("FAILED", seconds=15) and job.restarts() == 0


def test_an_invalid_option_ends_the_job_with_one_error(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    """An option that only the nodes can validate."""
    (tmp_path / "run").mkdir()
    job = submit(cluster, tmp_path, data, more="--balance nothing")
    assert job.ends("FAILED")
    # SLURM prints its own messages for the ranks that it ends after the first, and not always one for the first.
    (error,) = re.findall(r"(?m)^\d+: error: (.*)", job.output)
    assert error.startswith("--balance nothing") and error.endswith("[unknown-attribute]"), error
    assert re.search(r"tasks? [\d,-]+: (Exited with exit code 2|Terminated)", job.output), job.output
    # The highest of the ranks' statuses: 2, or 143 if srun ended another rank before it could exit by itself.
    assert cluster.field(job.number, "ExitCode") in ("2:0", "143:0")


def test_a_lost_node_costs_one_attempt(cluster: Cluster, data: Path, unbroken: Path, tmp_path: Path) -> None:
    """slurmd and the ranks die: SLURM notices it, and restarts the job as soon as there are two nodes."""
    job = submit(cluster, tmp_path, data)
    job.train()
    cluster.crash("node2")
    cluster.reaches(job.number, "PENDING", "COMPLETING")
    cluster.repair("node2")
    assert job.ends("COMPLETED", seconds=150) and job.restarts() == 1
    assert_same_run(job.run, unbroken)


# ---------------------------------------------------------------- arrays, CPU partitions, hostile options


def test_an_array_packs_one_dataset(cluster: Cluster, tmp_path: Path) -> None:
    write_folder(tmp_path / "source", 90, 16)
    options = ["--submit", "--array", 3, "--cpus", 1, "--name", "pack"]
    said = launch(cluster, tmp_path, *options, "--", "source", "many jobs", "--size", 16, "--per-shard", 20)
    found = re.search(r"queued 3 jobs as (\d+), and job (\d+) to merge", said)
    assert found, said
    cluster.reaches(found[2], "COMPLETED")
    whole = pack(Pack(src=tmp_path / "source", out=tmp_path / "one", size=16, per_shard=20, workers=1))
    merged = Dataset.open(tmp_path / "many jobs")
    assert merged.fingerprint == whole.fingerprint
    for path in (tmp_path / "one").iterdir():
        if path.name != "manifest.json":  # contains the name of the directory
            assert (tmp_path / "many jobs" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_failed_part_cancels_the_merge(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tags.csv").write_text("no,such\n1,2\n")
    said = launch(cluster, tmp_path, "--submit", "--array", 2, "--", "source", "out", "--size", 16)
    numbers = re.findall(r"\d{1,9}(?= to merge|, and)", said)
    cluster.reaches(numbers[-1], "CANCELLED")


def test_a_partition_without_gpus(cluster: Cluster, data: Path, unbroken: Path, tmp_path: Path) -> None:
    words = trainer_words(data, tmp_path / "run")
    cpu = ["--nodes", 1, "--gpus-per-node", 0, "--processes-per-node", 4, "--cpus", 1]
    said = launch(cluster, tmp_path, "--submit", *cpu, "--setup", "export SITE='a value'; false || true", "--", *words)
    number = re.search(r"\d+", said)[0]  # type: ignore[index]
    cluster.reaches(number, "COMPLETED")
    assert_same_run(tmp_path / "run", unbroken)


def test_a_step_of_a_job_runs_the_check(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    """`srun cgan check`: each task becomes a rank, without a batch script that sets the rendezvous address."""
    step = ["srun", "--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1", "--chdir", str(tmp_path)]
    words = ["--shards", data, "--run", tmp_path / "run", "--preset", "smoke", "--log-with", "none"]
    check = [sys.executable, "-m", "launch", "check", "--json", "found.json", *map(str, words)]
    done = subprocess.run([*step, *check], env=cluster.env, text=True, capture_output=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 connected: node1 (ranks 0-1), node2 (ranks 2-3)" in done.stdout
    assert "gloo over 4 ranks: correct" in done.stdout and "2 nodes within" in done.stdout
    assert "the same on 2 nodes" in done.stdout and "visible on all 2 nodes" in done.stdout
    assert [report["rank"] for report in json.loads((tmp_path / "found.json").read_text())["ranks"]] == [0, 1, 2, 3]
    wrong = subprocess.run([*step, *check, "--rat", "1"], env=cluster.env, text=True, capture_output=True, check=False)
    assert wrong.returncode == 2 and codes(wrong.stderr) == ["unknown-option"], wrong.stderr


HOSTILE = [
    "a b",
    "$(touch PWNED)",
    "`touch PWNED`",
    "'; touch PWNED; '",
    '"; touch PWNED; "',
    "x\n#SBATCH --array=1-9\ntouch PWNED",
]


def test_any_words_reach_the_trainer_unchanged(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a 100%x \"quoted\" 'folder' #1 $(touch PWNED)"
    folder.mkdir()
    group = "|".join(HOSTILE)
    words = [*trainer_words(data, folder / "run", 32), "--wandb-group", group]
    comment = f'comment="{HOSTILE[1]} #2"'
    said = launch(cluster, folder, "--submit", "--logs", "l o g s", "--sbatch", comment, "--", *words)
    number = re.search(r"job (\d+)", said)[1]  # type: ignore[index]
    cluster.reaches(number, "COMPLETED")
    assert "done: 32 images" in (folder / "l o g s" / f"cgan-{number}.out").read_text()
    saved = json.loads((folder / "run" / "checkpoints" / checkpoints(folder / "run")[-1] / "state.json").read_text())
    assert saved["config"]["wandb_group"] == group
    assert f"Comment={HOSTILE[1]} #2" in cluster.run("scontrol", "show", "job", number)
    assert not list(tmp_path.rglob("PWNED")) and not list(cluster.base.rglob("PWNED"))
