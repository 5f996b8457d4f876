"""The content of the dashboard as data: sections of panels. Metric keys are those of `trainer.metric_names`."""

from __future__ import annotations

from dataclasses import dataclass

from trainer import metric_names as names

CLOCK = names.CLOCK
TIME = "RelativeTime(Wall)"  # W&B's name for the seconds since the start of a run

_GPUS = range(8)  # of one machine, as W&B numbers them; a panel leaves out what a run does not have


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A line plot over ``x`` of the named keys, or of all keys that match a pattern.

    Attributes:
        smooth: smoothing factor in [0, 1); 0: none. Losses are logged for single batches, so they are noisy.
        low, high: limits of the y axis; None: automatic.
    """

    title: str
    keys: tuple[str, ...] = ()
    pattern: str | None = None
    x: str = CLOCK
    smooth: float = 0.0
    logarithmic: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A bar plot of the latest value of each run."""

    title: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Images:
    """Logged images, with a slider over the steps at which they were logged."""

    title: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text in Markdown."""

    title: str
    text: str


Panel = Lines | Bars | Images | Text


@dataclass(frozen=True, kw_only=True)
class Section:
    """Panels under a heading; ``unfolded``: open at first."""

    name: str
    panels: tuple[Panel, ...]
    columns: int = 3
    unfolded: bool = True


_ADVICE = f"""\
The trainer prints a warning with the option to change when a problem persists. It watches:

- `{names.LOSS_D}` near 0 with `{names.LOGIT_REAL}` far above `{names.LOGIT_FAKE}`: the discriminator
  classifies every image with certainty, so the generator learns little
- `{names.GRAD_G}` far below its usual size: the generator's gradient has vanished
- `{names.SPREAD}` near 0 (1: as diverse as real images): mode collapse, generated images are nearly identical
- `{names.VARIETY}` near 0 (1: as different as real images): images of one label are nearly identical
- `{names.SKIPPED}` rising: gradients were not finite; such steps are skipped
"""

SECTIONS = (
    Section(
        name="Losses",
        panels=(
            Lines(title="losses of both networks", keys=(names.LOSS_D, names.LOSS_G), smooth=0.6),
            Lines(title="images with wrong labels (mismatch loss)", keys=(names.LOSS_MISMATCH,), smooth=0.6),
            Lines(
                title="discriminator logits: real and generated",
                keys=(names.LOGIT_REAL, names.LOGIT_FAKE),
                smooth=0.6,
            ),
            Lines(title="gradient norms", keys=(names.GRAD_D, names.GRAD_G), smooth=0.6, logarithmic=True),
            Lines(title="R1 + R2 penalty, unweighted", keys=(names.LOSS_PENALTY,), smooth=0.6, logarithmic=True),
            Lines(
                title="losses of labels, between labels (GAN-INT) and of mode seeking",
                keys=(names.LOSS_CLASSES, names.LOSS_CLASSES_G, names.LOSS_BETWEEN, names.LOSS_MODES),
                smooth=0.6,
            ),
            Lines(title="scheduled values", pattern=f"^{names.SCHEDULE}"),
        ),
    ),
    Section(
        name="Label accuracy (--evaluate-every)",
        panels=(
            Lines(title="fraction of images that show their whole label", keys=(names.FIDELITY,), low=0, high=1),
            Lines(title="label accuracy per attribute", pattern=f"^{names.FIDELITY_OF}", low=0, high=1),
            Lines(title="kernel distance (KID) to real images", keys=(names.KID,)),
            Bars(title="label accuracy per run", keys=(names.FIDELITY,)),
        ),
    ),
    Section(
        name="Images",
        columns=1,
        panels=(Images(title="fixed noise and labels", keys=(names.GRID,)),),
    ),
    Section(
        name="Throughput",
        panels=(
            Lines(title="images per second, all processes", keys=(names.SPEED,), low=0),
            Lines(title="images seen over time, including evaluations and grids", keys=(CLOCK,), x=TIME),
        ),
    ),
    Section(
        name="Guards and advice",
        panels=(
            Lines(title="skipped steps (non-finite gradients)", keys=(names.SKIPPED,), low=0),
            Lines(title="batch diversity; near 0: mode collapse", keys=(names.SPREAD,), low=0),
            Lines(title="variety within a label; near 0: one image per label", keys=(names.VARIETY,), low=0),
            Lines(title="damaged images", keys=(names.DAMAGED,), low=0),
            Lines(
                title="fractions of the batch: images with a wrong label, labels that the discriminator recognized",
                keys=(names.WRONG_SHARE, names.GUESSED),
                low=0,
                high=1,
            ),
            Lines(
                title="discriminator overfitting; near 1: it memorizes real images",
                keys=(names.AUGMENT_SIGN, names.AUGMENT_P),
                low=-1,
            ),
            Text(title="when to worry", text=_ADVICE),
        ),
    ),
    Section(
        name="System",
        unfolded=False,
        panels=(
            Lines(
                title="GPU utilization, %", keys=tuple(f"system/gpu.{n}.gpu" for n in _GPUS), x=TIME, low=0, high=100
            ),
            Lines(
                title="GPU memory in use, %",
                keys=tuple(f"system/gpu.{n}.memoryAllocated" for n in _GPUS),
                x=TIME,
                low=0,
                high=100,
            ),
            Lines(title="CPU utilization, %", keys=("system/cpu",), x=TIME, low=0, high=100),
            Lines(title="process memory, MB", keys=("system/proc.memory.rssMB",), x=TIME, low=0),
        ),
    ),
)
