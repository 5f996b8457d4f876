"""Weights of attributes: those that images show count, however many others a label has.

Labels name much that no image shows: who drew it, when, what happens next to it. Among hundreds of such attributes the
few that are visible drown. Adam moves the vectors of all attributes by steps of one size, so that their sum, which is
what enters a network, moves by steps that grow with the number A of attributes; and their gradients in the loss of
labels are noise, which nobody can learn.

So a run of more than four attributes looks at its images before it starts: can a linear regression on 16x16 pixels tell
an attribute's entries, in images that it was not fitted to, better than by chance? It sees much less than a network,
but it needs only a correlation that is not an accident, and among thousands of images weak ones are not.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from shards.core.errors import Failure
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_pixels
from trainer.networks.conditioning import FEW

_IMAGES = 4_096
_SIDE = 16  # pixels of the images that are looked at
_CERTAIN = 6.0  # standard deviations of a correlation by chance; the halves are not quite independent
_LEAST_KNOWN = 50  # images of a half in which an attribute must be known
_CHUNK = 1_024  # label entries that are computed together


def measure_weights(dataset: Dataset) -> np.ndarray:
    """Return the weights of a dataset's attributes, float64 (A,).

    An attribute that images show weighs 1, another 4 / A, so that all of those together count as much as four; if Σ w²
    exceeds 4, the weights are scaled down to it. Up to four attributes weigh 1, and if none is shown, all weigh alike.
    """
    count = len(dataset.schema.attributes)
    if count <= FEW:
        return np.ones(count)
    rows, features = _read_small(dataset)
    if len(rows) < 2 * _LEAST_KNOWN:
        return weights_of(np.ones(count, bool))
    labels, known = np.asarray(dataset.labels[rows]), np.asarray(dataset.known[rows], bool)
    shown = correlations(features, labels, known, dataset.schema.widths) > _CERTAIN
    return weights_of(shown if shown.any() else ~shown)


def weights_of(shown: np.ndarray) -> np.ndarray:
    """Return the weights of more than four attributes, of which some are shown, bool (A,)."""
    weights = np.where(shown, 1.0, FEW / len(shown))
    return weights * min(1.0, (FEW / np.square(weights).sum()) ** 0.5)


def correlations(features: np.ndarray, labels: np.ndarray, known: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """Return how much better than by chance features tell attributes: the largest of the entries' correlations.

    Each half of the images is predicted by a ridge regression on the other.

    Args:
        features: float64 (n, F).
        labels: (n, L).
        known: bool (n, A).
        widths: label entries of each attribute.

    Returns:
        float64 (A,), in standard deviations of a correlation by chance; 0 for attributes that few images have.
    """
    attribute_of = np.repeat(np.arange(len(widths)), widths)
    even = np.arange(len(features)) % 2 == 0
    found = np.zeros(len(attribute_of))
    for fitted in (even, ~even):
        predictor = _ridge(features[fitted], features[~fitted])
        for start in range(0, len(found), _CHUNK):
            entries = slice(start, start + _CHUNK)
            y, k = labels[:, entries].astype(np.float64), known[:, attribute_of[entries]]
            found[entries] += _correlate(predictor @ _centre(y[fitted], k[fitted]), y[~fitted], k[~fitted]) / 2**0.5
    return np.maximum.reduceat(found, np.cumsum((0, *widths[:-1])))


def _ridge(fitted: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return what maps values (n,) of images with features (n, F) to predictions (m,) of those with others (m, F)."""
    mean, scale = fitted.mean(0), max(float(fitted.std()), 1e-9)
    x, other = (fitted - mean) / scale, (others - mean) / scale
    gram = x.T @ x + len(x) / 4 * np.eye(x.shape[1])
    return other @ np.linalg.solve(gram, x.T)


def _centre(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return values (n, L) less the mean of the known ones, and 0 where they are unknown."""
    return (values - (values * known).sum(0) / known.sum(0).clip(1)) * known


def _correlate(predictions: np.ndarray, labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the correlation of each entry (L,) with its prediction times the root of the images that have it."""
    p, y, n = _centre(predictions, known), _centre(labels, known), known.sum(0)
    scale = np.sqrt(np.square(p).sum(0) * np.square(y).sum(0))
    trusted = (n >= _LEAST_KNOWN) & (scale > 1e-9)
    return np.where(trusted, (p * y).sum(0) / np.where(trusted, scale, 1) * np.sqrt(n), 0)


def _read_small(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of up to 4,096 readable images, int64 (n,), and their small copies, float64 (n, F).

    They are evenly spaced, or the first of a remote dataset, whose other shards are not fetched for this.
    """
    count = min(_IMAGES, len(dataset))
    rows = np.arange(count) if dataset.remote else np.arange(count) * len(dataset) // count
    height, width, channels = dataset.shape.pixels_shape
    pixels = np.empty((height, width, channels), np.uint8)
    small: dict[int, np.ndarray] = {}
    for row in rows.tolist():
        try:
            read_pixels(dataset, row, pixels)
        except (ValueError, Failure) as error:
            if dataset.remote and isinstance(error, Failure):  # the server is lost, or the disk is full
                raise
            continue  # damaged: the stream reports it
        image = torch.from_numpy(pixels).permute(2, 0, 1).float()
        small[row] = F.adaptive_avg_pool2d(image, (min(height, _SIDE), min(width, _SIDE))).flatten().numpy()
    features = np.stack(list(small.values())) if small else np.zeros((0, 1))
    return np.array(list(small), np.int64), features.astype(np.float64)
