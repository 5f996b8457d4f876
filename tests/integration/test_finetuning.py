"""--init-from: a new run starts from the weights of another one, whose labels have other names, or of an export."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trainer
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from support.errors import raises
from support.launching import TINY, make_dataset, tensors, train
from trainer.export.folder import write_folder as export
from trainer.run import lineage

OPTIONS: dict[str, Any] = {
    **{"preset": "smoke", "batch": 16, "workers": 0, "threads": 1, "log_with": "none"},
    **{"channels": (16, 8, 8), "total_images": 32},
}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent")
    trainer.train(run=folder / "run", shards=str(make_dataset(folder).path), label_loss=0.5, **OPTIONS)
    return folder / "run"


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images, whose yellow is called purple, with a tag more."""
    folder = tmp_path_factory.mktemp("renamed")
    write_folder(folder / "source", 64, 16)
    with (folder / "source" / "tags.csv").open() as file:
        rows = list(csv.reader(file))
    with (folder / "source" / "tags.csv").open("w") as file:
        extra = [[row[0], row[1].replace("yellow", "purple") + ", shiny" * (n % 2)] for n, row in enumerate(rows[1:])]
        csv.writer(file).writerows([rows[0], *extra])
    pack(Pack(src=folder / "source", out=folder / "data", size=16, workers=1))
    return folder / "data"


def columns(run: Path, file: str, tensor: str) -> dict[str, np.ndarray]:
    """Return the column of each value."""
    attributes = json.loads((run / "schema.json").read_text())["attributes"]
    values = [value for attribute in attributes for value in attribute["values"]]
    return dict(zip(values, tensors(run)[f"{file}/{tensor}"].T, strict=True))


def test_columns_come_over_by_name(
    parent: Path, renamed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    still = {**OPTIONS, "total_images": 16, "lr_g": 1e-9, "lr_d": 1e-9}
    trainer.train(run=run, shards=str(renamed), init_from=parent, freeze_d=1, label_loss=0.5, **still)
    printed = capsys.readouterr().out
    assert "6 of 8 label columns came over by name; fresh: " in printed
    assert "ink: purple ink" in printed and "shiny" in printed.split("fresh: ")[1].split("\n")[0]
    for file, tensor in (("generator", "embedding.value.weight"), ("discriminator", "head.embedding.value.weight")):
        old, new = columns(parent, file, tensor), columns(run, file, tensor)
        for value in old.keys() & new.keys():
            assert np.allclose(old[value], new[value], atol=1e-6), value
        assert np.abs(new["shiny"]).max() < 1e-6 and np.abs(new["purple ink"]).max() > 0.01
    ours, theirs = tensors(run), tensors(parent)
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours if k.startswith("discriminator/blocks.0"))


def test_an_export_gives_the_generator_alone(
    parent: Path, renamed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "export"
    export(trainer.load(parent), parent, out)
    with raises("option-without-effect", "--freeze-d 1", "has no discriminator"):
        trainer.train(run=tmp_path / "frozen", shards=str(renamed), init_from=out, freeze_d=1, **OPTIONS)
    assert not (tmp_path / "frozen").exists()
    run = tmp_path / "run"
    trainer.train(run=run, shards=str(renamed), init_from=out, **{**OPTIONS, "lr_g": 1e-9, "lr_d": 1e-9})
    assert "the discriminator is fresh" in capsys.readouterr().out
    ours, theirs = tensors(run), tensors(parent)
    for network in ("generator", "ema"):
        assert np.allclose(ours[f"{network}/linear.weight"], theirs["ema/linear.weight"], atol=1e-6)
    assert not np.allclose(ours["discriminator/head.psi.weight"], theirs["discriminator/head.psi.weight"], atol=1e-3)
    roles = {influence.role for influence in lineage.read(run) or ()}
    assert {"initial weights", "training images", "label classifier in the discriminator"} <= roles


def test_what_does_not_fit_is_said_in_one_sentence(
    parent: Path, renamed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {**OPTIONS, "shards": str(renamed), "init_from": parent, "total_images": 16}
    r3gan: dict[str, Any] = {**options, "family": "r3gan"}
    wide, last = ({**options, "channels": channels} for channels in ((24, 12, 12), (16, 8, 12)))
    with raises("wrong-weights", "family is residual there and r3gan here"):
        trainer.train(run=tmp_path / "a", **r3gan)
    with raises("wrong-weights", "channels is 16,8,8 there and 24,12,12 here"):
        trainer.train(run=tmp_path / "b", **wide)
    trainer.train(run=tmp_path / "c", **last)
    printed = capsys.readouterr().out
    assert "tensors of G do not fit and are fresh, as channels is 16,8,8 there and 16,8,12 here: " in printed
    with raises("option-conflict", "--freeze-d", "channels is 16,8,8 there and 16,8,12 here"):
        trainer.train(run=tmp_path / "e", freeze_d=1, **last)
    with raises("option-without-effect", "--freeze-d 1", "--init-from"):
        trainer.train(run=tmp_path / "d", shards=str(renamed), freeze_d=1, **OPTIONS)


def test_a_dry_run_says_what_training_would(
    parent: Path, renamed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {**OPTIONS, "shards": str(renamed), "run": tmp_path / "run", "dry_run": True}
    trainer.train(init_from=parent, **options, label_loss=0.5)
    printed = capsys.readouterr().out
    assert f"\nweights from {parent}" in printed and "6 of 8 label columns came over by name; fresh: " in printed
    with raises("run-missing", tmp_path / "nowhere"):
        trainer.train(init_from=tmp_path / "nowhere", **options)
    with raises("wrong-weights", "channels is 16,8,8 there and 24,12,12 here"):
        trainer.train(init_from=parent, **{**options, "channels": (24, 12, 12)})
    with raises("option-without-effect", "--freeze-d 1", "--init-from"):
        trainer.train(freeze_d=1, **options)
    trainer.train(**options)
    assert "weights from" not in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_frozen_levels_on_two_processes(parent: Path, renamed: Path, tmp_path: Path) -> None:
    """DDP waits for the gradient of every parameter that it knows of."""
    run = tmp_path / "run"
    words = [*TINY, "--shards", renamed, "--run", run, "--freeze-d", "1", "--updates", "joint", "--accumulate", "2"]
    done = train(*words, "--init-from", parent, "--total-images", "32", processes=2)
    assert done.stdout.count("label columns came over by name") == 1
    train(*words, "--total-images", "64", processes=2)  # resumed: the other run is not needed any more
    ours, theirs = tensors(run), tensors(parent)
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours if k.startswith("discriminator/blocks.0"))
    assert not np.array_equal(
        ours["discriminator/blocks.1.first.weight"], theirs["discriminator/blocks.1.first.weight"]
    )
