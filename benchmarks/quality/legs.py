"""The legs, each trained by one command that resumes to any number of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from other_methods import run_files

from shards.core.errors import UserError
from trainer.run.checkpoint import find

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
        other: trained by `other_run.py`, not a run of the trainer's.
        conditional: follows labels.
    """

    command: tuple[object, ...]
    size: int
    every: int
    row: int
    share: float = 1.0
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

    def images_seen(self, run: Path) -> int:
        """Return the images seen by what a run has saved; 0 if it has not started."""
        if self.other:
            return run_files.images_seen(run)
        try:
            return find(run).images_seen
        except UserError:
            return 0


def _ours(words: str, size: int, every: int, row: int, share: float = 1.0) -> Leg:
    return Leg((_TRAINER, *words.split(), *_LOG.split()), size, every, row, share)


def _other(method: str, size: int, every: int, row: int, share: float = 1.0, *, conditional: bool = True) -> Leg:
    return Leg(
        (_BENCHMARKS / "other_run.py", "--method", method), size, every, row, share, other=True, conditional=conditional
    )


LEGS = {
    PUBLISHED: Leg((_BENCHMARKS / "published_run.py",), 96, 480, 32),
    "article96": _ours("--preset article96", 96, 1_600, 64),
    "article96-modern": _ours("--preset article96-modern", 96, 1_600, 256),
    "residual96": _ours("--preset faces64 --family residual --lr-g 5e-4 --lr-d 5e-4 --gamma 2", 96, 3_200, 512),
    # They are trained in pieces, each with a larger --total-images, so every piece would end with a cooldown.
    "residual32": _ours("--preset faces32 --family residual --cooldown 0", 32, 12_800, 2_048, 0.4),
    "faces32": _ours("--preset faces32 --cooldown 0", 32, 6_400, 512, 0.4),
    "flow-matching32": _other("flow-matching", 32, 6_400, 512, 0.4),
    "lightweight-gan32": _other("lightweight-gan", 32, 40, 40, 0.4, conditional=False),
    "faces64": _ours("--preset faces64 --cooldown 0", 64, 6_400, 256),
    "flow-matching64": _other("flow-matching", 64, 6_400, 256),
    "lightweight-gan64": _other("lightweight-gan", 64, 40, 40, conditional=False),
}
