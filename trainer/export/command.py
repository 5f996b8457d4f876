"""The command `cgan export RUN OUT`: write a trained generator for use elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.core import cli
from shards.core.cli import argument, option
from trainer.export.folder import write_folder
from trainer.generation.sampler import Sampler, load

# Format -> writes a generator to OUT, from its run or earlier export, replacing an earlier export if forced to.
FORMATS: dict[str, Callable[[Sampler, Path, Path, bool], object]] = {
    "safetensors": lambda sampler, source, out, force: write_folder(sampler, source, out, force=force),
}


@dataclass(frozen=True)
class ExportOptions:
    """Export the averaged generator of a run, for use without the run, its dataset and this machine."""

    run: Path = argument("run directory, or the folder of an exported generator")
    out: Path = argument("what to write: a folder")
    to: str = option(
        "safetensors",
        "safetensors: a folder with weights, options and words, which `cgan sample` and trainer.load open anywhere",
        choices=tuple(FORMATS),
    )
    checkpoint: str | None = option(None, "images seen of the checkpoint to export, or best (default: the newest)")
    force: bool = option(False, "replace OUT if it is an earlier export")

    def __post_init__(self) -> None:
        """Check every value against its bounds."""
        cli.validate(self)


def main(argv: Sequence[str]) -> None:
    """Run `cgan export`.

    Raises:
        UserError: there is no such run or checkpoint, or OUT is in use; nothing has been written.
    """
    options = cli.parse(ExportOptions, argv, command="cgan export")
    sampler = load(options.run, options.checkpoint, device="cpu")
    FORMATS[options.to](sampler, options.run, options.out, options.force)
    print(f"{options.out}: the generator at {sampler.saved.images_seen:,} images seen")
