"""The schedules that the options of a run describe."""

from __future__ import annotations

from trainer.config import Config
from trainer.schedules.schedule import Schedule


def build_schedules(config: Config, scale: int | None = None) -> dict[str, Schedule]:
    """Return what is a function of images seen, by the name it is logged under.

    Args:
        scale: images over which schedules extend with --minutes.
    """
    optim, schedule = config.optim, config.schedule
    over = scale or schedule.decay_images or schedule.total_images
    total = scale or schedule.total_images
    warmup = min(schedule.warmup_images, total - 1) if scale else schedule.warmup_images  # of a slow machine

    def rate(start: float) -> Schedule:
        if schedule.cooldown:
            since = schedule.cooldown_since_of(total)
            return Schedule(start, start * schedule.cooldown_to, "linear", total, warmup, since)
        return Schedule(start, start * schedule.decay_to, schedule.decay, over, warmup)

    def cosine(start: float, end: float | None) -> Schedule:
        return Schedule(start) if end is None else Schedule(start, end, "cosine", over)

    return {
        "lr_g": rate(optim.lr_g),
        "lr_d": rate(optim.lr_d),
        "gamma": cosine(config.method.gamma, schedule.gamma_end),
        "mode_seeking": cosine(config.method.mode_seeking, schedule.mode_seeking_end),
        "beta2": cosine(optim.betas[1], schedule.beta2_end),
        "ema_half_life": cosine(optim.ema_half_life, schedule.ema_half_life_end),
        "augment_p": cosine(config.augmentation.augment_p, schedule.augment_p_end),
    }
