"""An exported generator draws the pixels of its run, anywhere, and says in one sentence what is wrong with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import trainer
from shards.core import self_hash
from shards.core.atomic_io import sha256
from shards.core.errors import Failure
from shards.dataset.schema import Attribute, Schema
from support.errors import assert_printed, raises
from support.generators import make_run
from trainer.export import folder as exporting
from trainer.export.command import main
from trainer.run import evaluation_file, exported, lineage
from trainer.run.lineage import Influence
from trainer.sampling.command import main as sample

FAMILIES = {
    "residual": {},
    "tanh": {"spectral_norm": True, "blocks": 2},
    "r3gan": {"family": "r3gan", "size": 12, "channels": (16, 16)},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "home" / "run")


def export(run: Path, out: Path, *words: str) -> Path:
    main([str(run), str(out), *words])
    return out


def rewrite(out: Path, **changes: object) -> None:
    """Change entries of an export's config.json, with a hash that matches."""
    content = json.loads((out / "config.json").read_text()) | changes
    (out / "config.json").write_text(json.dumps(self_hash.with_hash(content)))


@pytest.mark.parametrize("family", FAMILIES)
def test_export_draws_the_pixels_of_the_run_where_the_run_is_not(family: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", **FAMILIES[family])  # type: ignore[arg-type]
    expected = trainer.load(run).sample("blue hair", count=3, seed=7)
    out = export(run, tmp_path / "out")
    moved = shutil.move(out, tmp_path / "elsewhere")
    shutil.rmtree(run)
    generator = trainer.load(moved)
    assert np.array_equal(generator.sample("blue hair", count=3, seed=7), expected)
    assert generator.saved.images_seen == 128 and expected.std() > 10


def test_command_samples_from_an_export_and_leaves_it_as_it_was(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(run, tmp_path / "out")
    before = {path.name: sha256(path) for path in out.iterdir()}
    monkeypatch.chdir(tmp_path)
    sample([str(run), "red hair", "--count", "2"])
    sample([str(out), "red hair", "--count", "2"])
    assert (tmp_path / "sample.png").read_bytes() == (run / "sample.png").read_bytes()
    assert {path.name: sha256(path) for path in out.iterdir()} == before


def test_weights_are_those_of_the_average_in_float32(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    saved = trainer.load(run).saved
    found = load_file(export(run, tmp_path / "out") / "model.safetensors")
    assert found.keys() == saved.tensors("ema").keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in saved.tensors("ema").items())
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


def test_export_of_an_export_is_the_same(run: Path, tmp_path: Path) -> None:
    first = export(run, tmp_path / "first")
    second = export(first, tmp_path / "second")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_nothing_private_is_exported(tmp_path: Path) -> None:
    secrets = {
        "shards": "https://zoe:s3cret@example.com/d?sig=t0ken",
        "run": "/home/zoe/run",
        "cache": "/home/zoe/cache",
        "init_from": "/home/zoe/first",
        "wandb_entity": "zoe-team",
        "wandb_project": "zoe-project",
        "decoded_cache": "/home/zoe/decoded",
        "log_with": ["zoe"],
    }
    schema = Schema((Attribute("caption", "text", (), 3), Attribute("hat", "tag", ("hat",))))
    run = make_run(tmp_path / "run", schema, secrets | {"balance": "hat", "loss": "hinge"})
    words = json.loads((run / "schema.json").read_text())
    encoder = {"name": "zoe", "spec": "/home/zoe/model", "sha256": "0" * 64, "size": 3}
    (run / "schema.json").write_text(json.dumps({**words, "text_encoder": encoder}))
    out = export(run, tmp_path / "out")
    text = "".join(path.read_text() for path in out.glob("*.json"))
    assert not [word for word in ("zoe", "s3cret", "t0ken", "example.com", str(tmp_path)) if word in text]
    config = json.loads((out / "config.json").read_text())["config"]
    assert config["balance"] == "hat" and config["loss"] == "hinge" and config["betas"]
    assert trainer.load(out, text_encoder="here").vocabulary.text_encoder == {
        "sha256": "0" * 64,
        "size": 3,
        "spec": "here",
    }


def test_notes_of_the_dataset_travel(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    words = json.loads((run / "schema.json").read_text())
    notes = {"name": "faces", "pictures": "drawn by hand", "licence": "CC0 1.0", "samples": 5, "size": 8}
    (run / "schema.json").write_text(json.dumps({**words, "dataset": {**notes, "fingerprint": "f00d"}}))
    content = exported.read(export(run, tmp_path / "out")).content
    assert content["dataset"]["licence"] == "CC0 1.0" and content["dataset"]["pictures"] == "drawn by hand"
    assert content["trained_with"]["commit"] == "abc"


# ---------------------------------------------------------------- what is known of the generator

IMAGES = Influence("images", "training images", "faces", "f00d", sample=("00", "01"))
FIGURES = {"figures": {"fid": 12.5}, "real": {"fid": 1.9}, "count": 500, "seed": 0}


@pytest.fixture
def recorded(run: Path) -> Path:
    """A run with a record of what touched it, and evaluations of two checkpoints."""
    lineage.write(run, [IMAGES, Influence("network", "initial weights", "zoe-first", "")])
    private = {"notes": ["read from /home/zoe/faces and https://zoe:s3cret@example.com/d"], "pictures": ["real.png"]}
    evaluation_file.add(run, 128, {**FIGURES, "figures": {"fid": 99.9}, "date": "2026-01-01"})
    evaluation_file.add(run, 128, {**FIGURES, **private, "seed": 1, "details": {"where": "/home/zoe/faces"}})
    evaluation_file.add(run, 256, {**FIGURES, "figures": {"fid": 77.7}})
    return run


def test_export_has_the_newest_evaluation_of_its_checkpoint_and_the_lineage(recorded: Path, tmp_path: Path) -> None:
    out = export(recorded, tmp_path / "out")
    trainer.load(out)
    ((seen, (entry,)),) = evaluation_file.read(out).items()
    assert seen == 128 and entry["figures"] == {"fid": 12.5} and entry["seed"] == 1 and "pictures" not in entry
    influences = lineage.read(out)
    assert influences is not None and influences[0] == IMAGES and influences[1].role == "initial weights"
    text = "".join(path.read_text() for path in out.glob("*.json"))
    assert not [word for word in ("zoe", "s3cret", "99.9", "77.7", str(tmp_path)) if word in text]
    again = export(out, tmp_path / "again")
    assert all(path.read_bytes() == (again / path.name).read_bytes() for path in out.iterdir())


def test_record_that_a_run_lacks_is_not_made_up(run: Path, tmp_path: Path) -> None:
    evaluation_file.add(run, 256, FIGURES)
    out = export(run, tmp_path / "out")
    assert {path.name for path in out.iterdir()} == {*exported.FILES, "config.json"}
    (out / "evaluation.json").write_text("a file that somebody added")
    trainer.load(out)


def test_export_of_an_earlier_version_is_opened(recorded: Path, tmp_path: Path) -> None:
    out = export(recorded, tmp_path / "out")
    content = {key: value for key, value in exported.read_config(out).items() if key != "records"}
    exported.write_config(out, content)
    (out / "lineage.json").unlink()
    trainer.load(out)
    exported.write_config(out, content | {"records": {"from-a-later-version.json": "0"}})
    trainer.load(out)


@pytest.mark.parametrize("name", exported.RECORDS)
def test_damaged_record_is_one_sentence(name: str, recorded: Path, tmp_path: Path) -> None:
    out = export(recorded, tmp_path / "out")
    (out / name).write_text((out / name).read_text().replace("12.5", "1.25").replace("f00d", "beef"))
    with raises("export-damaged", out, name):
        trainer.load(out)
    (out / name).unlink()
    with raises("export-damaged", out, name):
        trainer.load(out)


def test_damaged_record_of_the_run_stops_the_export(recorded: Path, tmp_path: Path) -> None:
    (recorded / "evaluation.json").write_text("{")
    with raises("file-damaged", recorded / "evaluation.json"):
        export(recorded, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("stop", ["before", "after", None])
def test_export_is_intact_whenever_its_evaluation_stops(
    stop: str | None, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(recorded, tmp_path / "out")
    write = evaluation_file.write

    def killed(*arguments: Any) -> None:
        if stop == "after":
            write(*arguments)
        raise KeyboardInterrupt

    if stop:
        monkeypatch.setattr(evaluation_file, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluation_file.add(out, 128, FIGURES)
    else:
        evaluation_file.add(out, 128, FIGURES)
    trainer.load(out)
    assert len(evaluation_file.read(out)[128]) == (1 if stop == "before" else 2)
    assert ("evaluation.json" in exported.read(out).content["records"]) == (stop is None)


# ---------------------------------------------------------------- what is there already


def test_nothing_is_overwritten_without_a_word(run: Path, tmp_path: Path) -> None:
    out = export(run, tmp_path / "out")
    (out / "README.md").write_text("a card")
    with raises("output-exists", out, "--force"):
        export(run, out)
    assert (out / "README.md").exists()
    export(run, out, "--force")
    assert not (out / "README.md").exists() and exported.read(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]


@pytest.mark.parametrize("out", [".", "/", "../here"])
def test_folder_without_a_name_of_its_own_is_refused(
    out: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for more in ((), ("--force",)):
        with raises("invalid-output-name", Path(out).resolve()):
            export(run, Path(out), *more)


@pytest.mark.parametrize("content", ['{"model_type": "bert"}', None])
def test_force_replaces_nothing_but_an_export(content: str | None, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").touch()
    if content:
        (out / "config.json").write_text(content)
    with raises("not-an-export" if content else "output-exists", out):
        export(run, out, "--force")
    assert (out / "precious").exists()
    with raises("output-exists", run):
        export(run, run, "--force")


def test_failed_export_leaves_nothing_and_keeps_the_earlier_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(run, tmp_path / "out")

    def full(*arguments: object) -> None:
        raise Failure("disk-full", "the disk is full")

    monkeypatch.setattr(exporting, "move_directory", full)
    for target in (out, tmp_path / "new"):
        with raises("disk-full", kind=Failure):
            export(run, target, "--force")
    assert exported.read(out) and sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]


def test_export_that_was_killed_between_two_renames_comes_back(run: Path, tmp_path: Path) -> None:
    out = export(run, tmp_path / "out")
    out.rename(tmp_path / ".out.replaced")
    with raises("output-exists", out):
        export(run, out)
    assert exported.read(out)


# ---------------------------------------------------------------- damaged and foreign folders


@pytest.mark.parametrize("name", [*exported.FILES, "config.json"])
def test_damaged_file_is_one_sentence(name: str, run: Path, tmp_path: Path) -> None:
    out = export(run, tmp_path / "out")
    data = bytearray((out / name).read_bytes())
    data[len(data) // 2] ^= 1
    (out / name).write_bytes(data)
    with raises("export-damaged", out, name):
        trainer.load(out)
    (out / name).unlink()
    with raises("run-missing" if name == "config.json" else "export-damaged", out):
        trainer.load(out)


@pytest.mark.parametrize(("channels", "version"), [(3, 1), (4, 2)])
def test_export_of_square_rgb_has_the_format_that_earlier_versions_read(
    channels: int, version: int, tmp_path: Path
) -> None:
    out = export(make_run(tmp_path / "run", image_channels=channels), tmp_path / "out")
    again = export(out, tmp_path / "again")
    for folder in (out, again):
        content = exported.read(folder).content
        assert content["format_version"] == version
        assert ("image_channels" in content["architecture"]) == (version == 2)


def test_export_that_is_read_while_an_evaluation_ends_is_not_damaged(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(recorded, tmp_path / "out", "--checkpoint", "128")
    hashed = exported.sha256

    def evaluated_meanwhile(path: Path) -> str:
        if path.name == "evaluation.json":
            monkeypatch.setattr(exported, "sha256", hashed)
            evaluation_file.add(out, 128, {**FIGURES, "seed": 7})
        return hashed(path)

    monkeypatch.setattr(exported, "sha256", evaluated_meanwhile)
    assert exported.read(out).content["records"]["evaluation.json"] == hashed(out / "evaluation.json")


def test_foreign_and_newer_folders_are_named(run: Path, tmp_path: Path) -> None:
    with raises("run-missing", tmp_path):
        trainer.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with raises("not-an-export", tmp_path):
        trainer.load(tmp_path)
    out = export(run, tmp_path / "out")
    assert trainer.load(out, checkpoint=128).saved.images_seen == 128
    for other in ("best", 64):
        with raises("checkpoint-missing", out, 128):
            trainer.load(out, checkpoint=other)
    rewrite(out, format_version=9)
    with raises("newer-format", out, "9"):
        trainer.load(out)
    for changes in ({"architecture": None}, {"images_seen": 0}, {"sha256": {}}, {"format_version": "1"}):
        rewrite(out, **{"format_version": 1, **changes})
        with raises("export-damaged", out):
            trainer.load(out)


@pytest.mark.parametrize("name", ["dataset", "trained_with"])
def test_notes_that_are_no_object_are_one_sentence(name: str, run: Path, tmp_path: Path) -> None:
    out = export(run, tmp_path / "out")
    rewrite(out, **{name: ["x"]})
    with raises("export-damaged", out, name):
        trainer.load(out)


def test_training_does_not_resume_from_an_export(run: Path, tmp_path: Path) -> None:
    saved = exported.read(export(run, tmp_path / "out"))
    with raises("run-missing", saved.path):
        saved.tensors("generator")


def test_mistakes_end_with_status_2(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainer", "export", str(tmp_path / "none"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert_printed(done.stderr, "run-missing", tmp_path / "none")
