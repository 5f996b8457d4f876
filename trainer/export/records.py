"""A run's records about its generator, as others may see them: how well it draws, and what it learned from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shards import text_encoders
from trainer.run import evaluation_file, lineage
from trainer.run.checkpoint import Checkpoint
from trainer.run.lineage import Influence
from trainer.run.redaction import public_evaluation, without_secrets


class Records(NamedTuple):
    """Records of one checkpoint; None: it was not recorded.

    Attributes:
        evaluation: the newest entry of `evaluation_file` for this checkpoint; one of another says nothing about it.
        influences: what touched the training, of `lineage`.
    """

    evaluation: dict[str, Any] | None
    influences: tuple[Influence, ...] | None

    def write(self, folder: Path, images_seen: int) -> None:
        """Write ``evaluation.json`` and ``lineage.json``, each if there is something to write."""
        if self.evaluation is not None:
            evaluation_file.write(folder, {images_seen: [self.evaluation]})
        if self.influences is not None:
            lineage.write(folder, self.influences)


def public_records(source: Path, saved: Checkpoint) -> Records:
    """Return the records of a checkpoint of a run, or of an export, without paths and names of this machine.

    Raises:
        UserError: a record is damaged, or has a later format.
    """
    evaluations = evaluation_file.read(source).get(saved.images_seen)
    influences = lineage.read(source)
    return Records(
        public_evaluation(evaluations[-1]) if evaluations else None,
        None if influences is None else _public_influences(influences),
    )


def _public_influences(influences: Sequence[Influence]) -> tuple[Influence, ...]:
    """Return influences with the names of datasets and known encoders; another network's is a folder's name."""
    public = {"", *text_encoders.NAMES, *(i.name for i in influences if i.kind == "images")}
    return tuple(dataclasses.replace(i, name=without_secrets(i.name) if i.name in public else "") for i in influences)
