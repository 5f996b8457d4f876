"""Resolve --fit: measure what --minutes allows, and choose the width and the batch of a run that starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from shards.dataset.dataset import Dataset
from trainer.config import Config
from trainer.config.network import NetworkConfig
from trainer.config.optimization import FITS
from trainer.distributed.process_group import Distributed
from trainer.models import architecture_of
from trainer.networks.architecture import resolve_levels
from trainer.presets import PRESETS
from trainer.run.directory import RunDirectory
from trainer.sizing.probe import Probe, speeds
from trainer.sizing.rule import MEASURED, Size, candidate, is_better

_SECONDS, _SHARE = 4.0, 0.01  # of a measurement: at most, and of the run's time; there are two at most


def fit_to_time(config: Config, dataset: Dataset, env: Distributed, run: RunDirectory, *, starts: bool) -> Config:
    """Return the options of a run of --minutes with the channels and the batch that --fit may choose.

    A run that is resumed keeps what it has. All ranks call this, and rank 0 decides.

    Args:
        config: the options, of which --fit names those that were not given.
        dataset: what the run trains on.
        env: the device and the ranks.
        run: its directory.
        starts: the run has no checkpoint to resume from.
    """
    free = FITS[config.schedule.fit]
    if config.schedule.minutes is None or not free or not _is_known(config, dataset.shape.size):
        return config
    if not starts:
        saved = env.broadcast(env.on_rank0(run.saved_size)) or {}
        return config.replace(**{name: saved[name] for name in free if name in saved})
    scale = env.scaler.state_dict()
    size, line = _choose(config, dataset, env, free)
    if scale:  # fp16: the run searches its own
        env.scaler.load_state_dict(scale)
    env.print(line)
    return config if size is None else config.replace(**{name: getattr(size, name) for name in free})


def _choose(config: Config, dataset: Dataset, env: Distributed, free: Sequence[str]) -> tuple[Size | None, str]:
    """Return the size to use, None for the preset's own, and a line on it."""
    config.check_division(env.world_size)
    seconds, usual = 60 * (config.schedule.minutes or 0), PRESETS[config.preset or ""]["total_images"]
    probing = min(_SECONDS, _SHARE * seconds)
    probes = [_probe(config, dataset, env)]
    own_images = seconds * speeds(probes, env, probing)[0]
    own = Size(_channels(config, dataset), config.data.batch)
    other = candidate(own, own_images, usual, _multiple(config.network))
    if other is not None:
        other = replace(own, **{name: getattr(other, name) for name in free})
    if other is None or other == own:
        return None, _describe(config, own, own_images, usual)
    probes.append(_probe(config.replace(channels=other.channels, batch=other.batch), dataset, env))
    own_images, other_images = (seconds * speed for speed in speeds(probes, env, probing))
    if not is_better(own, own_images, other, other_images, usual):
        return None, _describe(config, own, own_images, usual)
    return other, _describe(config, other, other_images, usual, own_images)


def _describe(config: Config, size: Size, images: float, usual: int, own_images: float | None = None) -> str:
    """Return one line on the chosen size; ``own_images``: what the preset's size would see, if that is not chosen."""
    channels = ",".join(map(str, size.channels))
    own = "" if own_images is None else f", {own_images:,.0f} at the preset's size"
    return (
        f"size: {'as' if own_images is None else 'not as'} preset {config.preset}, {size.batch} images per step and "
        f"channels {channels}; about {images:,.0f} images fit into --minutes {config.schedule.minutes:g}{own} "
        f"(the preset has {usual:,})"
    )


def _probe(config: Config, dataset: Dataset, env: Distributed) -> Probe:
    kinds = [attribute.kind for attribute in dataset.schema.attributes]
    probe = env.on_all_ranks(lambda: Probe(config, env, dataset.shape, dataset.schema.widths, kinds))
    probe.warm_up()
    return probe


def _channels(config: Config, dataset: Dataset) -> tuple[int, ...]:
    return resolve_levels(architecture_of(config.network, dataset.shape, dataset.schema.widths), 1).channels


def _multiple(network: NetworkConfig) -> int:
    """Return of what channels must be a multiple: r3gan's groups divide them, times the expansion."""
    return network.group_width // math.gcd(network.group_width, network.expansion)


def _is_known(config: Config, pixels: int) -> bool:
    """Return whether the preset's size was measured with these networks, at this size of images."""
    preset = config.preset or ""
    if MEASURED.get(preset) != pixels:
        return False
    shape = ("family", "blocks", "expansion", "group_width")
    usual = NetworkConfig(**{name: PRESETS[preset][name] for name in shape if name in PRESETS[preset]})
    return all(getattr(config.network, name) == getattr(usual, name) for name in shape)
