"""What manifest.json of a data set must say for the data set to be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from shards.core.errors import UserError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

_SHARD_NAME = re.compile(r"[^/\\\0]{1,251}\.tar")
_MOST = 1 << 53  # bytes or samples that a manifest can speak of


def require_manifest(manifest: Path, where: str) -> None:
    """Make sure that a manifest is there.

    Raises:
        UserError: it is not; the sentence tells how to make a data set.
    """
    if not manifest.is_file():
        what = "no such folder" if not manifest.parent.exists() else f"there is no {MANIFEST} in it"
        raise UserError(
            f"{where} is not a packed data set ({what}); make one with: python -m shards pack PICTURES {where}"
        )


def read_manifest(folder: Path, place: str) -> dict[str, Any]:
    """The manifest of the data set in a folder, with every field that reading relies on checked.

    Args:
        place: how messages name the folder.

    Raises:
        UserError: there is none, a newer version wrote it, or a field does not fit.
    """
    require_manifest(folder / MANIFEST, place)
    where = f"{place}/{MANIFEST}"
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: cannot be read ({error}); pack the data set again") from None
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version is None or not whole(version, 1):
        raise UserError(f"{where}: not a data set's manifest (it has no format_version)")
    if version > FORMAT_VERSION:
        raise UserError(f"{where}: format version {version}, and this program knows up to {FORMAT_VERSION}; update it")
    for key in ("picture_size", "samples"):
        if not whole(manifest.get(key), 1):
            raise UserError(f"{where}: {key} must be a whole number above 0, not {shown(manifest.get(key))}")
    shards = manifest.get("shards")
    if not isinstance(shards, list) or not shards:
        raise UserError(f"{where}: it lists no shards")
    names: set[str] = set()
    for shard in shards:
        if wrong := wrong_shard(shard, names):
            raise UserError(f"{where}: {wrong}")
        names.add(shard["file"])
    if (total := sum(shard["samples"] for shard in shards)) != manifest["samples"]:
        raise UserError(f"{where}: the shards hold {total} samples and the manifest says {manifest['samples']}")
    return manifest


def wrong_shard(record: Any, names: set[str]) -> str | None:
    """What is wrong with the record of a shard, in a clause; None if nothing is.

    Args:
        names: shards that the manifest has listed before.
    """
    name = record.get("file") if isinstance(record, dict) else None
    if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name) or not name.isprintable():
        return f"{shown(name)} is not a shard's name; it must be a .tar in the data set's own folder"
    if name in names:
        return f"it lists {name} twice"
    hashed = isinstance(record.get("sha256"), str)
    if not (hashed and whole(record.get("samples"), 0) and whole(record.get("bytes"), 0)):
        return f"shard {name} needs samples, bytes and sha256"
    return None


def whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number, from ``least`` to what a manifest can speak of."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST


def shown(value: Any) -> str:
    """A value for a sentence, however long it is."""
    try:
        return repr(value)[:60]
    except (ValueError, RecursionError):
        return "what it holds"
