"""The plain values of a checkpoint, with their types and ranges checked when they are read back."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from shards.core import format_version
from trainer.networks import Architecture
from trainer.schedules.time_plan import TimePlan

FORMAT_VERSION = 2  # of checkpoints and exports; 2: images of other channels or another aspect than square RGB
MAX_IMAGES = 1 << 53
_MAX_SIZE = 1 << 20  # of anything in an architecture
_SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}  # of torch's GradScaler
_SQUARE_RGB = {"image_channels": Architecture.image_channels, "aspect": Architecture.aspect}
_DIRECTORIES = ("shards", "cache", "run", "init_from")  # options that other commands open


@dataclass(frozen=True)
class Best:
    """The best checkpoint so far, and the metric that chose it."""

    images_seen: int
    metric: str
    value: float

    @classmethod
    def from_json(cls, content: Any) -> Best:
        """Return the mark that ``dataclasses.asdict`` made plain.

        Raises:
            ValueError: a key is missing or has another type.
        """
        values = _mapping(content, "best")
        metric, value = values.get("metric"), values.get("value")
        if not isinstance(metric, str) or not _is_number(value) or not math.isfinite(value):
            raise ValueError("its best is not a metric with a finite value")
        return cls(_count(values, "images_seen"), metric, float(value))


@dataclass(frozen=True)
class SavedState:
    """The content of a checkpoint besides its tensors.

    Attributes:
        images_seen: the clock.
        architecture: of the networks.
        config: all options of the run, by their flat names.
        scaler: the state of the loss scaler; empty without one.
        data: fingerprint of the dataset.
        damaged: damaged images that were replaced so far.
        skipped: steps that were skipped for non-finite gradients.
        head_start: images seen by the run that the initial weights came from.
        best: the mark, if this checkpoint was the best when it was saved.
        row: the metrics of its step, if they were logged.
        plan: of a run of --minutes.
        average_length: of a checkpoint that `cgan ema` has rebuilt: it has an averaged generator and nothing else.
    """

    images_seen: int
    architecture: Architecture
    config: dict[str, Any]
    scaler: dict[str, float]
    data: str = ""
    damaged: int = 0
    skipped: int = 0
    head_start: int = 0
    best: Best | None = None
    row: dict[str, float] = dataclasses.field(default_factory=dict)
    plan: TimePlan | None = None
    average_length: float | None = None

    @classmethod
    def from_json(cls, content: Any) -> SavedState:
        """Return the checked values of a state.json, of this or an older version.

        Raises:
            ValueError: a key is missing, or a value has another type or is out of range.
        """
        values = _mapping(content, "state")
        data = values.get("data", "")
        if not isinstance(data, str):
            raise ValueError("its data is not a fingerprint")
        length = values.get("average_length")
        if length is not None and not _is_number(length):
            raise ValueError("its average_length is not a number")
        return cls(
            images_seen=_count(values, "images_seen", 1),
            architecture=_architecture(values.get("architecture")),
            config=_config(values.get("config")),
            scaler=_scaler(values.get("scaler")),
            data=data,
            **{name: _count({name: 0} | dict(values), name) for name in ("damaged", "skipped", "head_start")},
            best=None if values.get("best") is None else Best.from_json(values["best"]),
            row=_numbers(values.get("row", {}), "row"),
            plan=None if values.get("plan") is None else _plan(values["plan"]),
            average_length=length,
        )


def written(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values of a state with the oldest format version that can express them.

    An architecture of square RGB images leaves their shape out: versions that know no other read format 1.
    """
    architecture = dict(values["architecture"])
    if _shape_of(architecture) == _SQUARE_RGB:
        architecture = {name: value for name, value in architecture.items() if name not in _SQUARE_RGB}
    version = FORMAT_VERSION if _SQUARE_RGB.keys() & architecture.keys() else 1
    return {format_version.KEY: version, **values, "architecture": architecture}


def _shape_of(architecture: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: architecture.get(name, default) for name, default in _SQUARE_RGB.items()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _plan(content: Any) -> TimePlan:
    values = _mapping(content, "plan")
    counts = {name: _count(values, name) for name in ("total", "scale", "images", "review_at")}
    progress, seconds = values.get("progress"), values.get("seconds")
    if not _is_number(progress) or not 0 <= progress <= 1 or not _is_number(seconds) or not seconds >= 0:
        raise ValueError("its plan has no progress from 0 to 1, or no seconds")
    if counts["total"] <= counts["images"]:
        raise ValueError("its plan ends before it begins")
    return TimePlan(**counts, progress=float(progress), seconds=float(seconds))


def _config(content: Any) -> dict[str, Any]:
    values = dict(_mapping(content, "config"))
    for name in _DIRECTORIES:
        if not isinstance(values.get(name), str | None):
            raise ValueError(f"its option {name} is not a path")
    if not _is_number(values.get("cache_limit", 0)):
        raise ValueError("its option cache_limit is not a number")
    return values


def _architecture(content: Any) -> Architecture:
    values = dict(_mapping(content, "architecture"))
    fields = typing.get_type_hints(Architecture)
    if unknown := sorted(values.keys() - fields.keys()):
        raise ValueError(f"its architecture has an unknown {unknown[0][:60]!r}")
    for name, value in values.items():
        if not _is_valid(fields[name], value):
            raise ValueError(f"its architecture has an invalid {name}")
    # JSON has no tuples.
    lists: dict[str, Any] = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    try:
        return Architecture(**values | lists)
    except TypeError:
        raise ValueError("its architecture is not complete") from None


def _is_valid(kind: Any, value: Any) -> bool:
    """Return whether a JSON value has the type of an architecture's field."""
    if kind is str:
        return isinstance(value, str) and re.fullmatch(r"\w{1,40}", value) is not None
    if kind is bool:
        return isinstance(value, bool)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, list) and all(_is_whole(entry, 1, _MAX_SIZE) for entry in value)
    return _is_whole(value, 1, _MAX_SIZE) or (value is None and kind is not int)


def _scaler(content: Any) -> dict[str, float]:
    values = _numbers(content, "scaler")
    if values and values.keys() != _SCALER:
        raise ValueError("its scaler is not complete")
    return values


def _mapping(content: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"its {name} is missing or not an object")
    return content


def _count(values: Mapping[str, Any], name: str, minimum: int = 0) -> int:
    value = values.get(name)
    if not _is_whole(value, minimum, MAX_IMAGES):
        raise ValueError(f"its {name} is missing or not a whole number from {minimum}")
    return value


def _numbers(content: Any, name: str) -> dict[str, float]:
    """Return numbers by name; null is NaN."""
    values = _mapping(content, name)
    if not all(value is None or _is_number(value) for value in values.values()):
        raise ValueError(f"its {name} has a value that is not a number")
    return {key: math.nan if value is None else value for key, value in values.items()}


def _is_whole(value: Any, minimum: int, maximum: int) -> TypeGuard[int]:
    return type(value) is int and minimum <= value <= maximum


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
