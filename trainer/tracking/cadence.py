"""When something with a cadence happens: a function of images seen alone, so that a resumed run repeats it."""

from __future__ import annotations


def is_due(every: int | None, before: int, after: int, total: int, unit: int = 1) -> bool:
    """Return whether the step from ``before`` to ``after`` images crosses a multiple of ``every``, or ends the run.

    Args:
        every: the cadence in images; None: never.
        total: images of the whole run.
        unit: the clock ticks every so many images.
    """
    if every is None or after >= total:
        return every is not None
    return after // unit * unit // every > before // unit * unit // every
