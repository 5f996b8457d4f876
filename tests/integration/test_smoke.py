"""Single-process smoke test: the run directory, sampling from the run, and errors in the arguments."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainer.generation.sampler
import trainer.main
import trainer.process.signals
import trainer.sampling.command
from support.errors import assert_printed, raises
from support.launching import MAIN, ROOT, TINY, checkpoints, command, environment, make_dataset, train


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run README's smoke command with W&B offline."""
    run = tmp_path_factory.mktemp("smoke") / "run"
    done = train("--preset", "smoke", "--run", run, processes=1)
    assert "training from 0 of 1,024 images" in done.stdout
    assert str(run / "report.html") in done.stdout
    assert "Weights & Biases: offline" in done.stdout
    assert done.stdout.rstrip().endswith(f"weights in {run / 'checkpoints'}")
    return run


def python(*words: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_run_directory_is_complete(smoke: Path) -> None:
    assert checkpoints(smoke) == ["000000000512", "000000001024"]
    rows = [json.loads(line) for line in (smoke / "metrics.jsonl").read_text().splitlines()]
    assert [row["images_seen"] for row in rows] == list(range(128, 1025, 128))
    promised = {"images_seen", "loss/d", "loss/g", "loss/mismatch", "grad/d", "grad/g", "logit/real", "logit/fake"}
    promised |= {
        "samples/spread",
        "augment/sign",
        "guard/skipped",
        "data/wrong_share",
        "data/damaged",
        "speed/images_per_second",
    }
    sometimes = {"loss/penalty", "samples/variety"}
    assert all(row.keys() - sometimes == promised for row in rows), "dashboards rely on these keys"
    assert [row["images_seen"] for row in rows if "samples/variety" in row] == [512, 1024], (
        "as often as there is a grid"
    )
    assert sorted(p.name for p in (smoke / "samples").iterdir()) == ["000000000512.png", "000000001024.png"]
    assert "<html" in (smoke / "report.html").read_text()
    assert not (smoke / "lock.json").exists()


def test_wandb_records_the_run(smoke: Path) -> None:
    folder = next((smoke / "wandb").glob("offline-run-*"))
    done = python("-m", "wandb", "leet", "inspect", "--json", folder)
    assert "loss/d" in done.stdout
    assert "samples/grid" in done.stdout
    assert "images_seen" in done.stdout


def test_trap_nothing_in_a_checkpoint_is_pickled(smoke: Path) -> None:
    for path in (smoke / "checkpoints").rglob("*"):
        assert path.is_dir() or path.suffix in (".safetensors", ".json")


def test_sample_grid_from_phrases(smoke: Path, tmp_path: Path) -> None:
    out = tmp_path / "words.png"
    done = python(
        "-m",
        "trainer",
        "sample",
        smoke,
        "red ink and round shape",
        "shape tall, blue ink",
        "--count",
        3,
        "--out",
        out,
        expect=2,
    )
    assert "error:" in done.stderr
    assert not out.exists()
    done = python(
        "-m", "trainer", "sample", smoke, "red ink and round shape", "tall shape, blue ink", "--count", 3, "--out", out
    )
    assert "6 images" in done.stdout and "1,024 images seen" in done.stdout
    with Image.open(out) as image:
        assert image.width > 3 * 16
        assert image.height > 2 * 16


def test_sample_single_images_with_the_requested_tags(smoke: Path, tmp_path: Path) -> None:
    out = tmp_path / "images"
    python("-m", "trainer", "sample", smoke, "red ink", "round shape", "--count", 5, "--out", f"{out}/")
    with (out / "tags.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert all("red ink" in row["tags"] for row in rows[:5])
    assert all("round shape" in row["tags"] for row in rows[5:])
    assert len({row["tags"] for row in rows[5:]}) > 1, "attributes that are not named are drawn from the data"
    for row in rows:
        with Image.open(out / f"{row['id']}.png") as image:
            assert image.size == (16, 16)
    before = sorted(p.read_bytes() for p in out.iterdir())
    done = python("-m", "trainer", "sample", smoke, "red ink", "--out", out, expect=2)
    assert_printed(done.stderr, "output-exists")
    assert sorted(p.read_bytes() for p in out.iterdir()) == before


def test_samples_depend_on_seed_label_and_checkpoint_only(smoke: Path) -> None:
    sampler = trainer.generation.sampler.load(smoke)
    images = sampler.sample("red ink", count=4, seed=1)
    assert images.shape == (4, 3, 16, 16)
    assert images.dtype == np.uint8
    assert np.array_equal(images[:2], sampler.sample("red ink", count=2, seed=1))
    assert not np.array_equal(images, sampler.sample("red ink", count=4, seed=2))
    assert not np.array_equal(images, sampler.sample("blue ink", count=4, seed=1)), "the label changes the image"
    old = trainer.generation.sampler.load(smoke, checkpoint="512")
    assert not np.array_equal(images, old.sample("red ink", count=4, seed=1))


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["redd ink"], "unknown-word", ["'redd'", "'red'"]),
        (["red ink blue ink"], "contradictory-phrase", ["red ink", "blue ink"]),
        (["red ink", "--count", "0"], "invalid-value", ["--count", "0"]),
        (["red ink", "--out", "x.jpg"], "invalid-output-name", ["--out x.jpg", ".png"]),
        (["red ink", "--out", "/dev/null/x.png"], "disk-error", ["/dev/null/x.png"]),
        (["red ink", "--out", "/dev/null/x/"], "disk-error", ["/dev/null/x"]),
        (["red ink", "--device", "mps"], "device-missing", ["--device mps"]),
        (["red ink", "--count", "5000"], "grid-too-large", ["5,000", "--out"]),
        (["red ink", "--checkpoint", "²"], "checkpoint-missing", ["²"]),
        (["red ink", "--checkpoint", "7"], "checkpoint-missing", ["checkpoint 7", "512, 1024"]),
        ([], "missing-argument", ["PHRASES"]),
    ],
)
def test_sampling_errors_are_one_line(smoke: Path, words: list[str], code: str, named: list[str]) -> None:
    with raises(code, *named) as caught:
        trainer.sampling.command.main([str(smoke), *words])
    assert "\n" not in str(caught.value)


def test_sampling_from_a_missing_run_is_an_error(tmp_path: Path) -> None:
    with raises("run-missing", "nothing"):
        trainer.generation.sampler.load(tmp_path / "nothing")


def test_trap_entry_point_runs_from_any_folder_uninstalled(tmp_path: Path) -> None:
    """Run `python trainer/main.py` from another folder, without the checkout on the path."""
    command = [sys.executable, ROOT / "trainer" / "main.py", "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--mixed-precision" in done.stdout
    assert "presets:" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--prest", "smoke"], "unknown-option", ["--prest ", "--preset"]),
        (["--preset", "faces32"], "option-missing", ["--shards"]),
        (["--shards", "nowhere"], "dataset-missing", ["nowhere"]),
        (["--preset", "smoke", "--log-with", "wandbb"], "unknown-tracker", ["--log-with wandbb", "wandb,"]),
        (["--preset", "smoke", "--mixed-precision", "fp16"], "precision-unsupported", ["--mixed-precision", "fp16"]),
        (
            ["--preset", "smoke", "--family", "article", "--loss", "hinge", "--channels", ""],
            "unsupported-architecture",
            ["96x96", "16x16"],
        ),
        (["--preset", "smoke", "--batch", "10", "--accumulate", "4"], "batch-not-divisible", ["--batch 10", "8 or 12"]),
    ],
)
def test_training_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: str, named: list[str]
) -> None:
    monkeypatch.setattr(trainer.process.signals, "install", lambda: None)  # this process keeps its own handlers
    run = tmp_path / "run"
    with raises(code, *named) as caught:
        trainer.main.train([*words, "--run", str(run), "--device", "cpu"])
    assert "\n" not in str(caught.value)
    assert not (run / "checkpoints").exists()


def test_user_error_exits_with_status_2_and_no_traceback(tmp_path: Path) -> None:
    done = train("--preset", "smoke", "--bach", 3, "--run", tmp_path / "run", expect=2)
    assert done.stderr == "error: unknown option --bach (command line); did you mean --batch? [unknown-option]\n"
    assert not (tmp_path / "run").exists()


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "d").path
    done = train(*TINY, "--shards", data, "--run", tmp_path / "run", "--dry-run")
    assert "batch: 16" in done.stdout
    assert "64 images of 16x16" in done.stdout
    assert re.search(r"^memory: about 1\.\d GB of a GPU per process, which fits a GPU of 24 GB", done.stdout, re.M)
    assert not (tmp_path / "run").exists()
    train("--preset", "smoke", "--run", tmp_path / "run", "--dry-run")  # draws its own images
    assert not (tmp_path / "run").exists()


def test_run_is_saved_when_metrics_cannot_be_written(tmp_path: Path) -> None:
    """A grid or report that cannot be written is a warning; unwritable metrics stop the run after a save."""
    data = make_dataset(tmp_path / "d").path
    run = tmp_path / "run"
    words = [*TINY, "--shards", data, "--run", run, "--grid-every", 32, "--checkpoint-every", 32]
    (run / "samples" / "000000000032.png").mkdir(parents=True)
    done = train(*words, "--total-images", 64)
    assert "warning:" in done.stdout
    assert checkpoints(run) == ["000000000032", "000000000064"]
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    done = train(*words, "--total-images", 96, expect=1)
    assert "metrics.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
    assert checkpoints(run)[-1] == "000000000064"


DIVERGE = """
from trainer.main import main
from trainer.state import TrainingState

step = TrainingState.step

def diverging(state, batch):
    if state.images_seen >= 64:
        next(state.d.module.parameters()).data.fill_(float("inf"))
    return step(state, batch)

TrainingState.step = diverging
main()
"""


def test_diverging_run_stops_with_intact_checkpoints(tmp_path: Path) -> None:
    run, program = tmp_path / "run", tmp_path / "diverging.py"
    program.write_text(DIVERGE)
    words = [*TINY, "--shards", make_dataset(tmp_path / "d").path, "--run", run, "--skip-limit", 1]
    line = command([*words, "--total-images", 256, "--checkpoint-every", 32], program=program)
    done = subprocess.run(line, env=environment(0, {}), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert_printed(done.stderr, "diverged", "loss/d", "--lr-g", "--gamma")
    assert "Traceback" not in done.stderr
    assert checkpoints(run) == [f"{seen:012d}" for seen in (32, 64)]
    for name in checkpoints(run):
        drawn = trainer.generation.sampler.load(run, name.lstrip("0")).sample("blue ink", count=2)
        assert len(np.unique(drawn)) > 2


def test_smoke_run_that_is_killed_while_it_packs_starts_again(tmp_path: Path) -> None:
    words = ["--preset", "smoke", "--run", tmp_path / "run", "--total-images", 16, "--log-with", "none"]
    stroke = '[{"doing": "write .*manifest.json", "event": "SIGKILL"}]'
    line = command([stroke, "", MAIN, *words], program=ROOT / "tests" / "support" / "struck.py")
    killed = subprocess.run(line, env=environment(0, {}), capture_output=True, check=False, timeout=120)
    assert killed.returncode == -9
    assert not (tmp_path / "run" / "data" / "manifest.json").exists()
    train(*words)
    assert checkpoints(tmp_path / "run") == [f"{16:012d}"]
