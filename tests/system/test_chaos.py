"""Kills, full disks and damage at random and at aimed moments: re-running the command leads to identical results.

`make chaos` deals fifty blows in about ten minutes of two idle cores; `ARGS="--chaos-seed N --chaos-blows 200"` repeats
what a seed drew, and deals more.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.examples.shapes import write_folder
from support.chaos import Campaign, Job, damage_file, draw_blows, table, words_of
from support.launching import MAIN, TINY, assert_same_run, checkpoints, make_dataset, start, train
from support.struck import Stroke
from trainer.run import checkpoint

IMAGES, BATCH = 640, 16
NAMING = r"rename .*\.partial to"


class Packing:
    """`cgan pack` of sixty images into twelve shards with two workers."""

    name, processes, lasts = "pack", 0, (1.0, 0.6)
    moments: ClassVar[dict[str, str]] = {
        "the plan": r"link .*plan\.json",
        "writing a shard": r"write .*\.tar",
        "naming a shard or its record": r"rename .*/(data|records)/",
        "the sidecars": r"write .*(index|labels|known|hashes)\.npy",
        "the seal": r"(write|rename) .*manifest\.json",
        "naming the whole": r"rename .*\.packing/data to",
        "sweeping up": r"rmtree .*\.packing",
    }
    preludes: ClassVar[dict[str, Stroke]] = {}
    once = frozenset({"the plan", "naming the whole", "sweeping up"})

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        write_folder(folder / "source", 60, 16)
        self.expected = self._pack(folder / "unbroken" / "data")

    def _words(self, out: Path) -> list[object]:
        words = ["pack", self.folder / "source", out, "--size", 16, "--per-shard", 5, "--validation", 0.1]
        return [*words, "--workers", 2, "--format", "png"]

    def _pack(self, out: Path) -> dict[str, bytes]:
        out.parent.mkdir()
        line = [sys.executable, "-m", "shards", *map(str, self._words(out))]
        subprocess.run(line, check=True, capture_output=True, timeout=120)
        return _contents(out)

    @property
    def out(self) -> Path:
        """Return the output directory of this round."""
        return self.folder / str(self.number) / "data"

    def line(self, strokes: str, log: str) -> list[str]:
        self.out.parent.mkdir(exist_ok=True)
        return words_of("shards", strokes, log, self._words(self.out), 0)

    def variables(self) -> dict[str, str]:
        return {}

    def working(self) -> bool:
        return (self.out.parent / ".data.packing" / "plan.json").exists()

    def finished(self) -> bool:
        return self.out.exists() and not (self.out.parent / ".data.packing").exists()

    def examine(self) -> None:
        """Check that every file with a final name is complete."""
        if self.out.exists():
            assert len(Dataset.open(self.out)) == 54

    def compare(self, refused: bool) -> None:
        assert _contents(self.out) == self.expected
        assert [path.name for path in self.out.parent.iterdir()] == ["data"], "nothing is left beside it"

    def damage(self, kind: str, rng: random.Random) -> bool:
        return False  # a finished shard that goes bad is `shards verify`'s

    def reset(self) -> None:
        self.number += 1


class Training:
    """Forty steps of a small run with a checkpoint every four steps, of which two are kept."""

    moments: ClassVar[dict[str, str]] = {
        "entering the run": r"rename .*/(lock|schema|labels|config)\.",
        "opening the metrics": r"write .*/metrics\.jsonl$",
        "writing a checkpoint": r"(write|rename) .*\.partial/",
        "naming a checkpoint": NAMING,
        "between naming and pruning": r"(rmtree|rename) .*/checkpoints/.*\.removed$",
        "pruning": r"^(remove|rmdir) [a-z_]+\.(safetensors|json)$",
        "a grid": r"rename .*\.png",
        "the report": r"rename .*report\.html",
        "the marker for a scheduler": r"write .*requeue$",
    }
    preludes: ClassVar[dict[str, Stroke]] = {
        "between naming and pruning": Stroke(NAMING, "nothing"),
        "the marker for a scheduler": Stroke(NAMING, "SIGUSR1"),
    }
    once = frozenset({"opening the metrics", "the marker for a scheduler"})

    def __init__(self, folder: Path, data: Path, processes: int) -> None:
        self.folder, self.data, self.processes, self.number, self.newest = folder, data, processes, 0, 0
        self.damaged: int | None = None  # inode of the checkpoint that a blow damaged, until a start replaces it
        self.name = (
            f"train, {processes} process" + ("es" if processes > 1 else "") if processes else "train, no launcher"
        )
        self.lasts = (6.0 if processes else 4.0, 1.5)
        self.unbroken = folder / "unbroken"
        train(*self._words(self.unbroken), processes=processes)
        self.reset()

    def _words(self, run: Path) -> list[object]:
        words = [*TINY, "--mixed-precision", "no", "--shards", self.data, "--run", run, "--total-images", IMAGES]
        return [*words, "--checkpoint-every", 4 * BATCH, "--grid-every", 10 * BATCH, "--keep", 2]

    @property
    def run(self) -> Path:
        """Return the run directory of this round."""
        return self.folder / str(self.number)

    def line(self, strokes: str, log: str) -> list[str]:
        self._rows = self._size()
        return words_of(MAIN, strokes, log, self._words(self.run), self.processes)

    def variables(self) -> dict[str, str]:
        return {"REQUEUE_FILE": str(self.run / "requeue")}

    def _size(self) -> int:
        with contextlib.suppress(OSError):
            return (self.run / "metrics.jsonl").stat().st_size
        return 0

    def working(self) -> bool:
        return self._size() > self._rows

    def finished(self) -> bool:
        return (checkpoint.directory(self.run, IMAGES)).is_dir() and not (self.run / "lock.json").exists()

    def examine(self) -> None:
        """Check that all checkpoints are complete, and that each earlier one still exists or has a successor."""
        if not (self.run / "checkpoints").is_dir():
            return
        left = [self.run / "checkpoints" / name for name in checkpoints(self.run)]
        clocks = [checkpoint.read(path).images_seen for path in left if path.stat().st_ino != self.damaged]
        assert max(clocks, default=0) >= self.newest, f"{self.newest} is lost: there are {clocks}"
        self.newest = max(clocks, default=0)

    def compare(self, refused: bool) -> None:
        assert_same_run(self.run, self.unbroken)
        assert len(checkpoints(self.run)) == 2
        if not refused:  # a grid that could not be written is a warning, and the training went on
            lost = _contents(self.unbroken).keys() - _contents(self.run).keys()
            assert all(name.startswith("checkpoints/") for name in lost), f"lost: {lost}"
        left = {path.name.rpartition(".")[0] for path in self.run.rglob(".*")}
        assert all(name in ("", ".report.html") or name.startswith(".report.html.") for name in left), left

    def damage(self, kind: str, rng: random.Random) -> bool:
        """Damage the newest checkpoint if there is an older one; append a stale metrics row and half of a row."""
        if not (self.run / "checkpoints").is_dir() or len(names := checkpoints(self.run)) < 2:
            return False
        newest = self.run / "checkpoints" / names[-1]
        damage_file(rng.choice(sorted(newest.iterdir())), kind, rng)
        try:
            checkpoint.read(newest)
        except UserError:
            self.newest, self.damaged = int(names[-2]), newest.stat().st_ino
        with (self.run / "metrics.jsonl").open("a") as file:
            file.write('{"images_seen": 9999, "loss/d": 1}\n{"images_seen": 9999, "lo')
        return True

    def reset(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        self.number, self.newest, self.damaged = self.number + 1, 0, None


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("chaos"), count=50).path


def deal(job: Job, folder: Path, seed: int, count: int) -> Campaign:
    """Interrupt a job ``count`` times."""
    rng = random.Random(f"{seed} {job.name}")
    campaign = Campaign(job, folder, rng)
    campaign.run(draw_blows(rng, job, count))
    return campaign


@pytest.mark.long
def test_a_few_interruptions(data: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seed: int = request.config.getoption("--chaos-seed") or 0
    for name in ("pack", "train"):
        (tmp_path / name).mkdir()
    campaigns = [
        deal(Packing(tmp_path / "pack"), tmp_path / "pack", seed, 3),
        deal(Training(tmp_path / "train", data, 0), tmp_path / "train", seed, 4),
    ]
    print(table(campaigns))


@pytest.mark.chaos
def test_many_interruptions(
    data: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    given = request.config.getoption("--chaos-seed")
    seed = random.randrange(10**6) if given is None else int(given)
    blows: Any = request.config.getoption("--chaos-blows")
    campaigns: list[Campaign] = []
    with capsys.disabled():
        print(f'\nseed {seed}; ARGS="--chaos-seed {seed} --chaos-blows {blows}" repeats it')
        for name, part in (("pack", 0.32), ("1", 0.44), ("2", 0.24)):
            folder = tmp_path / name
            folder.mkdir()
            job: Job = Packing(folder) if name == "pack" else Training(folder, data, int(name))
            campaigns.append(deal(job, folder, seed, round(part * blows)))
            print(f"{job.name}: survived")
        print(table(campaigns))
    struck = sum(sum(campaign.struck.values()) for campaign in campaigns)
    assert struck >= 0.7 * blows, "too many ended before their blow"


# ---------------------------------------------------------------- disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    try:
        done = subprocess.run(options, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode != 0:
        pytest.skip(f"mounting a small disk needs root: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remounted(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)


def filled(place: Path) -> Path:
    """Fill the remaining space with a file."""
    ballast = place / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


@pytest.mark.long
def test_a_training_resumes_after_a_full_and_a_read_only_disk(small_disk: Path, data: Path, tmp_path: Path) -> None:
    training = Training(tmp_path, data, 0)
    run = small_disk / "run"
    words = training._words(run)
    early = [*words, "--total-images", 160]
    train(*early)
    ballast = filled(small_disk)
    done = train(*words, expect=1)
    assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr, done.stderr
    ballast.unlink()
    saved, complaints = checkpoint.newest(run)
    assert saved is not None and saved.images_seen >= 160 and not complaints
    remounted(small_disk, "ro")
    done = train(*words, expect=None)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1 and "Read-only" in done.stderr and "Traceback" not in done.stderr
    remounted(small_disk, "rw")
    train(*words)
    assert_same_run(run, training.unbroken)


@pytest.mark.long
def test_a_disk_that_fills_up_while_a_training_runs(small_disk: Path, data: Path, tmp_path: Path) -> None:
    training = Training(tmp_path, data, 0)
    run = small_disk / "run"
    (small_disk / "ballast").write_bytes(bytes(7_000_000))  # three checkpoints of a quarter of a megabyte still fit
    process = start(*training._words(run)[:-2], "--keep", 100)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert output.count("\nerror: ") == 1 and "Traceback" not in output, output
    assert checkpoints(run)
    assert not list((run / "checkpoints").glob(".*"))
    (small_disk / "ballast").unlink()
    train(*training._words(run))
    assert_same_run(run, training.unbroken)


@pytest.mark.long
def test_packing_resumes_after_a_full_and_a_read_only_disk(small_disk: Path, tmp_path: Path) -> None:
    packing = Packing(tmp_path)
    out = small_disk / "place" / "data"
    out.parent.mkdir()
    line = [sys.executable, "-m", "shards", *map(str, packing._words(out))]
    ballast = filled(small_disk)
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - 12_000)  # a plan, not all shards

    def attempt() -> subprocess.CompletedProcess[str]:
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)

    done = attempt()
    assert done.returncode == 1 and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr, done.stderr
    assert "disk is full" in done.stderr
    remounted(small_disk, "ro")
    done = attempt()
    assert done.returncode != 0 and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr, done.stderr
    remounted(small_disk, "rw")
    ballast.unlink()
    assert attempt().returncode == 0
    assert _contents(out) == packing.expected
