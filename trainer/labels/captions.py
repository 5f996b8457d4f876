"""The captions that the caption of an image is told from, in the loss of labels.

A word is told from all other words of its attribute. Captions are too many for that, so a run draws some.
"""

from __future__ import annotations

import numpy as np

from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import sample_rows

MOST = 512  # captions


def sample_captions(dataset: Dataset) -> np.ndarray | None:
    """Return the label of one image for each of up to `MOST` different captions, float32 (K, L); None without captions.

    They are the same at every start, and in every batch: the loss of an image does not depend on the images beside it.
    """
    schema = dataset.schema
    texts = [index for index, attribute in enumerate(schema.attributes) if attribute.kind == "text"]
    captioned = np.flatnonzero(np.asarray(dataset.known[:, texts], bool).all(1))
    if not texts or not len(captioned):
        return None
    entries = np.concatenate([int(schema.starts[i]) + np.arange(schema.attributes[i].width) for i in texts])
    rows = captioned[sample_rows(len(captioned), min(len(captioned), 4 * MOST), 0, "captions to tell from")]
    labels = np.asarray(dataset.labels[rows], np.float32)
    _, first = np.unique(labels[:, entries], axis=0, return_index=True)
    return labels[np.sort(first)[:MOST]]
