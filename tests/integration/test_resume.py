"""Re-running the same command resumes bit for bit as if the run had never stopped, whatever stopped it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from shards.stream.stream import Stream
from support.errors import assert_printed, codes
from support.launching import (
    MAIN,
    ROOT,
    TINY,
    assert_same_run,
    checkpoints,
    command,
    environment,
    make_dataset,
    metrics,
    start,
    tensors,
    train,
)
from trainer import config
from trainer.averages.ema import decay
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.run import checkpoint
from trainer.state import TrainingState


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("resume")).path


def run_words(data: Path, run: Path, images: int = 512, every: int = 128) -> list[object]:
    return [*TINY, "--shards", data, "--run", run, "--total-images", images, "--checkpoint-every", every]


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    train(*run_words(data, run))
    return run


def wait_for(run: Path, count: int) -> None:
    """Wait until the run has ``count`` checkpoints."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if (run / "checkpoints").is_dir() and len(checkpoints(run)) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} checkpoints in {run}")


def test_extended_run_equals_uninterrupted_run(data: Path, unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for images in (272, 512):  # 272 is not a multiple of any interval
        train(*run_words(data, run, images))
    # The last step of a run is always logged; the first run ended at 272.
    assert metrics(unbroken) == [row for row in metrics(run) if row["images_seen"] != 272]
    ours, theirs = tensors(run), tensors(unbroken)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("family", "size", "stops"),
    [
        ("residual", 16, range(1, 6)),
        ("r3gan", 16, range(1, 6)),
        pytest.param("article", 96, (1, 5), marks=pytest.mark.long),
    ],
)
def test_every_family_resumes_bit_for_bit_from_any_step(
    tmp_path: Path, family: str, size: int, stops: Sequence[int]
) -> None:
    """Networks, EMA, optimizers, ADA's probability and metrics agree; some of the steps apply penalties."""
    dataset = make_dataset(tmp_path, count=12, size=size)
    words = f"--preset smoke --family {family} --batch 2 --penalty-every 2 --ada-speed 20 --ada-target -0.9"
    words += " --augment ada --flip --ema-half-life 8 --total-images 12 --cooldown 0.5"
    words += " --channels 16,16,16" if family != "article" else " --channels="
    asked = config.load(words.split())
    stream = Stream(dataset, asked.data.batch, asked.seed)

    def fresh() -> TrainingState:
        env = Distributed("cpu", "no", threads=1)
        kinds = [attribute.kind for attribute in dataset.schema.attributes]
        return build_state(asked, env, dataset.shape, dataset.schema.widths, kinds)

    def step(state: TrainingState, number: int) -> dict[str, float]:
        return state.env.sum_to_floats(state.step(stream[number]).metrics)

    whole, rows, saved, rates = fresh(), [], {}, set()
    assert whole.adaptive is not None
    whole.adaptive.p += 0.5  # so that it can rise and fall
    for number in range(6):
        rows.append(step(whole, number))
        rates.add(whole.scheduled["schedule/lr_d"])
        whole.gather_on_rank0()
        saved[number + 1] = checkpoint.save(tmp_path / "run", whole.values(), whole.tensors(), keep=9)
    assert len({row["augment/p"] for row in rows}) > 1 and "loss/penalty" in rows[2]
    assert len(rates) == 4, "held for three steps, then another in each"
    for stop in stops:
        other = fresh()
        other.load(checkpoint.read(saved[stop]))
        assert [step(other, number) for number in range(stop, 6)] == rows[stop:], stop
        other.gather_on_rank0()
        for file, held in whole.tensors().items():
            for name, tensor in held.items():
                assert torch.equal(other.tensors()[file][name], tensor), (stop, file, name)


def test_extended_run_with_schedules_equals_uninterrupted_run(data: Path, tmp_path: Path) -> None:
    """Schedules depend on images seen only, not on the --total-images of an earlier start."""
    words = "--warmup-images 64 --decay cosine --decay-to 0.1 --decay-images 400 --log-every 16".split()
    words += (
        "--gamma-end 0.05 --mode-seeking 0.3 --mode-seeking-end 0.1 --beta2-end 0.99 --ema-half-life-end 50".split()
    )
    words += "--augment diff --augment-p 0.1 --augment-p-end 0.9".split()
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(*run_words(data, whole), *words)
    for images in (48, 272, 512):
        train(*run_words(data, run, images), *words)
    assert_same_run(run, whole)
    rates = [row["schedule/lr_g"] for row in metrics(whole)]
    assert rates[3] == max(rates) == 2e-3 and rates[-1] == pytest.approx(2e-4)
    others = {"lr_d", "gamma", "mode_seeking", "beta2", "ema_half_life", "augment_p"}
    assert {f"schedule/{name}" for name in others} < metrics(whole)[0].keys()


def test_run_stopped_between_generator_updates_equals_uninterrupted_run(data: Path, tmp_path: Path) -> None:
    """With three updates of D per update of G, rows are logged at updates of G and at the end of a run."""
    words = ("--d-steps", 3, "--log-every", 16, "--penalty-every", 2)
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(*run_words(data, whole, 256), *words)
    for images in (112, 256):  # 7 steps, 16 steps: neither is a multiple of three
        train(*run_words(data, run, images), *words)
    assert [row["images_seen"] for row in metrics(whole)] == [48, 96, 144, 192, 240, 256]
    assert ["loss/g" in row for row in metrics(whole)] == [True] * 5 + [False]
    assert metrics(whole) == [row for row in metrics(run) if row["images_seen"] != 112]
    ours, theirs = tensors(run), tensors(whole)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.exhaustive
def test_extended_run_of_four_processes_equals_uninterrupted_run(data: Path, tmp_path: Path) -> None:
    """With two processes, gradients sum to the same value in any order; no penalty is due at 96 images."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(*run_words(data, whole, 256), processes=4)
    for images in (96, 256):
        train(*run_words(data, run, images), processes=4)
    assert_same_run(run, whole)


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, pytest.param(0, marks=pytest.mark.exhaustive)])
def test_extended_run_with_ada_equals_uninterrupted_run(data: Path, tmp_path: Path, processes: int) -> None:
    """Stop between two updates of ADA's probability; the checkpoint holds the sums of signs since the last one."""
    words = ("--augment", "ada", "--flip", "--ada-speed", 500, "--ada-target", 0.05, "--log-every", 16)
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(*run_words(data, whole), *words, processes=processes)
    for images in (240, 288, 512):  # 15 steps, 18 steps: neither is a multiple of four
        train(*run_words(data, run, images), *words, processes=processes)
    assert len({row["augment/p"] for row in metrics(whole)}) >= 3
    assert_same_run(run, whole)


def test_killed_run_resumes(data: Path, unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*run_words(data, run))
    wait_for(run, 2)
    process.kill()
    process.communicate()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"images_seen": 480, "loss/d": 1}\n')  # past the checkpoint
        file.write('{"images_seen": 500, "loss/d": 1')  # a line cut off by the kill
    left = [run / ".config.yaml.4771.tmp", run / "samples" / ".000000000128.png.4771.tmp"]
    for path in left:
        path.write_text("half of it")
    done = train(*run_words(data, run))
    assert "resuming at" in done.stdout
    assert_same_run(run, unbroken)
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize(
    "name",
    ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.long), pytest.param("SIGUSR1", marks=pytest.mark.exhaustive)],
)
def test_signal_saves_and_prints_how_to_resume(data: Path, unbroken: Path, tmp_path: Path, name: str) -> None:
    run, marker = tmp_path / "run", tmp_path / "requeue"
    process = start(*run_words(data, run), REQUEUE_FILE=str(marker))
    wait_for(run, 1)
    os.kill(process.pid, getattr(signal, name))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert f"stopped ({name}) and saved at" in output
    assert "re-run the same command to resume" in output
    assert marker.exists()
    train(*run_words(data, run))
    ours, theirs = tensors(run), tensors(unbroken)
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.long)])
def test_unwritable_requeue_marker_is_reported_once_after_the_save(data: Path, tmp_path: Path, processes: int) -> None:
    run = tmp_path / "run"
    process = start(*run_words(data, run, images=200_000), processes=processes, REQUEUE_FILE=str(tmp_path / "no" / "m"))
    wait_for(run, 1)
    for child in psutil.Process(process.pid).children() if processes else [process]:
        child.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "stopped (SIGUSR1) and saved at" in output
    assert output.count("no/m could not be written: No such file or directory") == 1
    assert processes or "Traceback" not in output


def test_trap_signal_to_the_launcher_alone_leaves_no_orphan(data: Path, tmp_path: Path) -> None:
    """`kill LAUNCHER` kills the launcher only; the trainer notices, saves and exits."""
    run = tmp_path / "run"
    process = start(*run_words(data, run, images=200_000), processes=1)
    wait_for(run, 1)
    os.kill(process.pid, signal.SIGTERM)
    process.wait(timeout=30)
    end = time.monotonic() + 30
    while (run / "lock.json").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not (run / "lock.json").exists(), "the trainer continued without its launcher"
    assert process.stdout is not None
    assert "stopped (the launcher is gone) and saved" in process.stdout.read()
    state = json.loads((run / "checkpoints" / checkpoints(run)[-1] / "state.json").read_text())
    assert state["images_seen"] % 16 == 0


def test_damaged_newest_checkpoint_is_reported_and_the_previous_one_used(
    data: Path, unbroken: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    newest = run / "checkpoints" / checkpoints(run)[-1] / "ema.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    done = train(*run_words(data, run))
    assert_printed(done.stderr, "checkpoint-damaged", "ema.safetensors")
    assert "resuming at 384" in done.stdout
    assert_same_run(run, unbroken)


def test_re_running_a_finished_run_reports_it_complete(data: Path, unbroken: Path) -> None:
    before = checkpoints(unbroken)
    done = train(*run_words(data, unbroken))
    assert "is complete: 512 images" in done.stdout and "--total-images 1024" in done.stdout
    assert checkpoints(unbroken) == before


def test_changed_options_are_refused_with_old_and_new_values(data: Path, unbroken: Path) -> None:
    done = train(*run_words(data, unbroken), "--lr-g", "0.5", "--batch", "32", expect=2)
    assert done.stderr.endswith("[run-options-differ]\n")
    assert re.search(r"lr-g: 0\.002 .* 0\.5 ", done.stderr)
    assert re.search("batch: 16 .* 32 ", done.stderr)
    assert "another --run" in done.stderr
    assert "Traceback" not in done.stderr


def test_local_run_resumes_from_a_cache(data: Path, unbroken: Path, tmp_path: Path) -> None:
    """With a cache, windowed sampling is the default; a resumed run keeps the sampling it started with."""
    run = tmp_path / "run"
    train(*run_words(data, run, 256))
    train(*run_words(data, run), "--cache", tmp_path / "cache")
    assert_same_run(run, unbroken)


def test_another_dataset_is_refused(unbroken: Path, tmp_path: Path) -> None:
    other = make_dataset(tmp_path, count=63)
    done = train(*run_words(other.path, unbroken), expect=2)
    assert_printed(done.stderr, "wrong-dataset", other.path, unbroken)


def test_second_process_on_the_same_run_is_refused(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start(*run_words(data, run, images=200_000))
    try:
        wait_for(run, 1)
        second = train(*run_words(data, run, images=200_000), expect=2)
        assert_printed(second.stderr, "in-use", f"process {first.pid}")
    finally:
        first.kill()
        first.communicate()


def test_init_from_starts_with_the_weights_of_another_run(data: Path, unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train(*run_words(data, run, images=16), "--init-from", unbroken, "--lr-g", "1e-9", "--lr-d", "1e-9")
    assert f"weights from {unbroken}" in done.stdout
    ours, theirs = tensors(run), tensors(unbroken)
    assert all(np.allclose(ours[k], theirs[k], atol=1e-6) for k in theirs if k.startswith("generator/"))
    # The EMA continues at the old run's decay, without the fast warm-up of a fresh start.
    train(*run_words(data, run, images=32), "--lr-g", "1e-9", "--lr-d", "1e-9")
    for step, found in ((0, ours), (1, tensors(run))):
        survives = decay(512 + 16 * step, 16, config.load(["--preset", "smoke"]).optim.ema_half_life, 0.1)
        assert 0.5 < survives < 1
        for key in (key for key in theirs if key.startswith("ema/")):
            raw = theirs[key.replace("ema/", "generator/")]
            theirs[key] = raw + survives * (theirs[key] - raw)
            assert np.allclose(found[key], theirs[key], atol=1e-6), key


def test_resumed_run_does_not_need_its_init_from_run(data: Path, unbroken: Path, tmp_path: Path) -> None:
    old, run = tmp_path / "old", tmp_path / "run"
    shutil.copytree(unbroken, old)
    (run / "checkpoints" / ".000000000016.partial").mkdir(parents=True)  # killed while it wrote its first checkpoint
    done = train(*run_words(data, run, images=16), "--init-from", old)
    assert "weights from" in done.stdout
    shutil.rmtree(old)
    train(*run_words(data, run, images=32), "--init-from", old)
    assert train(*run_words(data, tmp_path / "other"), "--init-from", old, expect=2).stderr.count("[run-missing]") == 1
    assert not (tmp_path / "other").exists()


def test_checkpoint_unreadable_on_one_rank_is_one_error(data: Path, unbroken: Path, tmp_path: Path) -> None:
    """As on a machine without access to the run directory."""
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    (tmp_path / "blind.py").write_text(BLIND.format(root=str(ROOT), main=str(MAIN)))
    line = command(run_words(data, run, images=1024), 2, program=tmp_path / "blind.py")
    done = subprocess.run(line, env=environment(2, {}), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert codes(done.stderr) == ["file-unreadable"], done.stderr
    assert "in load_file" not in done.stderr, done.stderr


BLIND = """
import os, runpy, sys
sys.path.insert(0, {root!r})
from trainer.run import checkpoint

def absent(path):
    raise FileNotFoundError(2, "No such file or directory", str(path))

if os.environ["RANK"] == "1":
    checkpoint.load_file = absent
sys.argv[0] = {main!r}
from trainer.main import main
main()
"""


def test_trap_pruning_after_a_resume_keeps_the_newest(data: Path, unbroken: Path) -> None:
    assert checkpoints(unbroken) == [f"{n:012d}" for n in (256, 384, 512)]


def test_exchanged_labels_are_not_trained_on(tmp_path: Path) -> None:
    """The manifest stays as it was, and so does the fingerprint: only the content tells."""
    dataset = make_dataset(tmp_path, 40)
    run = tmp_path / "run"
    words = [*TINY, "--shards", dataset.path, "--run", run, "--checkpoint-every", 32]
    train(*words, "--total-images", 32)
    labels = np.load(dataset.path / "labels.npy")
    np.save(dataset.path / "labels.npy", labels[::-1])
    done = train(*words, "--total-images", 64, expect=2)
    assert_printed(done.stderr, "sidecar-damaged", "labels.npy")
    np.save(dataset.path / "labels.npy", labels)
    train(*words, "--total-images", 64)


def test_run_that_is_moved_while_it_trains_says_where_it_is(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, 40)
    words = [*TINY, "--shards", dataset.path, "--checkpoint-every", 320, "--total-images", 10**6]
    trainer = start(*words, "--run", tmp_path / "run")
    wait_for_checkpoint(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    said, _ = trainer.communicate(timeout=120)
    assert trainer.returncode == 1
    assert_printed(said, "in-use", f"moved to {tmp_path / 'moved'}")
    seen = int(checkpoints(tmp_path / "moved")[-1])
    again = train(*words[:-1], seen + 16, "--run", tmp_path / "moved")
    assert f"resuming at {seen:,}" in again.stdout


def wait_for_checkpoint(run: Path) -> None:
    end = time.monotonic() + 120
    while not ((run / "checkpoints").exists() and checkpoints(run)):
        assert time.monotonic() < end
        time.sleep(0.05)
