"""Options of the optimizers, and of everything that follows a schedule."""

from __future__ import annotations

from dataclasses import dataclass

from shards.core import cli
from shards.core.cli import option
from shards.core.errors import UserError
from trainer.schedules.schedule import SHAPES

# --fit -> the options that it chooses.
FITS: dict[str, tuple[str, ...]] = {
    "size": ("channels", "batch"),
    "channels": ("channels",),
    "batch": ("batch",),
    "images": (),
}


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam, the averaged generator, and the limit on skipped steps."""

    lr_g: float = option(1e-3, "learning rate of the generator (Adam)", above=0)
    lr_d: float = option(1e-3, "learning rate of the discriminator (Adam)", above=0)
    betas: tuple[float, float] = option((0.0, 0.95), "Adam's betas", minimum=0, maximum=0.999999)
    ema_half_life: float = option(
        20_000, "half-life, in images, of the generator's exponential moving average (EMA)", minimum=0
    )
    ema_ramp: float = option(
        0.1, "cap the EMA's half-life at this fraction of the images seen so far; 0: no cap", minimum=0
    )
    ema_snapshots: int = option(
        0,
        "snapshots to keep of two averages, from which `cgan ema` rebuilds one of any length; 0: none",
        minimum=0,
        maximum=1_000,  # the memory of a fit grows with their square
    )
    freeze_d: int = option(
        0,
        "levels of the discriminator, counted from the image, that keep the weights of --init-from (FreezeD)",
        minimum=0,
    )
    skip_limit: int = option(
        20,
        "stop the run after more than this many consecutive steps with non-finite gradients, which are skipped",
        minimum=0,
        may_change=True,
    )

    def __post_init__(self) -> None:
        """Validate the section.

        Raises:
            UserError: a value is out of bounds.
        """
        cli.validate(self)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The length of the run, and what changes over it; counted in images seen."""

    total_images: int = option(200_000, "images to train on in total", minimum=1, may_change=True)
    minutes: float | None = option(
        None,
        "minutes to train for, in place of --total-images; schedules end with the run (default: not limited)",
        above=0,
        may_change=True,
    )
    fit: str = option(
        "size",
        "what --minutes chooses by the speed of the machine, unless it is given: size (--channels and --batch), one of "
        "them, or only how many images are seen; with presets whose size was measured, faces32, faces64 and faces96",
        choices=tuple(FITS),
        may_change=True,
    )
    warmup_images: int = option(0, "images over which both learning rates rise linearly from 0", minimum=0)
    decay: str = option("none", "decay of both learning rates after the warm-up", choices=SHAPES)
    decay_to: float = option(
        0.0, "final learning rates, as a fraction of --lr-g and --lr-d (with --decay)", minimum=0, maximum=1
    )
    decay_images: int | None = option(
        None,
        "images seen at which --decay and all --…-end options reach their final value (default with --cooldown or "
        "--minutes: the end of the run)",
        minimum=1,
    )
    cooldown: float = option(
        0.0,
        "hold both learning rates, and let them fall linearly over this last fraction of --total-images; 0: off",
        minimum=0,
        maximum=1,
    )
    cooldown_to: float = option(
        0.05, "final learning rates, as a fraction of --lr-g and --lr-d (with --cooldown)", minimum=0, maximum=1
    )
    gamma_end: float | None = option(None, "final --gamma (cosine schedule); constant if omitted", minimum=0)
    mode_seeking_end: float | None = option(
        None, "final --mode-seeking (cosine schedule); constant if omitted", minimum=0
    )
    beta2_end: float | None = option(
        None, "final second value of --betas (cosine schedule); constant if omitted", minimum=0, maximum=0.999999
    )
    ema_half_life_end: float | None = option(
        None, "final --ema-half-life (cosine schedule); constant if omitted", minimum=0
    )
    augment_p_end: float | None = option(
        None, "final --augment-p (cosine schedule); constant if omitted", minimum=0, maximum=1
    )

    @property
    def cooldown_since(self) -> int:
        """Images seen at which the cooldown begins."""
        return self.cooldown_since_of(self.total_images)

    def cooldown_since_of(self, total_images: int) -> int:
        """Return the images seen at which the cooldown of a run of ``total_images`` begins, if it has one.

        It lasts for an image at least.
        """
        return min(round(total_images * (1 - self.cooldown)), total_images - 1)

    def __post_init__(self) -> None:
        """Validate the section.

        Raises:
            UserError: a value is out of bounds, or a schedule lacks its length.
        """
        cli.validate(self)
        self._check_cooldown()
        ends = ("gamma_end", "mode_seeking_end", "beta2_end", "ema_half_life_end", "augment_p_end")
        used = ["decay"] if self.decay != "none" else []
        used += [name for name in ends if getattr(self, name) is not None]
        if self.decay == "none" and self.decay_to:
            raise UserError(
                "option-without-effect",
                "--decay-to: the learning rates are constant; add --decay cosine or --decay linear",
            )
        if self.minutes is not None:
            return self._check_minutes()
        if self.fit != ScheduleConfig.fit:
            raise UserError(
                "option-without-effect", f"--fit {self.fit}: the time of the run is not limited; add --minutes"
            )
        if used and self.decay_images is None and not self.cooldown:
            otherwise = "" if used[0] == "decay" else ", or --cooldown, with which it ends with the run"
            raise UserError(
                "option-missing",
                f"{cli.flag(used[0])} needs --decay-images, the number of images seen at which it is complete"
                f"{otherwise}",
            )
        if not used and self.decay_images is not None:
            flags = ", ".join(map(cli.flag, ends))
            raise UserError(
                "option-without-effect", f"--decay-images: nothing is scheduled; add --decay or one of {flags}"
            )
        if self.decay != "none" and (self.decay_images or 0) <= self.warmup_images:
            raise UserError(
                "option-conflict",
                f"--decay-images {self.decay_images} must be greater than --warmup-images {self.warmup_images}",
            )

    def _check_cooldown(self) -> None:
        if not self.cooldown:
            if self.cooldown_to != ScheduleConfig.cooldown_to:
                raise UserError("option-without-effect", "--cooldown-to: there is no cooldown; add --cooldown 0.33")
            return
        if self.decay != "none":
            raise UserError(
                "option-conflict",
                f"--cooldown and --decay {self.decay} both schedule the learning rates; leave one of them out",
            )
        if self.minutes is None and self.cooldown_since < self.warmup_images:
            raise UserError(
                "option-conflict",
                f"--cooldown {self.cooldown} begins at {self.cooldown_since} of {self.total_images} images, within "
                f"--warmup-images {self.warmup_images}; use a smaller one",
            )

    def _check_minutes(self) -> None:
        if self.decay_images is not None:
            raise UserError(
                "option-conflict", "--decay-images: with --minutes all schedules end with the run; omit one of them"
            )
