"""The legs, each trained by one command that resumes to any number of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_BENCHMARKS = Path(__file__).resolve().parent.parent
_TRAINER = _BENCHMARKS.parent / "trainer" / "main.py"
_LOG = "--log-with none --checkpoint-every 1000000000 --grid-every 1000000000 --keep 1"
PUBLISHED = "published"


@dataclass(frozen=True)
class Leg:
    """A way of training.

    Attributes:
        command: words that train it, after the interpreter.
        size: height and width of its images in pixels.
        every: images between two evaluations.
        row: images of a line of log where its pace is measured.
        share: fraction of --minutes.
    """

    command: tuple[object, ...]
    size: int
    every: int
    row: int
    share: float = 1.0


def _ours(words: str, size: int, every: int, row: int, share: float = 1.0) -> Leg:
    return Leg((_TRAINER, *words.split(), *_LOG.split()), size, every, row, share)


LEGS = {
    PUBLISHED: Leg((_BENCHMARKS / "published_run.py",), 96, 480, 32),
    "article96": _ours("--preset article96", 96, 1_600, 64),
    "article96-modern": _ours("--preset article96-modern", 96, 1_600, 256),
    "residual96": _ours("--preset faces64 --family residual --lr-g 5e-4 --lr-d 5e-4 --gamma 2", 96, 3_200, 512),
    # They are trained in pieces, each with a larger --total-images, so every piece would end with a cooldown.
    "residual32": _ours("--preset faces32 --family residual --cooldown 0", 32, 12_800, 2_048, 0.4),
    "r3gan32": _ours("--preset faces32 --cooldown 0", 32, 6_400, 1_024, 0.4),
}
