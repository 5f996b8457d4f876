"""The data of a run in the page: its attributes, labels to fill in what a person leaves open, and its generator."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

from shards.core.errors import UserError
from shards.dataset.image_shape import ImageShape
from shards.dataset.label_rows import Labels
from shards.dataset.schema import Attribute, Schema
from trainer.generation.prompts import Vocabulary

_FREQUENT = 12  # values of an attribute in a grid
_SLIDERS = 16  # numbers of a vector, above which it has no sliders
# The purposes of random draws in `cgan sample`: the page draws the same image for the same seed.
_PURPOSES = {"noise": "noise to sample", "labels": "labels to sample"}


def require_words(vocabulary: Vocabulary) -> None:
    """Check that labels can be chosen without a text encoder.

    Raises:
        UserError: the run reads sentences.
    """
    if vocabulary.text is not None:
        raise UserError(
            "sentences-need-encoder",
            "this run reads sentences with a text encoder, which a page without network cannot hold; "
            'draw with cgan sample RUN "a sentence"',
        )


def page_data(vocabulary: Vocabulary, shape: ImageShape, noise_size: int, program: dict[str, Any]) -> dict[str, Any]:
    """Return the page's data as plain JSON values.

    Args:
        vocabulary: without captions (see `require_words`).
        shape: of the images.
        noise_size: length of z.
        program: `Encoded.content`.
    """
    schema = vocabulary.schema
    return {
        "width": shape.width,
        "height": shape.height,
        "channels": shape.channels,
        "noise": noise_size,
        "purposes": {name: zlib.crc32(purpose.encode()) for name, purpose in _PURPOSES.items()},
        "attributes": [_attribute(schema, a, vocabulary.labels) for a in range(len(schema.attributes))],
        "labels": _packed(schema, vocabulary.labels),
        "program": program,
    }


def _attribute(schema: Schema, number: int, labels: Labels) -> dict[str, Any]:
    attribute, start = schema.attributes[number], int(schema.starts[number])
    entries = labels.label[labels.known[:, number], start : start + attribute.width]
    content = {
        "name": attribute.name,
        "kind": attribute.kind,
        "values": list(attribute.values),
        "start": start,
        "width": attribute.width,
    }
    if attribute.kind == "exclusive":
        content["frequent"] = np.sort(np.argsort(-entries.sum(0), kind="stable")[:_FREQUENT]).tolist()
    if attribute.kind == "vector":
        content["range"] = _range(attribute, entries)
    return content


def _range(attribute: Attribute, entries: np.ndarray) -> list[list[float]] | None:
    """Return the (lowest, highest) of each number of a vector; None if there are too many, or nothing is known."""
    if attribute.width > _SLIDERS or not len(entries):
        return None
    return [[float(low), float(high)] for low, high in zip(entries.min(0), entries.max(0), strict=True)]


def _packed(schema: Schema, labels: Labels) -> dict[str, Any]:
    """Return labels as base64: a bit for each entry if all are zeros and ones, else float32, little-endian."""
    numeric = any(attribute.kind == "vector" for attribute in schema.attributes)
    label = labels.label.astype("<f4").tobytes() if numeric else np.packbits(labels.label > 0.5).tobytes()
    return {
        "count": len(labels.label),
        "dtype": "float32" if numeric else "bits",
        "label": base64.b64encode(label).decode(),
        "known": base64.b64encode(np.packbits(labels.known).tobytes()).decode(),
    }
