"""Read and check the manifest.json of a dataset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shards.core import format_version, text_files
from shards.core.errors import UserError

FORMAT_VERSION = 3  # 2: labels.npy may be uint8, and wide labels are not repeated in the tars; 3: channels, aspect
MANIFEST = "manifest.json"

_SHARD_NAME = re.compile(r"[^/\\\0]{1,251}\.tar")
_MAX_COUNT = 1 << 53  # of bytes or samples in a manifest


def written_version(fields: dict[str, Any]) -> int:
    """Return the format version of a manifest with these fields: the oldest that can express them."""
    return FORMAT_VERSION if "channels" in fields or "aspect" in fields else 2


def require_manifest(manifest: Path, where: str) -> None:
    """Check that a manifest exists.

    Raises:
        UserError: it does not; the message says how to make a dataset.
    """
    if not manifest.is_file():
        what = "no such directory" if not manifest.parent.exists() else f"no {MANIFEST}"
        raise UserError(
            "dataset-missing", f"{where} is not a packed dataset ({what}); make one with: cgan pack IMAGES {where}"
        )


def read_manifest(folder: Path, name: str) -> dict[str, Any]:
    """Return the manifest of the dataset in a directory, with every field that reading relies on checked.

    Args:
        name: the name of the directory in messages.

    Raises:
        UserError: there is no manifest, a newer version wrote it, or a field is not valid.
    """
    require_manifest(folder / MANIFEST, name)
    where = f"{name}/{MANIFEST}"
    try:
        manifest = text_files.read_json(folder / MANIFEST)
    except (OSError, ValueError) as error:
        raise UserError("manifest-invalid", f"{where}: cannot be read ({error}); pack the dataset again") from None
    try:
        format_version.check(manifest, FORMAT_VERSION, f"{where} has dataset format")
    except ValueError as error:
        raise UserError("manifest-invalid", f"{where}: not the manifest of a dataset ({error})") from None
    for key in ("picture_size", "samples"):
        if not is_count(manifest.get(key), 1):
            value = short_repr(manifest.get(key))
            raise UserError("manifest-invalid", f"{where}: {key} must be a whole number above 0, not {value}")
    shards = manifest.get("shards")
    if not isinstance(shards, list) or not shards:
        raise UserError("manifest-invalid", f"{where}: it lists no shards")
    names: set[str] = set()
    for shard in shards:
        if error := shard_record_error(shard, names):
            raise UserError("manifest-invalid", f"{where}: {error}")
        names.add(shard["file"])
    if (total := sum(shard["samples"] for shard in shards)) != manifest["samples"]:
        raise UserError(
            "manifest-invalid", f"{where}: the shards contain {total} samples, and it says {manifest['samples']}"
        )
    return manifest


def shard_record_error(record: Any, names: set[str]) -> str | None:
    """Return what is wrong with the record of a shard, as a clause; None if it is valid.

    Args:
        names: the shards listed before it.
    """
    name = record.get("file") if isinstance(record, dict) else None
    if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name) or not name.isprintable():
        return f"{short_repr(name)} is not a shard's name; it must be a .tar in the directory of the dataset"
    if name in names:
        return f"it lists {name} twice"
    counts = (record.get("samples"), record.get("bytes"))
    if not (isinstance(record.get("sha256"), str) and all(is_count(count, 0) for count in counts)):
        return f"shard {name} needs samples, bytes and sha256"
    return None


def is_count(value: Any, minimum: int) -> bool:
    """Return whether a value is a whole number from ``minimum`` to 2⁵³."""
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= _MAX_COUNT


def short_repr(value: Any) -> str:
    """Return a value for a message, shortened to 60 letters."""
    try:
        return repr(value)[:60]
    except (ValueError, RecursionError):
        return "a value that cannot be shown"
