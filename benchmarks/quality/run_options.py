"""Options that all runs of another training loop have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.core import cli
from shards.core.cli import option, seed_option


@dataclass(frozen=True)
class RunOptions:
    """The dataset, the length and the start of a run."""

    shards: Path = option(Path("data"), "dataset")
    total_images: int = option(16_000, "total number of training images", minimum=1)
    seed: int = seed_option("seed of weights, noise and sample order")
    threads: int = option(0, "CPU threads; 0: PyTorch's default", minimum=0)

    def __post_init__(self) -> None:
        """Validate the values."""
        cli.validate(self)
