"""Copy the weights of a trained network into a fresh one that may have another vocabulary.

Tensors come over by name and shape; along the axis of labels, slice by slice by what they stand for. If any slice came
over, an attribute that is new as a whole starts without effect where its slices are added up: then the network computes
the same as before, to rounding, for every label of the attributes that came over (as in the zero convolutions of Zhang
et al. 2023, arXiv 2302.05543).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.finetuning.carried_labels import CarriedLabels
from trainer.networks.label_axes import LabelAxis, label_axes
from trainer.run import state_dicts

_VECTORS = ("_u", "_v")  # of torch's spectral normalization


class Transferred(NamedTuple):
    """The tensors and labels that were carried over.

    Attributes:
        fresh: names of the tensors that keep their initial values.
        total: number of tensors.
        is_empty: nothing came over but labels and biases.
    """

    fresh: tuple[str, ...]
    total: int
    is_empty: bool


@torch.no_grad()
def transfer(module: nn.Module, tensors: Mapping[str, Tensor], labels: CarriedLabels) -> Transferred:
    """Copy what fits, in place."""
    tensors = state_dicts.with_identity_scaling(
        module, tensors, labels.old_sizes["entries"], labels.old_sizes["attributes"]
    )
    axes = label_axes(module)
    everything = module.state_dict()
    fresh = []
    for name, own in everything.items():
        old = tensors.get(name)
        at = axes.get(name)
        if at is not None and old is not None and _is_comparable(own, old, at, labels):
            _carry(own, old.to(own), at, labels)
        elif at is None and old is not None and old.shape == own.shape:
            own.copy_(old)
        else:
            fresh.append(name)
    if not labels.is_same:
        derived = {vector for name in axes for vector in _find_singular_vectors(everything, name)}
        fresh = [name for name in fresh if name not in derived]
    carried = [tensor for name, tensor in everything.items() if name not in axes and name not in fresh]
    return Transferred(tuple(fresh), len(everything), not any(tensor.dim() > 1 for tensor in carried))


def _is_comparable(own: Tensor, old: Tensor, at: LabelAxis, labels: CarriedLabels) -> bool:
    """Return whether two tensors differ in nothing but the labels along their axis."""
    expected = list(own.shape)
    expected[at.axis] = at.offset + labels.old_sizes[at.per]
    return list(old.shape) == expected


def _carry(own: Tensor, old: Tensor, at: LabelAxis, labels: CarriedLabels) -> None:
    """Copy the slices of an old tensor; those of new attributes become zero if they are added up."""
    sources = torch.from_numpy(labels.sources(at.per)).to(own.device)
    new = (sources >= 0).nonzero().flatten()
    own.index_copy_(at.axis, at.offset + new, old.index_select(at.axis, at.offset + sources[new]))
    own.narrow(at.axis, 0, at.offset).copy_(old.narrow(at.axis, 0, at.offset))
    if at.added and len(new):  # a weight of zeros alone could not be normalized
        silent = torch.from_numpy(labels.without_effect(at.per)).to(own.device).nonzero().flatten()
        own.index_fill_(at.axis, at.offset + silent, 0.0)


def _find_singular_vectors(tensors: Mapping[str, Tensor], weight: str) -> list[str]:
    """Set the vectors of a weight, if it is normalized, to its exact ones, which power iterations find in many steps.

    Returns:
        Their names.
    """
    names = [f"{weight.removesuffix('.original')}.0.{end}" for end in _VECTORS]
    if not weight.endswith(".original") or not all(name in tensors for name in names):
        return []
    left, _, right = torch.linalg.svd(tensors[weight].flatten(1).double().cpu(), full_matrices=False)
    for name, exact in zip(names, (left[:, 0], right[0]), strict=True):
        tensors[name].copy_(exact)
    return names
