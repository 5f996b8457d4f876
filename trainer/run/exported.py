"""Exported generators: folders that draw images anywhere, without the run, its dataset or its optimizer.

``OUT/`` holds the averaged weights (``model.safetensors``), ``schema.json`` and ``labels.safetensors`` as a run has
them, and ``config.json`` with the architecture, the options, where the images come from, a hash of each of these files
and one of itself. It has ``evaluation.json`` and ``lineage.json`` too if the run had them, and their hashes under
"records". Other files, such as a model card, do not matter. `trainer.export.folder` writes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from shards.core import format_version, self_hash, text_files
from shards.core.atomic_io import sha256, write_json
from shards.core.errors import UserError
from trainer.run import checkpoint, saved_state
from trainer.run.checkpoint import Checkpoint
from trainer.run.saved_state import SavedState

KIND = "cgan-trainer generator"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
FILES = (WEIGHTS, "schema.json", "labels.safetensors")
RECORDS = ("evaluation.json", "lineage.json")  # what is known of the generator; drawing does without

_MAX_CONFIG = 1 << 24  # bytes


@dataclass(frozen=True)
class ExportedGenerator(Checkpoint):
    """An exported generator whose files match their hashes: a checkpoint that has the average's weights only.

    Attributes:
        content: the content of its config.json.
    """

    content: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self.path

    @property
    def is_average(self) -> bool:
        """Always: an export has no discriminator."""
        return True

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Load the averaged weights, on the CPU.

        Raises:
            UserError: ``name`` is not "ema".
        """
        if name != "ema":
            raise UserError(
                "run-missing", f"{self.path} is an exported generator, without what a training needs; give a run"
            )
        return load_file(self.path / WEIGHTS)


def is_export(where: Path) -> bool:
    """Return whether a folder is meant to be an exported generator rather than a run."""
    return (where / CONFIG).is_file() and not (where / "checkpoints").is_dir()


def find(where: Path, which: str | None = None) -> Checkpoint:
    """Return the exported generator in a folder, or a checkpoint of a run (see `checkpoint.find`).

    Raises:
        UserError: there is no such generator or checkpoint.
    """
    if not is_export(where):
        return checkpoint.find(where, which)
    found = read(where)
    if which not in (None, "newest", str(found.images_seen)):
        raise UserError(
            "checkpoint-missing",
            f"{where} is an exported generator, of the checkpoint at {found.images_seen:,} images seen; give no other",
        )
    return found


def read(folder: Path) -> ExportedGenerator:
    """Open an exported generator and verify the hashes of all its files.

    Raises:
        UserError: the folder is not an export, is damaged, or has a later format.
    """
    content = read_config(folder)
    while True:
        try:
            return _checked(folder, content)
        except (OSError, ValueError) as error:
            before, content = content, read_config(folder)
            if content == before:  # otherwise a record was being replaced; see `changing_record`
                raise _damaged(folder, error) from None


def _checked(folder: Path, content: dict[str, Any]) -> ExportedGenerator:
    """Return the export with this config.json.

    Raises:
        OSError, ValueError: its files do not match it, or it has values that are not valid.
    """
    state = SavedState.from_json({"scaler": {}, **content})
    for name in ("dataset", "trained_with", "records"):
        if not isinstance(content.get(name, {}), dict):
            raise ValueError(f"{name} in {CONFIG} is not an object")
    _check_files(folder, content.get("sha256"), content.get("records", {}))
    return ExportedGenerator(folder, state, content)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of an export's config.json, after its hash was verified.

    Raises:
        UserError: see `read`.
    """
    try:
        content = text_files.read_json(folder / CONFIG, _MAX_CONFIG)
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise UserError(
                "not-an-export",
                f"{folder} is neither a run nor an exported generator: its {CONFIG} belongs to something else",
            )
        if self_hash.is_intact(content) is not True:
            raise ValueError(f"{CONFIG} does not match its hash")
        format_version.check(content, saved_state.FORMAT_VERSION, f"{folder} has export format")
    except text_files.UnreadableText as error:
        raise _damaged(folder, f"{CONFIG} {error}") from None
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from None
    return content


@contextlib.contextmanager
def changing_record(folder: Path, name: str) -> Iterator[None]:
    """Let the block replace a record of an export; the export can be opened at any moment. A run needs no such care.

    Raises:
        UserError: see `read_config`.
        Failure: the disk is full or not writable.
    """
    if not is_export(folder):
        yield
        return
    content = read_config(folder)
    records = {key: value for key, value in content.get("records", {}).items() if key != name}
    if records != content.get("records", {}):
        write_config(folder, content | {"records": records})  # until the hash is the new one, there is none
    yield
    write_config(folder, content | {"records": records | {name: sha256(folder / name)}})


def write_config(folder: Path, content: Mapping[str, Any]) -> None:
    """Write an export's config.json with its hash.

    Raises:
        Failure: the disk is full or not writable.
    """
    write_json(folder / CONFIG, self_hash.with_hash(dict(content)))


def _damaged(folder: Path, reason: object) -> UserError:
    return UserError(
        "export-damaged", f"the exported generator {folder} is damaged: {reason}; export or download it again"
    )


def _check_files(folder: Path, hashes: Any, records: Mapping[str, Any]) -> None:
    """Check that every file that drawing reads has a hash, and that these and the records match theirs."""
    if not isinstance(hashes, dict) or set(hashes) != set(FILES):
        raise ValueError(f"{CONFIG} has no hashes of {', '.join(FILES)}")
    known = {name: records[name] for name in RECORDS if name in records}  # a later version may have more
    for name, expected in (hashes | known).items():
        if sha256(folder / name) != expected:
            raise ValueError(f"{name} does not match its hash")
