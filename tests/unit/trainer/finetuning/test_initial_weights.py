"""What --init-from may name: a run, the folder of an export, one at the Hub, an average that was rebuilt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainer
from shards.core.errors import Failure
from shards.dataset.schema import Attribute
from support.errors import raises
from support.hub import Hub, serving, use
from support.small_runs import write_run
from trainer.export.folder import write_folder
from trainer.finetuning import initial_weights
from trainer.run.exported import ExportedGenerator

ATTRIBUTES = (Attribute("hair", "exclusive", ("blue hair", "red hair")), Attribute("hat", "tag", ("hat",)))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as server:
        use(server, tmp_path / "cache", monkeypatch)
        yield server


@pytest.fixture
def export(tmp_path: Path) -> Path:
    run = write_run(tmp_path / "run", ATTRIBUTES)
    write_folder(trainer.load(run), run, tmp_path / "export")
    return tmp_path / "export"


def test_a_run_has_a_discriminator_and_an_export_has_none(export: Path) -> None:
    run, exported = (initial_weights.read(path) for path in (export.parent / "run", export))
    assert not run.saved.is_average and exported.saved.is_average
    assert run.schema == exported.schema and run.images_seen == exported.images_seen == 640
    state = dataclasses.replace(run.saved.state, head_start=100)
    assert dataclasses.replace(run, saved=dataclasses.replace(run.saved, state=state)).images_seen == 740


def test_an_export_at_the_hub_is_fetched_by_each_machine(hub: Hub, export: Path, tmp_path: Path) -> None:
    hub.commit("ann/faces", {path.name: path.read_bytes() for path in export.iterdir()})
    where = Path("hf://ann/faces")  # as the command line gives it, with one slash
    found = initial_weights.read(where)
    assert found.saved.is_average and found.saved.path.is_relative_to(tmp_path / "cache")
    elsewhere = dataclasses.replace(found, saved=dataclasses.replace(found.saved, path=Path("/not/here")))
    assert initial_weights.on_this_machine(elsewhere, where).saved.path == found.saved.path
    assert initial_weights.on_this_machine(elsewhere, export) is elsewhere
    assert isinstance(elsewhere.saved, ExportedGenerator)
    other = dataclasses.replace(elsewhere.saved, content={**elsewhere.saved.content, "weights_sha256": "of others"})
    with raises("weights-differ", "hf://ann/faces", "@REVISION", kind=Failure):
        initial_weights.on_this_machine(dataclasses.replace(elsewhere, saved=other), where)
    with raises("hub-missing", "hf://ann/nothing"):
        initial_weights.read(Path("hf://ann/nothing"))


def test_a_folder_without_a_schema_is_one_sentence(export: Path) -> None:
    (export.parent / "run" / "schema.json").write_text('{"attributes": 7}')
    with raises("schema-invalid", "schema.json"):
        initial_weights.read(export.parent / "run")
    (export.parent / "run" / "schema.json").unlink()
    with raises("run-damaged", export.parent / "run"):
        initial_weights.read(export.parent / "run")
    with raises("run-missing", export.parent):
        initial_weights.read(export.parent)
