"""Functions of the public API: `shards.open` and `shards.pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shards.core import cli
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.remote.cache import LIMIT

_LARGEST_CACHE = 1_000_000  # GB; a larger number was meant as bytes


def open(where: str | Path, *, cache: str | Path | None = None, cache_limit: float = LIMIT / 1e9) -> Dataset:
    """Open a packed dataset for reading: ``len(data)``, ``data[17].image``, ``data.schema``.

    Args:
        where: a directory, or a URL (https://, s3://, gs://, or any other protocol of fsspec).
        cache: directory to copy shards to as they are read. URLs always have one (default:
            ~/.cache/cgan-trainer/shards); a directory has one only if it is given.
        cache_limit: size of the cache in GB; the least recently used shards are removed.

    Raises:
        UserError: there is no dataset, it is incomplete, or a newer version wrote it; or the size is not one.
        Failure: the server does not answer.
    """
    return Dataset.open(where, cache=None if cache is None else Path(cache), limit_bytes=_bytes(cache_limit))


def _bytes(gigabytes: float) -> int:
    if not 0 < gigabytes <= _LARGEST_CACHE:
        raise UserError(
            "invalid-value", f"cache_limit={gigabytes:g}: not a size in GB above 0 and at most {_LARGEST_CACHE:,}"
        )
    return int(gigabytes * 1e9)


def pack(src: str | Path, out: str | Path, **options: Any) -> Dataset:
    """Pack tagged images into a dataset, as `cgan pack` does, and return the dataset opened.

    A call that was interrupted resumes when it is repeated. It starts worker processes unless ``workers=1``:
    in a script, call it under ``if __name__ == "__main__":``.

    Args:
        src: directory (or zip, parquet or tar file) of images and their tags.
        out: directory to create; it must be empty or not exist.
        options: the options of `cgan pack` with underscores, such as ``size=64`` or ``validation=0.1``.

    Raises:
        UserError: an option is unknown or not valid, ``src`` has no usable images, or ``out`` is not empty.
        Failure: the disk is full or a worker process was killed.
    """
    from shards.packing.pack import Pack
    from shards.packing.pack import pack as pack_dataset

    known = list(cli.interface(Pack).fields)
    if strange := next((name for name in options if name not in known), None):
        raise UserError("unknown-option", cli.unknown_option(strange, known, ""))
    options = {"src": src, "out": out, **options}
    chosen = cli.make(Pack, {name: cli.coerce(Pack, name, value) for name, value in options.items()})
    if chosen.part is not None:
        raise UserError("option-without-effect", "part: jobs that share the work use `cgan pack --part I/N`; omit it")
    return pack_dataset(chosen)
