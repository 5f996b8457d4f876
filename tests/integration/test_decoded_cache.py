"""Training runs with decoded images on the disk: the same weights, whatever is done to the cache and its processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.dataset.dataset import Dataset
from shards.stream.decoded_cache import plan_cache
from support.errors import assert_printed, codes
from support.launching import TINY, assert_same_run, make_dataset, start, train

IMAGES = 320  # five epochs


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Runs without a cache, by number of processes."""
    runs = {n: tmp_path_factory.mktemp("undisturbed") / "run" for n in (0, 2)}
    for processes, run in runs.items():
        done = train(*words(dataset, run, "off"), "--total-images", IMAGES, processes=processes)
        assert "decoded images: not kept (--decoded-cache off)" in done.stdout
    return runs


def words(dataset: Dataset, run: Path, cache: object) -> list[object]:
    return [*TINY, "--shards", dataset.path, "--run", run, "--decoded-cache", cache]


def filled(dataset: Dataset, cache: Path) -> int:
    rows, _ = plan_cache(dataset, str(cache)).open()
    return 0 if rows is None else rows.filled


@pytest.mark.long
def test_two_processes_killed_while_they_fill_the_cache(
    dataset: Dataset, undisturbed: dict[int, Path], tmp_path: Path
) -> None:
    cache, run = tmp_path / "decoded", tmp_path / "run"
    options = [*words(dataset, run, cache), "--checkpoint-every", 16, "--workers", 1, "--total-images"]
    process = start(*options, IMAGES, processes=2)
    until = time.monotonic() + 120
    while not filled(dataset, cache):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for number in (0, 20, 63):  # and what a kill, or a lost page, might leave behind
        corrupt(plan_cache(dataset, str(cache)).path, number)
    done = train(*words(dataset, run, cache), "--total-images", IMAGES, processes=2)
    assert f"decoded images: kept in {cache}" in done.stdout
    assert filled(dataset, cache) == len(dataset)
    assert_same_run(run, undisturbed[2])


def corrupt(path: Path | None, row: int) -> None:
    assert path is not None
    with path.open("r+b") as file:
        file.seek(8 * row)
        file.write(b"12345678")
        file.seek(4096 + 16 * 16 * 3 * row)
        file.write(b"half a row")


@pytest.mark.long
def test_two_runs_fill_one_cache_at_the_same_time(
    dataset: Dataset, undisturbed: dict[int, Path], tmp_path: Path
) -> None:
    runs = [tmp_path / name for name in ("one", "two")]
    both = [start(*words(dataset, run, tmp_path / "decoded"), "--total-images", IMAGES) for run in runs]
    for process, run in zip(both, runs, strict=True):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        assert_same_run(run, undisturbed[0])
    assert filled(dataset, tmp_path / "decoded") == len(dataset)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.long
def test_a_disk_that_becomes_full_costs_the_cache_and_nothing_else(
    dataset: Dataset, undisturbed: dict[int, Path], tmp_path: Path, small: Path
) -> None:
    run = tmp_path / "run"
    process = start(*words(dataset, run, small / "decoded"), "--total-images", IMAGES, "--workers", 2, processes=2)
    try:
        until = time.monotonic() + 120
        # A disk that is full before the file has its size would be an error before training.
        while not [path for path in small.glob("decoded/*.rows") if path.stat().st_size]:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.001)
        fill(small / "full")
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert codes(output) == ["decoded-cache-off"]
    assert_printed(output, "decoded-cache-off", small)
    assert not list(small.glob("decoded/*.rows"))
    assert_same_run(run, undisturbed[2])


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass


def test_an_unusable_directory_ends_the_run_before_it_begins(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = train(*words(dataset, tmp_path / "run", tmp_path / "file"), expect=2)
    assert_printed(done.stderr, "decoded-cache-unusable", tmp_path / "file")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_run_whose_disk_filled_is_resumed_by_the_same_command(dataset: Dataset, tmp_path: Path) -> None:
    cache = tmp_path / "decoded"
    command = words(dataset, tmp_path / "run", cache)
    train(*command, "--total-images", 16)
    shutil.rmtree(cache)
    cache.touch()
    done = train(*command, "--total-images", 32)
    assert_printed(done.stderr, "decoded-cache-unusable", cache)
    assert "decoded images: not kept" in done.stdout
    # A directory that is new to the run is meant to be used.
    done = train(*words(dataset, tmp_path / "run", "/proc/x"), "--total-images", 48, expect=2)
    assert_printed(done.stderr, "decoded-cache-unusable", "--decoded-cache /proc/x", "choose another directory")


def test_a_dry_run_says_where_and_writes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    done = train(*words(dataset, tmp_path / "run", tmp_path / "decoded"), "--dry-run")
    assert f"decoded images: kept in {tmp_path / 'decoded'}" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_run_resumes_with_another_cache(dataset: Dataset, undisturbed: dict[int, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    for images, cache in ((160, "auto"), (IMAGES, tmp_path / "decoded")):
        train(*words(dataset, run, cache), "--total-images", images)
    assert_same_run(run, undisturbed[0])
