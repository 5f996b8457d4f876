"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from other_methods.flow_matching import FlowMatching
from other_methods.lightweight import LightweightGan
from other_methods.method import Method
from shards.dataset.dataset import Dataset


def _flow_matching(dataset: Dataset) -> Method:
    return FlowMatching(dataset.size, tuple(a.width for a in dataset.schema.attributes), torch.device("cpu"))


def _lightweight_gan(dataset: Dataset) -> Method:
    return LightweightGan(dataset.size, len(dataset))


METHODS: dict[str, Callable[[Dataset], Method]] = {
    "flow-matching": _flow_matching,
    "lightweight-gan": _lightweight_gan,
}
