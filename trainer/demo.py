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
from trainer.presets import PRESETS
from trainer.sizing.rule import MEASURED

_REPOSITORY = Path(__file__).resolve().parent.parent
_MINUTES = 10.0  # of training
_SIZE, _PRESET = 32, "faces32"  # unless others are asked for; the preset has networks for all sizes
SIZES = (16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class DemoOptions:
    """Draw labelled faces, pack them, train a generator and sample from it; existing results are reused."""

    folder: Path = option(Path("demo"), "output folder")
    count: int = option(6_000, "number of faces to draw", minimum=64)
    size: int | None = option(
        None,
        f"height and width of the images in pixels: {', '.join(map(str, SIZES))} (default: {_SIZE}, or as in --folder)",
    )
    preset: str | None = option(
        None,
        "preset to train with (default: the one for faces of this size, 32, 64 or 96; for other sizes faces32)",
        choices=tuple(PRESETS),
    )
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
        if self.size is not None and self.size not in SIZES:
            raise UserError("invalid-value", f"--size must be one of {', '.join(map(str, SIZES))}, not {self.size}")
        if self.minutes is not None and self.total_images is not None:
            raise UserError(
                "option-conflict", "--minutes and --total-images both say how long to train; omit one of them"
            )

    @property
    def length(self) -> tuple[object, ...]:
        """The option that says how long to train."""
        if self.total_images is not None:
            return "--total-images", self.total_images
        return "--minutes", self.minutes or _MINUTES

    @property
    def same(self) -> list[str]:
        """The words with which another call finds the folder and trains the preset of this one."""
        folder = [] if self.folder == Path("demo") else ["--folder", str(self.folder)]
        return folder + ([] if self.preset is None else ["--preset", self.preset])


def size_of(options: DemoOptions) -> int:
    """Return the size of the images in pixels.

    Raises:
        UserError: --size is another one than that of the dataset in --folder.
    """
    data = options.folder / "data"
    if not (data / "manifest.json").exists():
        return options.size or _SIZE
    there = Dataset.open(data).size
    if options.size not in (None, there):
        raise UserError(
            "wrong-dataset",
            f"{data} has images of {there} pixels; omit --size {options.size}, or give another --folder",
        )
    return there


def hair_colours(data: Path) -> tuple[str, ...]:
    """Return the words that the demo draws.

    Raises:
        UserError: the dataset has none; it is not the demo's.
    """
    for attribute in Dataset.open(data).schema.attributes:
        if attribute.name == "hair":
            return attribute.values
    raise UserError(
        "wrong-dataset", f"{data} has no attribute 'hair', so it is not a dataset of the demo; give another --folder"
    )


def preset_for(size: int) -> str:
    """Return the preset whose networks were chosen for images of ``size``, or one that fits other sizes."""
    return next((preset for preset, pixels in MEASURED.items() if pixels == size), _PRESET)


def main(argv: Sequence[str]) -> None:
    """Run `cgan demo`.

    Raises:
        UserError: an option is invalid, or --folder has images of another size.
        Failure: a step failed and has printed why.
    """
    options = cli.parse(DemoOptions, argv, command="cgan demo")
    started = time.monotonic()
    faces, data, run = options.folder / "faces", options.folder / "data", options.folder / "run"
    size = size_of(options)
    preset = options.preset or preset_for(size)
    if not (faces / "tags.csv").exists():
        _python("-m", "shards", "faces", faces, "--count", options.count, "--size", size)
    if not (data / "manifest.json").exists():
        _python("-m", "shards", "pack", faces, data, "--size", size)
    colours = hair_colours(data)
    _launch("--shards", data, "--preset", preset, "--run", run, *options.length)

    grid = run / "hair-colours.png"
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
        f"  {cgan} demo {shlex.join([*options.same, '--minutes', '30'])}   (continues training)\n"
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
