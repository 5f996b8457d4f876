"""A training that is killed before any of its file operations and started again has all outputs of one that was not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shards.core.errors import exit_status
from support.launching import assert_same_run, checkpoints
from support.struck import Stroke, watch
from trainer import loop, main

assert loop  # what training imports is imported once, and not in every child

OPTIONS = (
    "--preset smoke --batch 16 --total-images 64 --checkpoint-every 16 --grid-every 32 --log-every 16 --keep 2 "
    "--channels 4,4,4 --noise-size 4 --label-size 4 --workers 0 --threads 1 --log-with none --device cpu"
).split()


def train_in_a_child(dataset: Path, run: Path, strokes: list[Stroke], log: str | Path = "") -> int:
    """Train in a child process, to the end or to a stroke; return its exit status."""
    if (child := os.fork()) == 0:
        status = 1
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            watch(strokes, log)
            status = exit_status(lambda: main.train(["--shards", str(dataset), "--run", str(run), *OPTIONS]))
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outputs(run: Path) -> dict[str, bytes]:
    """Return what a run has promised, by file name: grids with their content, the names of everything else."""
    names = {str(path.relative_to(run)): b"" for path in run.rglob("*") if path.is_file()}
    return names | {f"samples/{path.name}": path.read_bytes() for path in (run / "samples").iterdir()}


@pytest.fixture(scope="module")
def undisturbed(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a run that nobody killed, and a line for each of its file operations."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train_in_a_child(small_dataset, folder / "run", [], folder / "log") == 0
    return folder / "run", (folder / "log").read_text().splitlines()


def assert_made_up(run: Path, undisturbed: Path) -> None:
    assert outputs(run) == outputs(undisturbed)
    assert checkpoints(run) == checkpoints(undisturbed)
    assert_same_run(run, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_kill_before_every_file_operation(
    part: int, small_dataset: Path, undisturbed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    whole, operations = undisturbed
    assert len(operations) > 60
    assert sorted(name for name in outputs(whole) if "sample" in name) == [
        "samples/000000000032.png",
        "samples/000000000064.png",
    ]
    for nth in range(part + 1, len(operations) + 1, 4):
        run = tmp_path / str(nth)
        assert train_in_a_child(small_dataset, run, [Stroke(".", "SIGKILL", nth)]) == -9
        assert train_in_a_child(small_dataset, run, []) == 0, operations[nth - 1]
        assert_made_up(run, whole)


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
    doing: str, small_dataset: Path, undisturbed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """These come after the checkpoint of the same step, also in a run that is complete."""
    run = tmp_path / "run"
    assert train_in_a_child(small_dataset, run, [Stroke(doing, "SIGKILL")]) == -9
    assert train_in_a_child(small_dataset, run, []) == 0
    assert_made_up(run, undisturbed[0])


def test_outputs_of_a_complete_run_are_made_again(
    small_dataset: Path, undisturbed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert train_in_a_child(small_dataset, run, []) == 0
    for lost in (*(run / "samples").iterdir(), run / "report.html"):
        lost.unlink()
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(rows[:-1]))
    assert train_in_a_child(small_dataset, run, []) == 0
    assert (run / "samples" / f"{64:012d}.png").exists() and (run / "report.html").exists()
    assert (run / "metrics.jsonl").read_text() == "".join(rows)
