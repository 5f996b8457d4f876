"""Datasets: pack images and tags into WebDataset tars with an index, and stream batches from them.

    data = shards.open("data/mine")
    data[17].image, data[17].words

The names in ``__all__`` are the public API (docs/api.md); they are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shards.core.version import __version__ as __version__

if TYPE_CHECKING:
    from shards.api import open, pack
    from shards.dataset.dataset import Dataset
    from shards.dataset.schema import Schema

__all__ = ["Dataset", "Schema", "open", "pack"]

_MODULES = {
    "Dataset": "shards.dataset.dataset",
    "Schema": "shards.dataset.schema",
    "open": "shards.api",
    "pack": "shards.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(importlib.import_module(_MODULES[name]), name))


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
