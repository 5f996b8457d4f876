"""The command `cgan export RUN OUT`: write a trained generator for use elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.core import cli
from shards.core.cli import argument, option
from trainer.export.folder import write_folder
from trainer.export.onnx_file import write_onnx
from trainer.export.torch_program import write_torch_program
from trainer.generation.sampler import load
from trainer.run import hub

FORMATS: dict[str, Callable[..., object]] = {
    "safetensors": write_folder,
    "onnx": write_onnx,
    "torch-export": write_torch_program,
}


@dataclass(frozen=True)
class ExportOptions:
    """Export the averaged generator of a run, for use without the run, its dataset and this machine."""

    run: Path = argument("run directory, or an exported generator: a folder, or hf://user/name")
    out: Path = argument("what to write: a folder, a .onnx file, or a .pt2 file")
    to: str = option(
        "safetensors",
        "safetensors: a folder with weights, options and words, which `cgan sample` and trainer.load open anywhere; "
        "onnx: one file for ONNX runtimes; torch-export: one file that torch runs without this project",
        choices=tuple(FORMATS),
    )
    checkpoint: str | None = option(None, "images seen of the checkpoint to export, or best (default: the newest)")
    force: bool = option(False, "replace OUT: a file, or the folder of an earlier export")

    def __post_init__(self) -> None:
        """Check every value against its bounds."""
        cli.validate(self)


def main(argv: Sequence[str]) -> None:
    """Run `cgan export`.

    Raises:
        UserError: there is no such run or checkpoint, or OUT is in use; nothing has been written.
    """
    options = cli.parse(ExportOptions, argv, command="cgan export")
    source = hub.located(options.run)
    sampler = load(source, options.checkpoint, device="cpu")
    FORMATS[options.to](sampler, source, options.out, force=options.force)
    print(f"{options.out}: the generator at {sampler.saved.images_seen:,} images seen")
