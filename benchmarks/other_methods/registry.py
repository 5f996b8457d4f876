"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from other_methods.flow_matching import CHANNELS, FlowMatching
from other_methods.lightweight import LightweightGan
from other_methods.method import Method
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.image_shape import ImageShape


def _flow_matching(dataset: Dataset) -> Method:
    return FlowMatching(dataset.size, tuple(a.width for a in dataset.schema.attributes), torch.device("cpu"))


def _lightweight_gan(dataset: Dataset) -> Method:
    return LightweightGan(dataset.size, len(dataset))


def require_size(dataset: Dataset) -> None:
    """Raise UserError unless the methods support a dataset's images."""
    if dataset.shape not in [ImageShape.of(size) for size in CHANNELS]:
        sizes = " or ".join(f"{size}x{size}" for size in CHANNELS)
        raise UserError(
            "wrong-dataset", f"{dataset.where}: its images are {dataset.shape.describe()}, not {sizes} in RGB"
        )


METHODS: dict[str, Callable[[Dataset], Method]] = {
    "flow-matching": _flow_matching,
    "lightweight-gan": _lightweight_gan,
}
