"""Files of image sources: images, folders, zips, tars and Parquet tables with any content."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shards.sources import registry
from shards.sources.item import Item, Source
from shards.sources.options import ScanOptions

Files = Mapping[str, str | bytes]  # name → content

CAPTIONS = ("A red fox sits in the snow.", "Two wolves are running over a frozen lake, and one howls.")


def scan_source(src: Path, source: str = "auto", **options: Any) -> Source:
    """Scan a source with the given options."""
    return registry.scan_source(src, ScanOptions(source=source, **options))


def png_bytes(shade: int = 200, side: int = 4) -> bytes:
    """Return a PNG of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), (shade, 30, 30)).save(out, "PNG")
    return out.getvalue()


def png_files(*names: str) -> dict[str, str | bytes]:
    """Return PNGs of these names."""
    return {name: png_bytes() for name in names}


def npy_bytes(values: Any) -> bytes:
    """Return values as a .npy file."""
    out = io.BytesIO()
    np.save(out, np.asarray(values), allow_pickle=False)
    return out.getvalue()


def write_files(folder: Path, files: Files) -> Path:
    """Write files into a folder, which is made if necessary, and return the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def write_zip(path: Path, files: Files, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip and return its path."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Files) -> Path:
    """Write a tar and return its path."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None) -> Path:
    """Write a Parquet file with row groups of two rows, and features as Hugging Face notes them; return its path."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=2)
    return path


def merged(*files: Files) -> dict[str, str | bytes]:
    """Return all files in the order of their names, as the samples of a tar need it."""
    return dict(sorted((name, data) for some in files for name, data in some.items()))


def by_id(source: Source) -> dict[str, Item]:
    """Return the items of a source by id; ids must be unique."""
    assert len({item.id for item in source.items}) == len(source.items)
    return {item.id: item for item in source.items}


def tags_by_id(source: Source) -> dict[str, tuple[str, ...] | None]:
    """Return the tags of all items by id."""
    return {id: item.tags for id, item in by_id(source).items()}
