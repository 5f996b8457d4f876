"""The public Python API: ten names, imported on first use, whose mistakes are `UserError`s; docs/api.md runs."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import shards
import trainer
from shards.core.errors import Failure
from support import ROOT
from support.errors import raises
from trainer.process import signals

PUBLIC = {
    "shards": ["Dataset", "Schema", "open", "pack"],
    "trainer": ["Config", "Sampler", "evaluate", "load", "sample", "train"],
}
SMOKE = {"preset": "smoke", "total_images": 128, "batch": 32, "log_with": "none"}


def loaded_modules(code: str, *arguments: object) -> set[str]:
    """Return the names of the modules that a new process has imported after running ``code``."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=100
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of the smoke preset with its dataset in RUN/data."""
    folder = tmp_path_factory.mktemp("api") / "run"
    assert trainer.train(run=folder, **SMOKE) == folder
    return folder


# ---------------------------------------------------------------- names and imports


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_are_exactly_these(package: str) -> None:
    """A name that is added or removed changes what users can rely on: change docs/api.md and the changelog too."""
    module = importlib.import_module(package)
    assert module.__all__ == PUBLIC[package]
    assert set(PUBLIC[package]) <= set(dir(module))
    for name in PUBLIC[package]:
        assert getattr(module, name).__doc__, f"{package}.{name} is not documented"
        assert getattr(module, name) is getattr(module, name)
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing
    assert (ROOT / package / "py.typed").exists()


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_are_documented(package: str) -> None:
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert [name for name in PUBLIC[package] if f"{package}.{name}" not in text] == []


def test_importing_the_packages_is_light() -> None:
    """Signals are handled before torch is imported, so `import trainer` must not import it."""
    found = loaded_modules("import shards, trainer")
    heavy = {"torch", "numpy", "PIL", "yaml", "accelerate", "wandb", "fire"}
    assert not heavy & found
    assert {name for name in found if name.startswith(("shards.", "trainer."))} <= {
        "shards.core",
        "shards.core.version",
    }


def test_reading_a_dataset_imports_no_torch(run: Path) -> None:
    found = loaded_modules("import sys, shards; shards.open(sys.argv[1])[0]", run / "data")
    assert not {"torch", "accelerate", "wandb", "trainer"} & found


def test_sampling_imports_neither_accelerate_nor_wandb(run: Path) -> None:
    found = loaded_modules("import sys, trainer; trainer.load(sys.argv[1]).sample('red ink', count=2)", run)
    assert "torch" in found
    assert not {"accelerate", "wandb", "webdataset", "trainer.loop", "trainer.distributed.process_group"} & found


# ---------------------------------------------------------------- what they do


def test_samples_of_a_dataset(run: Path) -> None:
    data = shards.open(run / "data")
    assert isinstance(data, shards.Dataset) and isinstance(data.schema, shards.Schema)
    sample = data[17]
    assert sample.image.mode == "RGB" and sample.image.size == (data.size, data.size) and sample.id == 17
    assert sample.label.shape == (data.schema.width,) and sample.known.shape == (len(data.schema.attributes),)
    assert list(sample.words) == data.schema.words(data.labels[17], data.known[17]) and len(sample.words) == 2
    assert data[-1].id == len(data) - 1
    assert [sample.id for sample in data] == list(range(len(data)))
    with pytest.raises(IndexError, match="64"):
        data[len(data)]


def test_damaged_image_of_a_dataset_is_a_failure(run: Path, tmp_path: Path) -> None:
    data = shards.Dataset.open(run / "data")
    data.read_into = data.read = lambda *arguments: b"no image"  # type: ignore[method-assign, assignment]
    data.format = lambda i: "jpg"  # type: ignore[method-assign]
    with raises("image-damaged", run / "data", "sample 3", kind=Failure):
        data[3]


def test_pack_takes_the_options_of_the_command(tmp_path: Path) -> None:
    source = tmp_path / "images"
    for n, name in enumerate(("cat", "dog")):
        (source / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((12, 12, 3), 40 * i + n, np.uint8)).save(source / name / f"{i}.png")
    data = shards.pack(source, tmp_path / "data", size=8, per_shard=4, workers=1)
    assert (len(data), data.size, len(data.shards)) == (6, 8, 2)
    assert {sample.words for sample in data} == {("cat",), ("dog",)}


def test_sampling_gives_the_pixels_of_the_command(run: Path, tmp_path: Path) -> None:
    generator = trainer.load(str(run), device="cpu")
    assert isinstance(generator, trainer.Sampler)
    images = generator.sample("red ink, round shape", count=3, seed=5)
    assert images.shape == (3, 3, 16, 16) and images.dtype == np.uint8
    command = [sys.executable, "-m", "trainer", "sample", str(run), "red ink, round shape"]
    command += ["--count", "3", "--seed", "5", "--device", "cpu", "--out", str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    for n, image in enumerate(images):
        with Image.open(tmp_path / "out" / f"{n:06d}.png") as written:
            assert np.array_equal(np.asarray(written), image.transpose(1, 2, 0))
    grid = generator.grid(["red ink", "blue ink"], count=3)
    assert isinstance(grid, Image.Image) and grid.height > 2 * 96
    assert generator.grid("red ink", count=2).width > 2 * 96


def test_checkpoints_are_chosen_by_images_seen(run: Path) -> None:
    assert trainer.load(run).saved.images_seen == 128
    assert trainer.load(run, "newest").saved.images_seen == trainer.load(run, 128).saved.images_seen == 128


def test_training_resumes_and_reports_its_directory(run: Path, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("total_images: 192\nbatch: 64\n")
    options = {**SMOKE, "total_images": 192, "run": run}
    assert trainer.train(**options) == run
    assert trainer.load(run).saved.images_seen == 192
    del options["total_images"]
    assert trainer.train(str(tmp_path / "more.yaml"), **options) == run


def test_config_has_sections() -> None:
    config = trainer.Config.from_options(batch=32, betas=(0.0, 0.9), lr_g=2e-4)
    assert config.to_dict()["batch"] == 32 and config.to_dict()["betas"] == [0.0, 0.9]


@pytest.mark.long
def test_evaluate_returns_metrics_by_key(run: Path) -> None:
    found = trainer.evaluate(run, count=64, metrics=["fid"])
    assert found["fid"] > 0


# ---------------------------------------------------------------- mistakes


def test_mistakes_are_user_errors(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with raises("unknown-option", "--bacth", "--batch"):
        trainer.train(bacth=3)
    with raises("invalid-value", "--batch", "'many'"):
        trainer.train(batch="many")
    with raises("unknown-option", "--siz", "--size"):
        shards.pack(tmp_path, tmp_path / "out", siz=3)
    with raises("option-without-effect", "part"):
        shards.pack(tmp_path, tmp_path / "out", part="1/2")
    with raises("dataset-missing", tmp_path / "none"):
        shards.open(tmp_path / "none")
    with raises("run-missing", tmp_path):
        trainer.load(tmp_path)
    with raises("checkpoint-missing", "checkpoint 5"):
        trainer.load(run, 5)
    with raises("unknown-word", "'purple'"):
        trainer.load(run).sample("purple ink")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with raises("launched-in-parallel", "accelerate launch"):
        trainer.train(**SMOKE)


def test_signal_handlers_are_restored_after_training() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    requests = []

    def interrupted() -> None:
        with signals.handled():
            signal.raise_signal(signal.SIGINT)
            requests.append(signals.request())

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert requests == ["SIGINT"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == before
    assert signals.request() is None


# ---------------------------------------------------------------- docs/api.md


def walk(text: str) -> str:
    """Return the Python blocks of a document as one script, in order."""
    return "\n".join(re.findall(r"(?ms)^```python\n(.*?)^```$", text))


@pytest.mark.long
def test_the_walk_in_the_documentation_runs(tmp_path: Path) -> None:
    script = walk((ROOT / "docs" / "api.md").read_text("utf-8"))
    assert script.count("\n") > 20
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / ".cache"), "WANDB_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, text=True, timeout=600, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("gigabytes", [20 * 10**9, 0, -1, float("nan")])
def test_trap_size_of_the_cache_in_bytes_is_refused(tmp_path: Path, gigabytes: float) -> None:
    with raises("invalid-value", "cache_limit", "GB"):
        shards.open("https://127.0.0.1:9/data", cache=tmp_path, cache_limit=gigabytes)
