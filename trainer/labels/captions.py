"""The captions that the caption of an image is told from, in the loss of labels.

A word is told from all other words of its attribute. Captions are too many for that, so a run draws some.
"""

from __future__ import annotations

import numpy as np

from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import sample_rows

MOST = 512  # captions


def sample_captions(dataset: Dataset) -> np.ndarray | None:
    """Return labels of images that have captions, float32 (K, L), of which no two have the same; None without captions.

    They are drawn once, by key, so that the loss is a function of one image, however images are divided into batches.
    """
    schema = dataset.schema
    texts = [index for index, attribute in enumerate(schema.attributes) if attribute.kind == "text"]
    if not texts:
        return None
    entries = np.concatenate([int(schema.starts[i]) + np.arange(schema.attributes[i].width) for i in texts])
    rows = sample_rows(len(dataset), min(len(dataset), 4 * MOST), 0, "captions to tell from")
    rows = rows[np.asarray(dataset.known[rows], bool)[:, texts].all(1)]
    labels = np.asarray(dataset.labels[rows], np.float32)
    _, first = np.unique(labels[:, entries], axis=0, return_index=True)
    return labels[np.sort(first)[:MOST]]
