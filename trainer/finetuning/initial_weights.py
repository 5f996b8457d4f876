"""The weights that a new run starts from (--init-from): those of a run, or of an exported generator."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from shards import text_encoders
from shards.core import text_files
from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from shards.dataset.schema import Schema
from trainer.finetuning.carried_labels import CarriedLabels, match
from trainer.finetuning.transfer import Transferred, transfer
from trainer.networks import Architecture
from trainer.run import exported, hub, state_dicts
from trainer.run.checkpoint import Checkpoint

_NAMED = 4  # tensors that a sentence names
_SHAPE = [field.name for field in dataclasses.fields(Architecture) if field.name != "widths"]


@dataclass(frozen=True)
class InitialWeights:
    """The weights of another run, and what its labels are called.

    Attributes:
        saved: the checkpoint, or the exported generator.
        schema: of its labels.
        text_encoder: identity of the encoder of its captions, if it has any.
    """

    saved: Checkpoint
    schema: Schema
    text_encoder: dict[str, Any] | None

    @property
    def images_seen(self) -> int:
        """Images that the averaged generator has seen in all runs so far."""
        return self.saved.state.head_start + self.saved.images_seen

    def carried_to(self, dataset: Dataset) -> CarriedLabels:
        """Return what the labels of a dataset have in common with those of the weights."""
        encoder = dataset.manifest.get("text_encoder")
        return match(self.schema, dataset.schema, _are_same(self.text_encoder, encoder))

    def copy_to(self, g: nn.Module, ema: nn.Module, d: nn.Module, here: Architecture, dataset: Dataset) -> str:
        """Copy what fits into the networks of a new run, on every rank, and return a sentence about it.

        Args:
            here: their architecture.
            dataset: what the run trains on.

        Raises:
            UserError: nothing fits, or this process cannot read the weights.
        """
        saved, labels = self.saved, self.carried_to(dataset)
        differences = _differences(saved.state.architecture, here)
        if saved.state.architecture.family != here.family:
            raise self._does_not_fit(differences)
        with state_dicts.explain_load_errors(saved.path):
            average = saved.tensors("ema")
            fitting = {"G": transfer(ema, average, labels)}
            transfer(g, average if saved.is_average else saved.tensors("generator"), labels)
            if not saved.is_average:
                fitting["D"] = transfer(d, saved.tensors("discriminator"), labels)
        if fitting["G"].is_empty:
            raise self._does_not_fit(differences)
        frozen = {name for name, parameter in d.named_parameters() if not parameter.requires_grad}
        if "D" in fitting and not frozen.isdisjoint(fitting["D"].fresh):
            raise UserError(
                "option-conflict",
                f"--freeze-d: weights of these levels in {saved.path} do not fit ({differences}); "
                "freeze fewer of them, or none",
            )
        parts = [labels.describe()]
        parts += [_describe(name, found, differences) for name, found in fitting.items() if found.fresh]
        if saved.is_average:
            parts.append("the discriminator is fresh, as these weights are of a generator alone")
        return f"weights from {saved.path}: {'; '.join(parts)}"

    def _does_not_fit(self, differences: str) -> UserError:
        return UserError(
            "wrong-weights",
            f"--init-from: the generator in {self.saved.path} does not fit this one ({differences}); use the same "
            "options, or leave --init-from out",
        )


def read(where: Path) -> InitialWeights:
    """Open the newest checkpoint of a run or an exported generator; one at the Hub is fetched.

    Raises:
        UserError: there is none, or it is damaged.
        Failure: the Hub does not answer.
    """
    return _read(exported.find(hub.located(where)))


def on_this_machine(weights: InitialWeights, where: Path) -> InitialWeights:
    """Return rank 0's weights as another rank reads them: fetched to its machine if they are at the Hub.

    Raises:
        Failure: the Hub does not answer, or this machine has another version of them.
    """
    if not hub.is_address(where):
        return weights
    saved = exported.find(hub.located(where))
    ours, theirs = (getattr(each, "content", None) for each in (saved, weights.saved))
    if ours != theirs:  # with the hashes of all files
        repository = hub.parse_address(str(where)).repository
        raise Failure(
            "weights-differ",
            f"--init-from hf://{repository}: machines have different versions of it (that of rank 0, and that in "
            f"{saved.path}); name one with @REVISION, which every machine then needs",
        )
    return dataclasses.replace(weights, saved=saved)


def _read(saved: Checkpoint) -> InitialWeights:
    path = saved.folder / "schema.json"
    try:
        content = text_files.read_json(path)
        encoder = content.get("text_encoder") if isinstance(content, dict) else None
        return InitialWeights(saved, Schema.from_json(content, str(path)), encoder)
    except (OSError, ValueError) as error:
        raise UserError("run-damaged", f"{saved.folder} is not a complete run: {error}") from None


def _are_same(one: Any, other: Any) -> bool:
    """Return whether two recorded text encoders, if they are recorded, give the same vectors."""
    return isinstance(one, dict) and isinstance(other, dict) and text_encoders.same_vectors(one, other)


def _differences(there: Architecture, here: Architecture) -> str:
    """Return the options of the networks that differ."""
    pairs = [(name, getattr(there, name), getattr(here, name)) for name in _SHAPE]
    found = [f"{name} is {_words(old)} there and {_words(new)} here" for name, old, new in pairs if old != new]
    return ", ".join(found) or "their parts have other names"


def _words(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(str, value)) or "chosen by size"
    return str(value)


def _describe(name: str, found: Transferred, differences: str) -> str:
    """Return which of a network's tensors are fresh, and why."""
    named = ", ".join(found.fresh[:_NAMED])
    more = f" and {len(found.fresh) - _NAMED:,} more" if len(found.fresh) > _NAMED else ""
    return (
        f"{len(found.fresh):,} of {found.total:,} tensors of {name} do not fit and are fresh, as {differences}: "
        f"{named}{more}"
    )
