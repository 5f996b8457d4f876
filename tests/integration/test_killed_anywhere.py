"""A training that is killed before any of its file operations and started again has all outputs of one that was not."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.core.errors import exit_status
from support.launching import assert_same_run, checkpoints
from support.struck import Stroke, watch
from trainer import main
from trainer.setup import training

assert training  # what training imports is imported once, and not in every child

OPTIONS = (
    "--preset smoke --batch 16 --total-images 64 --checkpoint-every 16 --grid-every 32 --log-every 16 --keep 2 "
    "--channels 4,4,4 --noise-size 4 --label-size 4 --workers 0 --threads 1 --log-with none --device cpu"
).split()


def train_in_a_child(
    dataset: Path,
    run: Path,
    strokes: list[Stroke],
    log: str | Path = "",
    before: Callable[[], None] | None = None,
) -> int:
    """Train in a child process, to the end or to a stroke; return its exit status.

    ``log`` and ``before`` are those of `watch`.
    """
    if (child := os.fork()) == 0:
        status = 1
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            watch(strokes, log, before)
            status = exit_status(lambda: main.train(["--shards", str(dataset), "--run", str(run), *OPTIONS]))
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outputs(run: Path) -> dict[str, bytes]:
    """Return what a run has promised, by file name: grids with their content, the names of everything else."""
    names = {str(path.relative_to(run)): b"" for path in run.rglob("*") if path.is_file()}
    return names | {f"samples/{path.name}": path.read_bytes() for path in (run / "samples").iterdir()}


@pytest.fixture(scope="module")
def undisturbed(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that nobody killed."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert train_in_a_child(small_dataset, run, []) == 0
    return run


class Moments:
    """Keeps what a kill before each file operation of a run would leave, each state once."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.run, self.folder, self.seen, self.operations = run, folder, set[str](), 0

    def keep(self) -> None:
        """Copy the run as it is now; a file that another thread renames meanwhile is copied under its new name."""
        self.operations += 1
        copy = self.folder / f"{self.operations:03}"
        while self.run.exists():
            try:
                shutil.copytree(self.run, copy, symlinks=True)
                break
            except shutil.Error:
                shutil.rmtree(copy)
        state = _digest(copy)
        if state in self.seen:
            shutil.rmtree(copy, ignore_errors=True)
        self.seen.add(state)


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


@pytest.fixture(scope="module")
def moments(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return what a kill would leave before each file operation of a run, by number, and a line for each operation.

    What a kill leaves is what is on the disk at that moment, so one run gives all of them.
    """
    folder = tmp_path_factory.mktemp("moments")
    (folder / "killed").mkdir()
    kept = Moments(folder / "run", folder / "killed")
    assert train_in_a_child(small_dataset, folder / "run", [], folder / "log", kept.keep) == 0
    return folder / "killed", (folder / "log").read_text().splitlines()


def assert_made_up(run: Path, undisturbed: Path) -> None:
    assert outputs(run) == outputs(undisturbed)
    assert checkpoints(run) == checkpoints(undisturbed)
    assert_same_run(run, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("part", range(2))
def test_kill_before_every_file_operation(
    part: int, small_dataset: Path, undisturbed: Path, moments: tuple[Path, list[str]], tmp_path: Path
) -> None:
    killed, operations = moments
    assert len(operations) > 60
    assert sorted(name for name in outputs(undisturbed) if "sample" in name) == [
        "samples/000000000032.png",
        "samples/000000000064.png",
    ]
    states = sorted(killed.iterdir())
    assert len(states) > 50
    for state in states[part::2]:
        run = tmp_path / state.name
        shutil.copytree(state, run, symlinks=True)
        assert train_in_a_child(small_dataset, run, []) == 0, operations[int(state.name) - 1]
        assert_made_up(run, undisturbed)


@pytest.mark.parametrize(
    "doing",
    [
        "write .*000064.png",
        "rename .*000064.png",
        "rename .*report.html",
        "rename .*32 to",
        "rmtree .*32.removed",
    ],
)
def test_kill_at_a_grid_the_report_or_a_removal_is_made_up_for(
    doing: str, small_dataset: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """These come after the checkpoint of the same step, also in a run that is complete."""
    run = tmp_path / "run"
    assert train_in_a_child(small_dataset, run, [Stroke(doing, "SIGKILL")]) == -9
    assert train_in_a_child(small_dataset, run, []) == 0
    assert_made_up(run, undisturbed)


def test_outputs_of_a_complete_run_are_made_again(small_dataset: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train_in_a_child(small_dataset, run, []) == 0
    for lost in (*(run / "samples").iterdir(), run / "report.html"):
        lost.unlink()
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(rows[:-1]))
    assert train_in_a_child(small_dataset, run, []) == 0
    assert (run / "samples" / f"{64:012d}.png").exists() and (run / "report.html").exists()
    assert (run / "metrics.jsonl").read_text() == "".join(rows)
