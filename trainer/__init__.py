"""Train conditional GANs on packed datasets, generate images from phrases, and evaluate them.

    g = trainer.load("runs/first")
    images = g.sample("blue hair, long hair", count=4)

The names in ``__all__`` are the public API (docs/api.md). They are imported when they are first used: a training must
handle signals before the seconds that importing torch takes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.api import train
    from trainer.config import Config
    from trainer.evaluation.evaluate import evaluate
    from trainer.generation.sampler import Sampler, load
    from trainer.sampling.drawings import sample

__all__ = ["Config", "Sampler", "evaluate", "load", "sample", "train"]

_MODULES = {
    "Config": "trainer.config",
    "Sampler": "trainer.generation.sampler",
    "evaluate": "trainer.evaluation.evaluate",
    "load": "trainer.generation.sampler",
    "sample": "trainer.sampling.drawings",
    "train": "trainer.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(importlib.import_module(_MODULES[name]), name))


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
