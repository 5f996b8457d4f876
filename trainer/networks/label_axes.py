"""Which tensors of a network have one slice per label entry or per attribute, along which axis.

Networks of two vocabularies differ in these tensors alone. A layer that has any names them in ``label_axes``, so that
`trainer.finetuning` can carry each slice over by the name of what it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class LabelAxis:
    """The axis of a tensor along which labels lie.

    Attributes:
        axis: its number.
        per: what has a slice: each of the L label "entries", or each of the A "attributes".
        offset: slices before the first of them.
        added: the layer adds up slices, times the label: one of zeros changes nothing that the network computes.
    """

    axis: int
    per: Literal["entries", "attributes"] = "entries"
    offset: int = 0
    added: bool = False


def label_axes(network: nn.Module) -> dict[str, LabelAxis]:
    """Return the axis of each tensor that has one, by its name in ``network.state_dict()``.

    A normalized weight has the name under which torch saves what it is computed from.
    """
    names = network.state_dict().keys()
    found = {}
    for path, layer in network.named_modules():
        for name, axis in getattr(layer, "label_axes", {}).items():
            full = f"{path}.{name}".removeprefix(".")
            owner, _, weight = full.rpartition(".")
            original = f"{owner}.parametrizations.{weight}.original"
            if original in names or full in names:  # some layers lack a buffer
                found[original if original in names else full] = axis
    return found
