"""What a run gives to W&B besides metrics, read back: lineage, models, tables and alerts; none of it twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

import trainer
from support.fake_wandb import FakeWandb
from support.launching import make_dataset, train
from trainer.config import Config
from trainer.tracking import artifacts

KEY = "k3y" * 13 + "z"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("artifacts")).path


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    places = {name: str(tmp_path / "home" / name) for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")}
    for place in places.values():
        Path(place).mkdir(parents=True)
    return {**places, "NETRC": str(tmp_path / "home" / "netrc")}


def words(data: Path, run: Path, images: int, *more: str) -> list[object]:
    tiny = "--preset smoke --batch 16 --log-every 32 --grid-every 32 --workers 0 --threads 1 --channels 8,4,4"
    return [*tiny.split(), "--log-with", "wandb", "--shards", data, "--run", run, "--total-images", images, *more]


def records(run: Path, environment: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Return the records of all offline parts of a run by kind, as W&B reads them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part in sorted((run / "wandb").glob("offline-run-*")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(part)]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            record = json.loads(line)
            found.setdefault(record["type"], []).append(record[record["type"]])
    return found


def files_of(artifact: dict[str, Any]) -> dict[str, Path]:
    return {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}


def test_an_offline_run_keeps_its_lineage_models_tables_and_alerts(
    data: Path, environment: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "first"
    environment |= {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY}
    train(*words(data, run, 32), **environment)
    found = records(run, environment)
    made = {artifact["name"].rpartition("-")[0] or artifact["name"]: artifact for artifact in found["artifact"]}
    (dataset,) = [artifact for artifact in found["artifact"] if artifact["type"] == "dataset"]
    assert dataset["use_after_commit"], "the run uses it"
    manifest = json.loads(files_of(dataset)["manifest.json"].read_text())
    assert manifest["samples"] == 64 and str(data) not in json.dumps(manifest)
    generator = made["generator"]
    assert generator["type"] == "model" and {"latest", "images-32"} <= set(generator["aliases"])
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name, path in files_of(generator).items():
        assert path.is_relative_to(run), "a run's files stay together"
        (folder / name).write_bytes(path.read_bytes())
    assert trainer.load(folder).sample("anything", count=1).shape == (1, 3, 16, 16)
    (row,) = [row["item"] for row in found["history"] if any("samples/table" in key for key in row["item"])]
    assert row["images_seen"] == 32
    tables = [files_of(a) for a in found["artifact"] if "samplestable" in a["name"]]
    (content,) = [json.loads(files["samples/table.table.json"].read_text()) for files in tables]
    assert content["columns"] == ["images_seen", "words", "images"]
    assert {"red ink", "blue ink"} <= {words for _, words, _ in content["data"]}
    (alert,) = found["alert"]
    assert alert["title"] == "first is complete" and "32 images seen" in alert["text"]
    assert not any(KEY.encode() in path.read_bytes() for path in run.rglob("*") if path.is_file())
    # Resumed, it logs the new generator, and nothing that it has logged before.
    train(*words(data, run, 64), **environment)
    later = [(a["type"], set(a["aliases"])) for a in records(run, environment)["artifact"][len(found["artifact"]) :]]
    assert [kind for kind, _ in later if kind == "dataset"] == []
    assert [names for kind, names in later if kind == "model"] == [{"latest", "images-64"}]


def test_an_online_run_logs_every_checkpoint_that_was_asked_for(
    data: Path, environment: dict[str, Any], tmp_path: Path
) -> None:
    run, server = tmp_path / "first", FakeWandb()
    environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}
    try:
        asked = ("--wandb-artifacts", "checkpoints", "--checkpoint-every", "32")
        done = train(*words(data, run, 64, *asked), **environment)
        run_id = json.loads((run / "tracking.json").read_text())["wandb_run_id"]
        names = [json.dumps(artifact) for artifact in server.artifacts]
        assert sum(f"checkpoint-{run_id}" in name for name in names) == 2
        assert len(server.used) == 1, "the dataset"
        assert KEY not in done.stdout + done.stderr
    finally:
        server.stop()


def test_a_run_without_artifacts_logs_none(data: Path, environment: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "first"
    train(*words(data, run, 32, "--wandb-artifacts", "none"), **environment, WANDB_MODE="offline")
    found = records(run, environment)
    assert "artifact" not in found and not any("samples/table" in str(row) for row in found["history"])


def test_the_default_uploads_no_checkpoints() -> None:
    assert Config().tracking.wandb_artifacts == "generator"


@pytest.fixture
def forgotten_settings() -> Iterator[None]:
    """W&B keeps the settings of a process's first run; later tests of this process must not find them."""
    yield
    wandb.teardown()


@pytest.mark.usefixtures("forgotten_settings")
def test_models_that_cannot_be_logged_do_not_end_the_run(
    data: Path, environment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name, value in (environment | {"WANDB_MODE": "offline"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(artifacts, "of_generators", lambda *_: 1 / 0)
    trainer.train(
        **{"run": tmp_path / "first", "shards": str(data), "log_with": ("wandb",), "channels": (8, 4, 4)},
        **{"preset": "smoke", "batch": 16, "workers": 0, "threads": 1, "total_images": 32},
    )
    printed = capsys.readouterr().out
    assert "models could not be logged (division by zero); training continues [tracker-failed]" in printed
    assert "done: 32 images seen" in printed
