"""Progress of a leg: its clock, and the results at its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.run import evaluation_file

Figures = Mapping[str, float]
_HAIR = "fidelity/hair"
_RIGHT = (_HAIR, "fidelity/hair (long/short/tied)", "fidelity/eyes")
_LIKENESS = ("precision", "recall", "coverage")
_COLUMNS = (
    *("leg", "pixels", "images/s", "minutes", "images", "hair, %", "length, %", "eyes, %"),
    *("FID", "precision, %", "recall, %", "coverage, %", "minutes to hair 50 %", "ms per generated image"),
)


@dataclass(frozen=True)
class Course:
    """The progress of one leg.

    Attributes:
        images_seen: by its newest checkpoint.
        pace: seconds that an image takes.
        evaluated: figures by images seen.
    """

    images_seen: int
    pace: float
    evaluated: Mapping[int, Figures]

    @property
    def seconds(self) -> float:
        """Return the clock at the newest checkpoint."""
        return self.seconds_at(self.images_seen)

    def seconds_at(self, images_seen: int) -> float:
        """Return the clock at a number of images."""
        return self.pace * images_seen

    def to_json(self) -> dict[str, Any]:
        """Return all results as plain values."""
        return {"seconds_an_image": self.pace, "figures": {str(n): dict(f) for n, f in self.evaluated.items()}}


def course_of(run: Path, seen: int, pace: float) -> Course:
    """Return the progress of a run at ``seen`` images; 0 if it has not started."""
    if not seen:
        return Course(0, pace, {})
    found = {n: entries[-1]["figures"] for n, entries in evaluation_file.read(run).items() if entries}
    return Course(seen, pace, found)


def first_right(course: Course, share: float = 0.5) -> float | None:
    """Return the clock at the first checkpoint with that fraction of hair colours right; None if there is none."""
    return next((course.seconds_at(n) for n, f in sorted(course.evaluated.items()) if f.get(_HAIR, 0.0) >= share), None)


def table(courses: Mapping[str, tuple[int, Course]], sampling: Mapping[str, float]) -> Iterator[str]:
    """Return the lines of a Markdown table, one row per leg: its end, and when half of its hair colours were right.

    Args:
        courses: size and course of each leg, evaluated at least once.
        sampling: seconds that each takes to generate an image.
    """
    yield f"| {' | '.join(_COLUMNS)} |"
    yield f"|{'---|' * len(_COLUMNS)}"
    for name, (size, course) in courses.items():
        last = max(course.evaluated)
        figures, first = course.evaluated[last], first_right(course)
        right = [f"{100 * figures[key]:.0f}" if key in figures else "–" for key in _RIGHT]  # –: the judge is too weak
        like = [f"{100 * figures[key]:.1f}" if key in figures else "–" for key in _LIKENESS]
        cells = [f"{course.seconds_at(last) / 60:.1f}", f"{last:,}", *right, f"{figures['fid']:,.0f}", *like]
        reached = "not reached" if first is None else f"{first / 60:.1f}"
        drawn = _three_digits(1000 * sampling[name]) if name in sampling else "–"
        yield f"| {' | '.join([name, str(size), _three_digits(1 / course.pace), *cells, reached, drawn])} |"


def _three_digits(value: float) -> str:
    return f"{float(f'{value:.3g}'):g}"
