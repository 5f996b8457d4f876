"""Asynchronous checkpoints: they hold the state at the call, and no failure is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from shards.core.errors import Failure
from support.errors import codes, raises
from support.launching import MAIN, ROOT, TINY, checkpoints, command, environment, make_dataset, metrics, train
from support.struck import Stroke, watch
from support.training import plain_values
from trainer.run import checkpoint, host_buffer
from trainer.run.async_checkpoint import AsyncCheckpointer, Snapshot
from trainer.run.checkpoint import Best
from trainer.run.directory import RunDirectory


class Disk(RunDirectory):
    """A run directory whose writes wait for an event, and then may fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go, self.full = threading.Event(), False

    def save(
        self, values: Mapping[str, Any], files: Mapping[str, Mapping[str, Tensor]], keep: int, best: Best | None = None
    ) -> None:
        assert self.go.wait(30)
        if self.full:
            raise Failure("disk-error", "the disk is full")
        super().save(values, files, keep, best)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "run")


def test_checkpoint_holds_the_state_at_the_call_of_save(disk: Disk) -> None:
    weight = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    said: list[str] = []
    with disk.lock(), AsyncCheckpointer(disk, keep=3, log=said.append) as saver:
        for images in (16, 32):
            weight += images
            saver.save(plain_values(images), {"g": {"w": weight}})
            assert not (disk.checkpoints / f"{images:012d}").exists(), "save returned before the write"
            weight += 1000  # the training goes on
            disk.go.set()
            saver.wait()
            disk.go.clear()
            weight -= 1000
        disk.go.set()
    for images, value in ((16, 16), (32, 48)):
        found = checkpoint.find(disk.path, str(images)).tensors("g")["w"]
        assert torch.equal(found, torch.full((2, 3, 4, 4), float(value)))
    assert not said


def test_save_waits_for_the_previous_write_and_logs_it(disk: Disk) -> None:
    said: list[str] = []
    with disk.lock(), AsyncCheckpointer(disk, keep=3, log=said.append) as saver:
        saver.save(plain_values(16), {"g": {"w": torch.zeros(1)}})
        threading.Timer(0.3, disk.go.set).start()
        saver.save(plain_values(32), {"g": {"w": torch.ones(1)}})
        assert checkpoints(disk.path)[0] == f"{16:012d}"
    assert len(said) == 1 and "waited 0." in said[0] and "32 images" in said[0]
    assert checkpoints(disk.path) == [f"{n:012d}" for n in (16, 32)]


def test_failed_write_is_raised_once_by_the_next_wait(disk: Disk) -> None:
    disk.go.set()
    disk.full = True
    with disk.lock(), AsyncCheckpointer(disk, keep=3, log=print) as saver:
        saver.save(plain_values(16), {"g": {"w": torch.zeros(1)}})
        while not saver.failed:
            pass
        with raises("disk-error", kind=Failure):
            saver.save(plain_values(32), {"g": {"w": torch.zeros(1)}})
        assert not saver.failed
        disk.full = False
        saver.save(plain_values(48), {"g": {"w": torch.zeros(1)}})
    assert checkpoints(disk.path) == [f"{48:012d}"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_error_completes_the_write_but_ctrl_c_does_not_wait(disk: Disk, kind: type[BaseException]) -> None:
    with disk.lock():
        with contextlib.suppress(kind), AsyncCheckpointer(disk, keep=3, log=print) as saver:
            saver.save(plain_values(16), {"g": {"w": torch.zeros(1)}})
            if kind is ValueError:
                disk.go.set()
            raise kind
        assert (checkpoints(disk.path) == [f"{16:012d}"]) == (kind is ValueError)
        disk.go.set()
        saver.wait()


def test_buffers_are_reused_unless_shapes_change() -> None:
    snapshot = Snapshot()
    weight = torch.ones(3)
    snapshot.take({"g": {"w": weight}})
    first = snapshot.get()["g"]["w"]
    snapshot.take({"g": {"w": weight + 1}})
    assert snapshot.get()["g"]["w"] is first and first.tolist() == [2, 2, 2]
    snapshot.take({"g": {"w": weight + 2, "step": torch.tensor(4.0)}})
    assert snapshot.get()["g"]["w"].tolist() == [3, 3, 3] and snapshot.get()["g"]["step"].item() == 4
    snapshot.take({"g": {"w": torch.ones(2)}})
    assert snapshot.get()["g"]["w"].tolist() == [1, 1]


def test_copies_share_one_buffer_without_waste_and_keep_strides_and_dtypes() -> None:
    tensors = {
        "g": {"a": torch.randn(5, 3, 4, 4).to(memory_format=torch.channels_last), "b": torch.tensor(True)},
        "d": {"gaps": torch.randn(6, 6)[:, ::2], "wide": torch.randn(7, dtype=torch.float64), "empty": torch.empty(0)},
    }
    snapshot = Snapshot()
    snapshot.take(tensors)
    copies = snapshot.get()
    for file, held in tensors.items():
        for name, tensor in held.items():
            copy = copies[file][name]
            assert torch.equal(copy, tensor) and copy.dtype == tensor.dtype
            assert name == "gaps" or copy.stride() == tensor.stride()
    assert len({copy.untyped_storage().data_ptr() for held in copies.values() for copy in held.values()}) == 1
    used = sum(tensor.nbytes for held in tensors.values() for tensor in held.values())
    assert used <= copies["g"]["a"].untyped_storage().nbytes() < used + 5 * 64


def test_pinned_memory_is_as_large_as_it_needs_to_be_and_is_given_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch's own allocator would take 4096 bytes."""
    calls: list[tuple[int, ...]] = []

    class Runtime:
        def cudaHostRegister(self, *arguments: int) -> int:
            calls.append(arguments)
            return 0 if arguments[1] < 5000 else 2

        def cudaHostUnregister(self, *arguments: int) -> int:
            calls.append(arguments)
            return 0

    monkeypatch.setattr(torch.cuda, "cudart", Runtime)
    buffer = host_buffer.allocate(2100, pinned=True)
    address = buffer.data_ptr()
    buffer.fill_(7)
    assert calls == [(address, 2100, 0)] and buffer.shape == (2100,)
    del buffer
    assert calls[1:] == [(address,)]
    assert not capsys.readouterr().err
    assert host_buffer.allocate(5001, pinned=True).fill_(7).sum() == 7 * 5001
    assert "cannot pin 5,001 bytes" in capsys.readouterr().err
    assert len(calls) == 3, "what was not pinned is not unpinned"


def save_in_a_child(run: Path, stroke: Stroke | None, log: str | Path = "") -> int:
    """Save checkpoint 32, the best, in a child process that dies at the stroke; return its exit status."""
    if (child := os.fork()) == 0:
        watch([stroke] if stroke else [], log)
        directory = RunDirectory(run)
        try:
            directory._lock.held = lambda: True  # type: ignore[method-assign]
            with AsyncCheckpointer(directory, keep=2, log=print) as saver:
                saver.save(plain_values(32), {"g": {"w": torch.full((9,), 32.0)}}, Best(32, "kid", 0.1))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def older(run: Path) -> Path:
    for images in (8, 16):
        checkpoint.save(run, plain_values(images), {"g": {"w": torch.full((9,), float(images))}}, 2)
    checkpoint.mark_best(run, Best(8, "kid", 0.2))
    return run


def test_save_killed_before_any_operation_leaves_intact_checkpoints_and_a_valid_mark(tmp_path: Path) -> None:
    """The newest checkpoint is the old or the new one; a resume finds the mark that belongs to it."""
    log = tmp_path / "log"
    assert save_in_a_child(older(tmp_path / "unbroken"), None, log) == 0
    count = len(log.read_text().splitlines())
    assert count > 10
    seen = []
    for nth in range(1, count + 1):
        run = older(tmp_path / str(nth))
        assert save_in_a_child(run, Stroke(".", "SIGKILL", nth)) == -9
        saved, complaints = checkpoint.newest(run)
        assert saved is not None and not complaints
        assert saved.tensors("g")["w"].tolist() == [saved.images_seen] * 9
        mark = checkpoint.read_best(run)
        assert mark is not None, "the mark names an existing checkpoint"
        checkpoint.restore_best(run)
        assert checkpoint.read_best(run) == (Best(32, "kid", 0.1) if saved.images_seen == 32 else Best(8, "kid", 0.2))
        seen.append(saved.images_seen)
        checkpoint.save(run, plain_values(48), {"g": {"w": torch.zeros(9)}}, 2)
        assert not [p for p in (run / "checkpoints").iterdir() if p.suffix in (".partial", ".removed")]
    assert seen == sorted(seen) and set(seen) == {16, 32}


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.long)])
def test_full_disk_ends_the_run_at_the_next_step_with_one_error(tmp_path: Path, processes: int) -> None:
    dataset = make_dataset(tmp_path, count=20)
    run = tmp_path / "run"
    words = [*TINY, "--shards", dataset.path, "--run", run, "--total-images", 100_000, "--checkpoint-every", 160]
    stroke = '[{"doing": "write .*0000480.partial", "event": "ENOSPC"}]'
    line = command([stroke, "", MAIN, *words], processes, ROOT / "tests" / "support" / "struck.py")
    done = subprocess.run(
        line, env=environment(processes, {}), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1, done.stderr
    assert codes(done.stderr) == ["checkpoint-not-saved"], done.stderr
    assert processes or "Traceback" not in done.stderr
    assert checkpoints(run)[-1] == f"{320:012d}"
    rows = [row["images_seen"] for row in metrics(run)]
    assert 480 <= rows[-1] < 800, "the run did not continue to the next save"
    again = train(*words[:-4], "--total-images", 512, "--checkpoint-every", 160)
    assert "resuming at 320" in again.stdout
