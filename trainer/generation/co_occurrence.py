"""Which labels of a dataset go with words: those without a value that is never seen with one of the words."""

from __future__ import annotations

import numpy as np

from shards.dataset.label_rows import Labels
from shards.dataset.schema import Schema

_CHANCE = 0.01  # probability below which missing values are not thought to be missing by chance


def compatible(schema: Schema, labels: Labels, label: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Return which of the dataset's labels could complete a label, bool (N,).

    A label is left out if one of its other values is never seen together with one of the named values, such as the
    category "animals" with the subcategory "country flag", and there are enough labels to tell (`_strangers`). Values
    are compared in pairs, since few images have all of many values. Captions and vectors are not compared.

    Args:
        labels: labels of the dataset, (N, L) and (N, A).
        label: the entries of what is named, (L,).
        named: which attributes are named, bool (A,).
    """
    fits = np.ones(len(labels.label), bool)
    asked = _values(schema, Labels(label[None], named[None]))[0]
    if (asked < 0).all():
        return fits
    values = _values(schema, labels)
    for attribute in np.flatnonzero(asked >= 0).tolist():
        told, together = values[:, attribute] >= 0, values[:, attribute] == asked[attribute]
        for other in np.flatnonzero(~named).tolist():
            theirs = values[:, other]
            known = theirs >= 0
            fits &= ~np.isin(theirs, _strangers(theirs[told & known], theirs[together & known]))
    return fits


def _values(schema: Schema, labels: Labels) -> np.ndarray:
    """Return labels as numbers of values, int64 (N, A); -1 for what is unknown, a caption or a vector."""
    found = np.full(labels.known.shape, -1)
    for a, attribute in enumerate(schema.attributes):
        entries = labels.label[:, schema.starts[a] :][:, : schema.widths[a]] > 0.5
        if attribute.kind == "tag":
            found[:, a] = entries[:, 0]
        elif attribute.kind == "exclusive":
            found[:, a] = np.where(entries.any(axis=1), entries.argmax(axis=1), -1)
    return np.where(labels.known, found, -1)


def _strangers(values: np.ndarray, together: np.ndarray) -> np.ndarray:
    """Return the values of an attribute that are not seen with a word, if that is hardly chance.

    If the attribute did not depend on the word, the word's n labels would all show values that they do show with
    probability pⁿ, where p is the share of these values among all labels.

    Args:
        values: the number of its value, of every label that knows it and the word's attribute, (m,).
        together: the same of the labels that have the word, (n,).
    """
    counts = np.bincount(values)
    seen = np.bincount(together, minlength=len(counts)) > 0
    if together.size and (counts[seen].sum() / counts.sum()) ** together.size < _CHANCE:
        return np.flatnonzero((counts > 0) & ~seen)
    return together[:0]
