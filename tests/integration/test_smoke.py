"""The single-process smoke test and what a person does with its run: look, sample, be told about mistakes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainer.generation.sample
import trainer.generation.sampler
import trainer.main
import trainer.process.signals
from shards.core.errors import UserError
from support.errors import assert_printed, raises
from support.launching import ROOT, TINY, checkpoints, make_dataset, train


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """README's smoke command, with W&B offline."""
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


def test_the_run_directory_is_whole(smoke: Path) -> None:
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
    assert all(row.keys() - {"loss/penalty"} == promised for row in rows), "dashboards hold on to these keys"
    assert sorted(p.name for p in (smoke / "samples").iterdir()) == ["000000000512.png", "000000001024.png"]
    assert "<html" in (smoke / "report.html").read_text()
    assert not (smoke / "lock.json").exists()


def test_weights_and_biases_holds_the_run(smoke: Path) -> None:
    folder = next((smoke / "wandb").glob("offline-run-*"))
    done = python("-m", "wandb", "leet", "inspect", "--json", folder)
    assert "loss/d" in done.stdout
    assert "samples/grid" in done.stdout
    assert "images_seen" in done.stdout


def test_trap_nothing_in_a_checkpoint_is_pickled(smoke: Path) -> None:
    for path in (smoke / "checkpoints").rglob("*"):
        assert path.is_dir() or path.suffix in (".safetensors", ".json")


def test_sampling_by_words(smoke: Path, tmp_path: Path) -> None:
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


def test_single_pictures_with_what_was_asked(smoke: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    python("-m", "trainer", "sample", smoke, "red ink", "round shape", "--count", 5, "--out", f"{out}/")
    with (out / "tags.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert all("red ink" in row["tags"] for row in rows[:5])
    assert all("round shape" in row["tags"] for row in rows[5:])
    assert len({row["tags"] for row in rows[5:]}) > 1, "what is not named is drawn from the data"
    for row in rows:
        with Image.open(out / f"{row['id']}.png") as image:
            assert image.size == (16, 16)
    before = sorted(p.read_bytes() for p in out.iterdir())
    done = python("-m", "trainer", "sample", smoke, "red ink", "--out", out, expect=2)
    assert_printed(done.stderr, "output-exists")
    assert sorted(p.read_bytes() for p in out.iterdir()) == before


def test_sampling_is_keyed(smoke: Path) -> None:
    sampler = trainer.generation.sampler.load(smoke)
    pictures = sampler.sample("red ink", count=4, seed=1)
    assert pictures.shape == (4, 3, 16, 16)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures[:2], sampler.sample("red ink", count=2, seed=1))
    assert not np.array_equal(pictures, sampler.sample("red ink", count=4, seed=2))
    assert not np.array_equal(pictures, sampler.sample("blue ink", count=4, seed=1)), "the label changes the picture"
    old = trainer.generation.sampler.load(smoke, checkpoint="512")
    assert not np.array_equal(pictures, old.sample("red ink", count=4, seed=1))


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["redd ink"], "unknown-word", "red"),
        (["red ink blue ink"], "contradictory-phrase", "ink"),
        (["red ink", "--count", "0"], "invalid-value", "--count"),
        (["red ink", "--out", "x.jpg"], "invalid-output-name", ".png"),
        (["red ink", "--out", "/dev/null/x.png"], "disk-error", "/dev/null"),
        (["red ink", "--out", "/dev/null/x/"], "disk-error", "/dev/null"),
        (["red ink", "--device", "mps"], "device-missing", "mps"),
        (["red ink", "--count", "5000"], "grid-too-large", "FOLDER/"),
        (["red ink", "--checkpoint", "²"], "checkpoint-missing", "²"),
        (["red ink", "--checkpoint", "7"], "checkpoint-missing", "512, 1024"),
        ([], "missing-argument", "PHRASES"),
    ],
)
def test_mistakes_in_sampling_are_one_sentence(smoke: Path, words: list[str], code: str, named: str) -> None:
    with raises(code, named) as caught:
        trainer.generation.sample.main([str(smoke), *words])
    assert "\n" not in str(caught.value)


def test_sampling_from_no_run(tmp_path: Path) -> None:
    with raises("run-missing", "nothing"):
        trainer.generation.sampler.load(tmp_path / "nothing")


def test_trap_the_entry_runs_from_anywhere_uninstalled(tmp_path: Path) -> None:
    """`python trainer/main.py`, from another folder, with the checkout not on the path."""
    command = [sys.executable, ROOT / "trainer" / "main.py", "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--mixed-precision" in done.stdout
    assert "presets:" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--prest", "smoke"], "did you mean --preset?"),
        (["--preset", "faces32"], "--shards is missing"),
        (["--shards", "nowhere"], "nowhere"),
        (["--preset", "smoke", "--log-with", "wandbb"], "wandb"),
        (["--preset", "smoke", "--mixed-precision", "fp16"], "fp16 needs a CUDA GPU"),
        (
            ["--preset", "smoke", "--family", "article", "--loss", "hinge", "--channels", ""],
            "96x96, but the images are 16x16",
        ),
        (["--preset", "smoke", "--batch", "10", "--accumulate", "4"], "use 8 or 12"),
    ],
)
def test_mistakes_at_training_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str
) -> None:
    monkeypatch.setattr(trainer.process.signals, "install", lambda: None)  # this process keeps its own handlers
    run = tmp_path / "run"
    with pytest.raises(UserError) as caught:
        trainer.main.train([*words, "--run", str(run), "--device", "cpu"])
    assert "\n" not in str(caught.value)
    assert not (run / "checkpoints").exists()


def test_a_mistake_ends_with_status_2_and_no_traceback(tmp_path: Path) -> None:
    done = train("--preset", "smoke", "--bach", 3, "--run", tmp_path / "run", expect=2)
    assert done.stderr == "error: unknown option --bach (command line); did you mean --batch? [unknown-option]\n"
    assert not (tmp_path / "run").exists()


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "d").path
    done = train(*TINY, "--shards", data, "--run", tmp_path / "run", "--dry-run")
    assert "batch: 16" in done.stdout
    assert "64 images of 16x16" in done.stdout
    assert not (tmp_path / "run").exists()
    train("--preset", "smoke", "--run", tmp_path / "run", "--dry-run")  # draws its own pictures
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_recorded_ends_the_run_saved(tmp_path: Path) -> None:
    """A grid or a report that cannot be written is a warning; metrics that cannot are a reason to stop, not to lose."""
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


def test_a_run_that_diverges_stops_with_its_state_intact(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "d").path
    words = [*TINY, "--shards", data, "--run", tmp_path / "run", "--total-images", 64, "--checkpoint-every", 32]
    done = train(*words, "--lr-g", "1e30", "--lr-d", "1e30", "--skip-limit", 1, expect=1)
    assert_printed(done.stderr, "diverged", "loss/d", "--lr-g", "--gamma")
    assert "Traceback" not in done.stderr
    for path in (tmp_path / "run" / "checkpoints").glob("*"):
        assert trainer.generation.sampler.load(tmp_path / "run", path.name.lstrip("0"))
