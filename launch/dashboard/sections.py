"""What a dashboard shows, in sections of panels, as data. The keys are the trainer's own (`trainer.metric_names`)."""

from __future__ import annotations

from dataclasses import dataclass

from trainer import metric_names as names

CLOCK = names.CLOCK
TIME = "RelativeTime(Wall)"  # W&B's own name of seconds since a run began

_GPUS = range(8)  # of one machine; W&B numbers them so, and leaves out what a run does not have


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Curves over ``x``: of the named keys, or of all that match a pattern.

    Attributes:
        smooth: logged values are one batch's, so those of the losses jump; 0: as they are, below 1.
        low, high: of the y axis; None: as the values have it.
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
    """The newest value of each run."""

    title: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Logged pictures, with a slider over the moments they were logged at."""

    title: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Words:
    """A text, in Markdown."""

    title: str
    text: str


Panel = Lines | Bars | Pictures | Words


@dataclass(frozen=True, kw_only=True)
class Section:
    """Panels under a heading; `unfolded`: at first sight."""

    name: str
    panels: tuple[Panel, ...]
    columns: int = 3
    unfolded: bool = True


_ADVICE = f"""\
The trainer says in its output what goes wrong and which option to change, once it has lasted. It looks at:

- `{names.LOSS_D}` near 0 with `{names.LOGIT_REAL}` far above `{names.LOGIT_FAKE}`: the discriminator is sure of
  every picture and teaches little
- `{names.GRAD_G}` far below its usual size: the generator's gradient has all but vanished
- `{names.SPREAD}` near 0, where 1 is as different as real pictures: generated ones are nearly all the same
- `{names.SKIPPED}` that rises: gradients were not finite, and such steps change nothing
"""

SECTIONS = (
    Section(
        name="Losses",
        panels=(
            Lines(title="losses of both players", keys=(names.LOSS_D, names.LOSS_G), smooth=0.6),
            Lines(title="pictures under wrong labels", keys=(names.LOSS_MISMATCH,), smooth=0.6),
            Lines(
                title="real and generated: D's opinion",
                keys=(names.LOGIT_REAL, names.LOGIT_FAKE),
                smooth=0.6,
            ),
            Lines(title="gradient norms", keys=(names.GRAD_D, names.GRAD_G), smooth=0.6, logarithmic=True),
            Lines(title="R1 + R2, before their weight", keys=(names.LOSS_PENALTY,), smooth=0.6, logarithmic=True),
            Lines(
                title="classifier, and between labels",
                keys=(names.LOSS_CLASSES, names.LOSS_CLASSES_G, names.LOSS_BETWEEN),
                smooth=0.6,
            ),
            Lines(title="what follows a schedule", pattern=f"^{names.SCHEDULE}"),
        ),
    ),
    Section(
        name="Label fidelity (--evaluate-every)",
        panels=(
            Lines(title="pictures that show their whole label", keys=(names.FIDELITY,), low=0, high=1),
            Lines(title="of each attribute", pattern=f"^{names.FIDELITY_OF}", low=0, high=1),
            Lines(title="kernel distance from real pictures", keys=(names.KID,)),
            Bars(title="fidelity, by run", keys=(names.FIDELITY,)),
        ),
    ),
    Section(
        name="Pictures",
        columns=1,
        panels=(Pictures(title="fixed noises and labels", keys=(names.GRID,)),),
    ),
    Section(
        name="Throughput",
        panels=(
            Lines(title="images a second, all processes", keys=(names.SPEED,), low=0),
            Lines(title="images seen over time, evaluations and grids included", keys=(CLOCK,), x=TIME),
        ),
    ),
    Section(
        name="Guards and advice",
        panels=(
            Lines(title="steps skipped so far: gradients not finite", keys=(names.SKIPPED,), low=0),
            Lines(title="spread of pictures; near 0: all the same", keys=(names.SPREAD,), low=0),
            Lines(title="damaged pictures so far", keys=(names.DAMAGED,), low=0),
            Lines(title="share of the batch with a wrong label", keys=(names.WRONG_SHARE,), low=0, high=1),
            Lines(
                title="near 1: D knows real pictures by heart",
                keys=(names.AUGMENT_SIGN, names.AUGMENT_P),
                low=-1,
            ),
            Words(title="when to worry", text=_ADVICE),
        ),
    ),
    Section(
        name="System",
        unfolded=False,
        panels=(
            Lines(title="GPUs at work, %", keys=tuple(f"system/gpu.{n}.gpu" for n in _GPUS), x=TIME, low=0, high=100),
            Lines(
                title="GPU memory in use, %",
                keys=tuple(f"system/gpu.{n}.memoryAllocated" for n in _GPUS),
                x=TIME,
                low=0,
                high=100,
            ),
            Lines(title="CPUs at work, %", keys=("system/cpu",), x=TIME, low=0, high=100),
            Lines(title="the process's memory, MB", keys=("system/proc.memory.rssMB",), x=TIME, low=0),
        ),
    ),
)
