"""The whole way on a small example: faces, pack, train, sample; each step a command that a person could have typed."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.core import cli
from shards.core.cli import option
from shards.core.errors import Failure
from shards.dataset.dataset import Dataset

_REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class DemoOptions:
    """Draw labelled faces, pack them, train a generator and draw from it; what is there already is used again."""

    folder: Path = option(Path("demo"), "where everything goes")
    count: int = option(6_000, "faces to draw", minimum=64)
    size: int = option(32, "their side in pixels", minimum=16)
    preset: str = option("faces32", "preset to train with")
    total_images: int | None = option(None, "images to train on; the preset decides if not given", minimum=1)

    def __post_init__(self) -> None:
        """Hold the values against their bounds."""
        cli.validate(self)


def main(argv: Sequence[str]) -> None:
    """`python -m trainer demo`.

    Raises:
        Failure: a step failed; it has said why.
    """
    asked = cli.parse(DemoOptions, argv, command="python -m trainer demo")
    started = time.monotonic()
    faces, data, run = asked.folder / "faces", asked.folder / "data", asked.folder / "run"
    if not (faces / "tags.csv").exists():
        _python("-m", "shards", "faces", faces, "--count", asked.count, "--size", asked.size)
    if not (data / "manifest.json").exists():
        _python("-m", "shards", "pack", faces, data, "--size", asked.size)
    length = ("--total-images", asked.total_images) if asked.total_images else ()
    _launch("--shards", data, "--preset", asked.preset, "--run", run, *length)

    grid = run / "hair-colours.png"
    colours = next(a.values for a in Dataset.open(data).schema.attributes if a.name == "hair")
    _python("-m", "trainer", "sample", run, *colours, "--count", 8, "--out", grid)
    minutes = (time.monotonic() - started) / 60
    print(
        f"\nDone in {minutes:.1f} minutes. Look at\n"
        f"  {grid}   what the generator draws, a row a hair colour\n"
        f"  {run / 'report.html'}   the run's curves and grids, in a browser\n"
        "Try next\n"
        f'  {_shown(sys.executable)} -m trainer sample {run} "blue long hair and yellow eyes" --out blue.png\n'
        f"  {_shown(sys.executable)} -m trainer demo --total-images 200000   (goes on training from here)\n"
        "  your own pictures: docs/data.md"
    )


def _launch(*words: object) -> None:
    config = _REPOSITORY / "accelerate_config.yaml"
    _python("-m", "accelerate.commands.launch", "--config_file", config, _REPOSITORY / "trainer" / "main.py", *words)


def _python(*words: object) -> None:
    command = [sys.executable, *map(str, words)]
    print(f"\n$ {shlex.join([_shown(sys.executable), *command[1:]])}", flush=True)
    status = subprocess.call(command)
    if status:
        raise Failure(f"that step ended with status {status}; the same command goes on from what is done")


def _shown(path: str) -> str:
    """A path under this folder in its short form."""
    here = str(Path.cwd()) + "/"
    return path.removeprefix(here)
