"""Which labels of a dataset go with words: none of their other values is seen only without one of the words."""

from __future__ import annotations

import numpy as np

from shards.dataset.label_rows import Labels
from shards.dataset.schema import Schema

_DISCRETE = ("exclusive", "tag")


def compatible(schema: Schema, labels: Labels, label: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Return which of the dataset's labels could complete a label, bool (N,).

    A label is left out if one of its other values occurs, but never together with one of the named values: the category
    "animals" with the subcategory "country flag". Only labels that know both attributes tell. Values are compared in
    pairs, since few images have all of many values. Captions and vectors are not compared, and a named value that no
    label has leaves none out.

    Args:
        labels: labels of the dataset, (N, L) and (N, A).
        label: the entries of what is named, (L,).
        named: which attributes are named, bool (A,).
    """
    discrete = np.array([attribute.kind in _DISCRETE for attribute in schema.attributes], bool)
    tags = np.array([attribute.kind == "tag" for attribute in schema.attributes], bool)
    per_entry = np.repeat(discrete & ~named, schema.widths)
    known = np.repeat(labels.known, schema.widths, axis=1)
    has = known & per_entry & (labels.label > 0.5)
    lacks = known & per_entry & np.repeat(tags, schema.widths) & (labels.label <= 0.5)
    fits = np.ones(len(labels.label), bool)
    for attribute in np.flatnonzero(discrete & named).tolist():
        start = int(schema.starts[attribute])
        entries = slice(start, start + schema.widths[attribute])
        told = labels.known[:, attribute]
        together = told & (labels.label[:, entries] == label[entries]).all(axis=1)
        if together.any():
            for values in (has, lacks):
                never = values[told].any(axis=0) & ~values[together].any(axis=0)
                fits &= ~(values & never).any(axis=1)
    return fits
