"""The options of every command that draws: which checkpoint, with which text encoder, and on which device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.core.cli import option
from trainer.generation.sampler import Sampler, load


@dataclass(frozen=True)
class LoadOptions:
    """How the generator of a run is loaded."""

    checkpoint: str | None = option(None, "images seen of the checkpoint to load, or best (default: the newest)")
    text_encoder: str | None = option(
        None,
        "folder of the text encoder of the captions (default: the folder it had when the dataset was packed)",
        literal=True,
    )
    device: str = option("auto", "compute device", choices=("auto", "cpu", "cuda", "mps"))

    def open(self, run: Path) -> Sampler:
        """Load the generator of a run directory or an exported one. Raises as `trainer.generation.sampler.load`."""
        return load(run, self.checkpoint, self.device, self.text_encoder)
