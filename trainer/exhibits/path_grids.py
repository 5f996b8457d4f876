"""Path grids: interpolations between two noise vectors or two labels, and noise that is scaled down."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from shards.dataset.label_rows import Labels
from trainer.exhibits.interpolation import slerp
from trainer.exhibits.source import Exhibit, Source

_STEPS, _ROWS = 9, 6
TRUNCATION = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def noise_path(source: Source) -> Exhibit:
    """Interpolate between two noise vectors, the same in every row; each row has one label."""
    drawn = source.labels(_ROWS)
    rows = len(drawn.label)
    a, b = source.z(2)
    path = torch.stack([slerp(a, b, t) for t in np.linspace(0, 1, _STEPS).tolist()])
    labels = Labels(drawn.label.repeat(_STEPS, 0), drawn.known.repeat(_STEPS, 0))
    titles = [source.title(*row) for row in zip(*drawn, strict=True)]
    return Exhibit("noise", path.repeat(rows, 1), labels, _STEPS, titles, _percentages())


def label_paths(source: Source) -> Iterator[Exhibit]:
    """Interpolate linearly between two labels with the same known attributes, with one noise vector.

    A generator was trained on the ends only, unless with ``--interpolate``. There is no such exhibit if no two labels
    have the same known attributes.
    """
    labels = source.labels(len(source.vocabulary.labels.label))
    pairs = _pairs_with_same_known(labels, _ROWS)
    if not pairs:
        return
    t = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    label = np.concatenate([(1 - t) * labels.label[i] + t * labels.label[j] for i, j in pairs])
    known = labels.known[[i for i, _ in pairs]].repeat(_STEPS, 0)
    titles = [" to ".join(source.title(labels.label[i], labels.known[i]) for i in pair) for pair in pairs]
    z = source.z(1).repeat(len(label), 1)
    yield Exhibit("labels", z, Labels(label, known), _STEPS, titles, _percentages())


def truncation(source: Source) -> Exhibit:
    """Scale the noise down: each column multiplies z by ψ.

    StyleGAN moves the output of its mapping network towards its mean (Karras et al. 2019, arXiv 1812.04948). There is
    no mapping network here and the mean of z is 0, so ψz does the same. Images become more typical and more alike, as
    with BigGAN's truncated z (Brock et al. 2019, arXiv 1809.11096); below about 0.5, z is shorter than any in training.
    """
    drawn = source.random_labels(_ROWS)
    psi = torch.tensor(TRUNCATION, device=source.device)[None, :, None]
    z = (psi * source.z(_ROWS)[:, None]).flatten(0, 1)
    labels = Labels(drawn.label.repeat(len(TRUNCATION), 0), drawn.known.repeat(len(TRUNCATION), 0))
    titles = [source.title(*row) for row in zip(*drawn, strict=True)]
    return Exhibit("truncation", z, labels, len(TRUNCATION), titles, [f"psi {psi:g}" for psi in TRUNCATION])


def _pairs_with_same_known(labels: Labels, most: int) -> list[tuple[int, int]]:
    """Return disjoint pairs of rows with the same known attributes (at least one)."""
    waiting: dict[bytes, int] = {}
    pairs: list[tuple[int, int]] = []
    for row, known in enumerate(labels.known):
        if len(pairs) == most:
            break
        if not known.any():
            continue
        if (other := waiting.pop(known.tobytes(), None)) is None:
            waiting[known.tobytes()] = row
        else:
            pairs.append((other, row))
    return pairs


def _percentages() -> list[str]:
    return [f"{t:.0%}" for t in np.linspace(0, 1, _STEPS)]
