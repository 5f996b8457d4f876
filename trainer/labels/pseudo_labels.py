"""Pseudo-labels: values that the discriminator is certain of stand in for unknown ones.

D's scores of the label entries classify images (`--label-loss`, `--conditioning classifier`). Where an attribute of a
real image is unknown and one value is nearly certain, that value takes its place for one step: D learns the image under
it, and G draws an image of it (pseudo-labels: D.-H. Lee 2013, ICML workshop on challenges in representation learning,
section 2.1). So unlabelled images teach what labelled ones do, as soon as D recognizes it in them. Doubtful ones stay
unknown: D would learn its own mistakes (the threshold of FixMatch: Sohn et al. 2020, arXiv 2001.07685, section 2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shards.stream.batch import Batch


@dataclass(frozen=True)
class PseudoLabels:
    """Completes the labels of batches.

    Attributes:
        certainty: least probability of a value that stands in for an unknown one, in (0, 1].
        kinds: kind of each attribute (see `shards.dataset.schema`).
        widths: label entries of each attribute.
    """

    certainty: float
    kinds: Sequence[str]
    widths: Sequence[int]

    @torch.no_grad()
    def complete(self, batch: Batch, d: nn.Module, autocast: Callable[[], AbstractContextManager[object]]) -> Batch:
        """Return a batch with the words and tags that D is certain of.

        Args:
            batch: a micro-batch on the device; its wrong labels stay as they are.
            d: a discriminator that returns scores of label entries behind each logit. Left in evaluation mode.
            autocast: context of the run's mixed precision.
        """
        d.eval()  # no power iteration of spectral normalization: those belong to D's own step
        with autocast():
            scores = d(batch.images, batch.labels, batch.known)[:, 1:]
        labels, known = complete(scores, batch.labels, batch.known, self)
        return batch._replace(labels=labels, known=known)


def complete(scores: Tensor, labels: Tensor, known: Tensor, how: PseudoLabels) -> tuple[Tensor, Tensor]:
    """Return labels (b, L) and known (b, A) in which certain words and tags replace unknown ones.

    Captions and numbers are not guessed.

    Args:
        scores: (b, L), logits of the label entries.
        labels: (b, L), 0 where unknown.
        known: (b, A), 0 or 1.
    """
    values, certain = [], []
    for kind, score in zip(how.kinds, scores.float().split(list(how.widths), 1), strict=True):
        if kind == "exclusive":
            probability, value = score.softmax(1).max(1)
            entries = value[:, None] == torch.arange(score.shape[1], device=score.device)
        elif kind == "tag":
            probability, entries = score.abs().sigmoid().squeeze(1), score > 0
        else:
            probability, entries = torch.zeros_like(score[:, 0]), torch.zeros_like(score)
        values.append(entries.to(labels.dtype))
        certain.append(probability >= how.certainty)
    guessed = torch.stack(certain, 1) & (known == 0)
    columns = [column.expand_as(entries) for column, entries in zip(guessed.split(1, 1), values, strict=True)]
    return torch.where(torch.cat(columns, 1), torch.cat(values, 1), labels), known + guessed.to(known.dtype)
