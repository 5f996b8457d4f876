"""The legs, each trained by one command that resumes to any number of images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from other_methods import run_files

from trainer.run.checkpoint import directories

_BENCHMARKS = Path(__file__).resolve().parent.parent
_TRAINER = _BENCHMARKS.parent / "trainer" / "main.py"
_NEVER = 1_000_000_000
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
        whole: trained at once, as its learning rates fall towards its end, and evaluated at its checkpoints afterwards;
            others are trained from one evaluation to the next.
        other: trained by `other_run.py`, not a run of the trainer's.
        conditional: follows labels.
    """

    command: tuple[object, ...]
    size: int
    every: int
    row: int
    share: float = 1.0
    whole: bool = False
    other: bool = False
    conditional: bool = True

    @property
    def installed_apart(self) -> bool:
        """Whether it needs a package that no extra installs."""
        return "lightweight-gan" in self.command

    @property
    def evaluation(self) -> tuple[object, ...]:
        """Return the words of the command that evaluates a run, after the interpreter."""
        command = (_BENCHMARKS / "other_evaluation.py",) if self.other else ("-m", "trainer", "evaluate")
        return (*command, "--metrics", "fidelity,fid,prdc" if self.conditional else "fid,prdc")

    @property
    def saving(self) -> tuple[object, ...]:
        """Return the options that save a generator for each evaluation, not only at the end of a piece."""
        return ("--checkpoint-every", self.every, "--keep", 1_000) if self.whole else ()

    def saved(self, run: Path) -> list[int]:
        """Return the images seen by each generator that a run has saved, in ascending order."""
        if self.other:
            return [seen] if (seen := run_files.images_seen(run)) else []
        return [int(path.name) for path in directories(run)]

    def next_end(self, seen: int, images: float) -> int:
        """Return the images seen at which the next piece of a run ends.

        Args:
            seen: by the run so far.
            images: that fit into the leg's time.
        """
        return self.every * (math.ceil(images / self.every) if self.whole else seen // self.every + 1)


def _ours(words: str, size: int, every: int, row: int, share: float = 1.0, *, whole: bool = False) -> Leg:
    command = (_TRAINER, *words.split(), "--log-with", "none", "--grid-every", _NEVER, "--checkpoint-every", _NEVER)
    return Leg(command, size, every, row, share, whole)


def _other(method: str, size: int, every: int, row: int, share: float = 1.0, *, conditional: bool = True) -> Leg:
    return Leg(
        (_BENCHMARKS / "other_run.py", "--method", method), size, every, row, share, other=True, conditional=conditional
    )


# As the older preset faces64, from which this leg was measured, but for learning rates and gamma.
_RESIDUAL96 = "--batch 32 --wrong hard --ema-half-life 10000 --lr-g 5e-4 --lr-d 5e-4 --gamma 2"

LEGS = {
    PUBLISHED: Leg((_BENCHMARKS / "published_run.py",), 96, 480, 32),
    "article96": _ours("--preset article96", 96, 1_600, 64),
    "article96-modern": _ours("--preset article96-modern", 96, 1_600, 256),
    "residual96": _ours(f"--family residual {_RESIDUAL96}", 96, 3_200, 512),
    "residual32": _ours("--preset faces32 --family residual", 32, 12_800, 2_048, 0.4, whole=True),
    "faces32": _ours("--preset faces32", 32, 6_400, 512, 0.4, whole=True),
    "flow-matching32": _other("flow-matching", 32, 6_400, 512, 0.4),
    "lightweight-gan32": _other("lightweight-gan", 32, 40, 40, 0.4, conditional=False),
    "faces64": _ours("--preset faces64", 64, 6_400, 256, whole=True),
    "faces96": _ours("--preset faces96", 96, 3_200, 256, whole=True),
    "flow-matching64": _other("flow-matching", 64, 6_400, 256),
    "lightweight-gan64": _other("lightweight-gan", 64, 40, 40, conditional=False),
}
