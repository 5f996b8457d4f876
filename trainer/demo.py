"""Run the whole workflow on a small example, from faces to a playground; each step is an ordinary command."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.core import cli
from shards.core.cli import option
from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset

_REPOSITORY = Path(__file__).resolve().parent.parent
_MINUTES = 10.0  # of training
_PRESETS = {32: "faces32", 64: "faces64", 96: "faces96"}  # size of the images in pixels -> preset


@dataclass(frozen=True)
class DemoOptions:
    """Draw labelled faces, pack them, train a generator and sample from it; existing results are reused."""

    folder: Path = option(Path("demo"), "output folder")
    count: int = option(6_000, "number of faces to draw", minimum=64)
    size: int = option(32, "height and width of the images in pixels", minimum=16)
    preset: str = option("", "preset to train with (default: faces32, faces64 or faces96, by --size)")
    minutes: float | None = option(
        None, f"minutes to train for (default: {_MINUTES:g}, unless --total-images is given)", above=0
    )
    total_images: int | None = option(None, "number of training images, in place of --minutes", minimum=1)

    def __post_init__(self) -> None:
        """Validate the values.

        Raises:
            UserError: a value is out of bounds, or the training has two lengths.
        """
        cli.validate(self)
        if self.minutes is not None and self.total_images is not None:
            raise UserError(
                "option-conflict", "--minutes and --total-images both say how long to train; omit one of them"
            )

    @property
    def training_preset(self) -> str:
        """The preset to train with, if none is given that of the size that --size reaches."""
        return self.preset or _PRESETS[max((size for size in _PRESETS if size <= self.size), default=min(_PRESETS))]

    @property
    def length(self) -> tuple[object, ...]:
        """The option that says how long to train."""
        if self.total_images is not None:
            return "--total-images", self.total_images
        return "--minutes", self.minutes or _MINUTES


def main(argv: Sequence[str]) -> None:
    """Run `cgan demo`.

    Raises:
        Failure: a step failed and has printed why.
    """
    options = cli.parse(DemoOptions, argv, command="cgan demo")
    started = time.monotonic()
    faces, data, run = options.folder / "faces", options.folder / "data", options.folder / "run"
    if not (faces / "tags.csv").exists():
        _python("-m", "shards", "faces", faces, "--count", options.count, "--size", options.size)
    if not (data / "manifest.json").exists():
        _python("-m", "shards", "pack", faces, data, "--size", options.size)
    _launch("--shards", data, "--preset", options.training_preset, "--run", run, *options.length)

    grid = run / "hair-colours.png"
    colours = next(a.values for a in Dataset.open(data).schema.attributes if a.name == "hair")
    _python("-m", "trainer", "sample", run, *colours, "--count", 8, "--out", grid)
    _python("-m", "trainer", "playground", run, "--title", "Faces by words")
    minutes = (time.monotonic() - started) / 60
    cgan = "cgan" if shutil.which("cgan") else f"{_shown(sys.executable)} -m trainer"
    print(
        f"\nDone in {minutes:.1f} minutes. Open\n"
        f"  {grid}   generated images, one row per hair colour\n"
        f"  {run / 'report.html'}   the run's curves and grids, in a browser\n"
        f"  {run / 'playground.html'}   draw by words, in a browser\n"
        "Try next\n"
        f'  {cgan} sample {run} "blue long hair and yellow eyes" --out blue.png\n'
        f"  {cgan} demo --minutes 30   (continues training)\n"
        "  your own images: docs/data.md"
    )


def _launch(*words: object) -> None:
    config = _REPOSITORY / "accelerate_config.yaml"
    _python("-m", "accelerate.commands.launch", "--config_file", config, _REPOSITORY / "trainer" / "main.py", *words)


def _python(*words: object) -> None:
    command = [sys.executable, *map(str, words)]
    print(f"\n$ {shlex.join([_shown(sys.executable), *command[1:]])}", flush=True)
    status = subprocess.call(command)
    if status:
        raise Failure(
            "process-failed", f"the step above exited with status {status}; re-run the same command to resume"
        )


def _shown(path: str) -> str:
    """Return a path below the working directory as a relative path."""
    folder = str(Path.cwd()) + "/"
    return path.removeprefix(folder)
