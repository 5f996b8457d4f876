"""Write an exported generator: the folder that `trainer.load` opens anywhere (see `trainer.run.exported`)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from shards import text_encoders
from shards.core import cli, self_hash, text_files
from shards.core.atomic_io import explain_disk_errors, move_directory, require_unused, sha256, write_bytes
from shards.core.errors import UserError
from shards.core.version import __version__, revision
from trainer.config import Config
from trainer.export.records import public_records
from trainer.generation.sampler import Sampler
from trainer.run import dataset_notes, exported, saved_state
from trainer.run.checkpoint import Checkpoint
from trainer.run.exported import FILES, KIND, RECORDS, WEIGHTS, ExportedGenerator
from trainer.run.redaction import without_secrets


def write_folder(sampler: Sampler, source: Path, out: Path, *, force: bool = False) -> ExportedGenerator:
    """Write a generator with all that drawing needs and what is known of it; ``out`` appears complete, or not at all.

    Args:
        sampler: what `load` returned for ``source``.
        source: the run directory, or an earlier export.
        out: the folder to write.
        force: replace ``out`` if it is an earlier export; nothing else is ever replaced.

    Returns:
        The export as it is read back.

    Raises:
        UserError: ``out`` is in use, or a record of the run is damaged.
        Failure: the disk is full or not writable.
    """
    with replaced_folder(out, force) as building:
        write_bytes(building / WEIGHTS, save(_weights(sampler.generator), {"format": "pt"}))
        write_bytes(building / "schema.json", json.dumps(_words(source), indent=1).encode())
        write_bytes(building / "labels.safetensors", (source / "labels.safetensors").read_bytes())
        public_records(source, sampler.saved).write(building, sampler.saved.images_seen)
        hashes = {name: sha256(building / name) for name in FILES}
        records = {name: sha256(building / name) for name in RECORDS if (building / name).exists()}
        exported.write_config(building, {**describe(sampler, source), "sha256": hashes, "records": records})
        exported.read(building)
    return exported.read(out)


def describe(sampler: Sampler, source: Path) -> dict[str, Any]:
    """Return what an export says about itself, without hashes: plain values, and no path, name or key of a person."""
    saved, state = sampler.saved, sampler.saved.state
    if isinstance(saved, ExportedGenerator):
        return {key: value for key, value in saved.content.items() if key not in ("sha256", "records", self_hash.KEY)}
    content = {
        "kind": KIND,
        "images_seen": state.images_seen,
        "architecture": dataclasses.asdict(state.architecture),
        "config": public_options(state.config, {a.name for a in sampler.schema.attributes}),
        "data": state.data,
        "dataset": {
            key: without_secrets(value) if isinstance(value, str) else value
            for key, value in dataset_notes.read_notes(source, saved).items()
        },
        "trained_with": _versions(saved),
        "exported_with": {"version": __version__, "commit": revision(), "torch": torch.__version__},
    }
    return saved_state.written(content)


def public_options(config: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the options that others may see: numbers, switches, declared choices and names of attributes.

    Any other text may be a path, a URL, or the name of a person or team.
    """
    fields = cli.interface(Config).fields
    return {
        name: value
        for name, value in config.items()
        if name in fields and _is_public(value, fields[name].metadata.get("choices") or names)
    }


def _is_public(value: Any, words: Collection[str]) -> bool:
    if isinstance(value, list):
        return all(_is_public(entry, words) for entry in value)
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and value in words)


def _versions(saved: Checkpoint) -> dict[str, str]:
    """Return the versions that a checkpoint was saved with."""
    state = text_files.read_json(saved.path / "state.json")
    return {name: state[name] for name in ("version", "commit", "torch", "machine") if isinstance(state.get(name), str)}


def _weights(generator: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}


def _words(source: Path) -> dict[str, Any]:
    """Return the content of a run's schema.json without the folder of the text encoder."""
    content = dict(text_files.read_json(source / "schema.json"))
    content.pop("dataset", None)
    content["text_encoder"] = public_encoder(content.get("text_encoder"))
    return content


def public_encoder(identity: Any) -> dict[str, Any] | None:
    """Return the identity of a text encoder without the folder that it has on this machine; None if there is none."""
    if not isinstance(identity, dict):
        return None
    private = () if identity.get("spec") in text_encoders.NAMES else ("spec", "name")
    return {key: value for key, value in identity.items() if key not in private}


@contextlib.contextmanager
def replaced_folder(out: Path, force: bool) -> Iterator[Path]:
    """Yield a folder to write into that becomes ``out`` if the block succeeds, and is removed if it fails.

    Raises:
        UserError: ``out`` is in use, and is not an earlier export that ``force`` replaces.
        Failure: the disk reports an error.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - a symlink keeps its name, to be refused
    if out in (Path(out.anchor), Path.cwd()):  # neither can be renamed under whoever stands in it
        raise UserError("invalid-output-name", f"{out}: give the name of a new folder in it")
    building, old = (out.with_name(f".{out.name}.{end}") for end in ("partial", "replaced"))
    with explain_disk_errors(out):
        if old.exists() and not out.exists():  # this was killed between two renames
            old.rename(out)
        earlier = force and exported.is_export(out)
        if earlier:
            exported.read_config(out)
        elif exported.is_export(out):
            raise UserError("output-exists", f"{out} exists; add --force to replace it, or choose another path")
        else:
            require_unused(out)
        for remains in (building, old):
            shutil.rmtree(remains, ignore_errors=True)
        building.mkdir(parents=True)
    try:
        yield building
        with explain_disk_errors(out):
            if earlier:
                out.rename(old)
            try:
                move_directory(building, out)
            except BaseException:
                if earlier:
                    old.rename(out)
                raise
    finally:
        for remains in (building, old):
            shutil.rmtree(remains, ignore_errors=True)
