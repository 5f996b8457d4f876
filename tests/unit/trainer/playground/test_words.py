"""What the page draws for "any" is what `cgan sample` draws for what a phrase leaves out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shards.dataset.image_shape import ImageShape
from shards.dataset.label_rows import Labels
from shards.dataset.schema import Attribute, Schema
from support.browsers import evaluate
from trainer.generation.prompts import Vocabulary
from trainer.playground import asset_files
from trainer.playground.page_data import page_data

DOCUMENT = "globalThis.document = { getElementById: () => ({ textContent: JSON.stringify(given.page) }) };\n"
LABELS = """
console.log(JSON.stringify(given.drawings.map(({ seed, choices }) => {
  const { label, known } = labelOf({ seed, choices: new Map(choices) });
  return [...label, ...known];
})));
"""
KINDS = Attribute("kind", "exclusive", ("flag", "mammal", "bird", "fish", "globe"))
GROUPS = Attribute("group", "exclusive", ("symbols", "animals", "places"))
SMILE, WINGS = (Attribute(name, "tag", (name,)) for name in ("smile", "wings"))
SIZES = Attribute("sizes", "vector", (), 2)


def dependent_labels(schema: Schema, rows: int) -> Labels:
    """Return labels in which the kind decides the group and mostly the tags; some values are unknown."""
    random = np.random.default_rng(5)
    label = np.zeros((rows, schema.width), np.float32)
    known = random.random((rows, len(schema.attributes))) < 0.8
    for row, attributes in enumerate(known):
        kind = random.integers(5)
        chosen: dict[str, Any] = {"kind": np.eye(5)[kind], "group": np.eye(3)[(0, 1, 1, 1, 2)[kind]]}
        chosen |= {"smile": kind == 1 or (kind == 2 and random.random() < 0.1), "wings": kind == 2}
        chosen["sizes"] = random.normal(size=2)
        for a in np.flatnonzero(attributes):
            start = int(schema.starts[a])
            label[row, start : start + schema.widths[a]] = chosen[schema.attributes[a].name]
    return Labels(label, known)


@pytest.mark.parametrize("attributes", [(KINDS, GROUPS, SMILE, WINGS), (KINDS, GROUPS, SMILE, WINGS, SIZES)])
@pytest.mark.parametrize(
    ("phrase", "choices"),
    [
        ("anything", []),
        ("flag", [(0, 0)]),
        ("fish", [(0, 3)]),
        ("animals", [(1, 1)]),
        ("no wings", [(3, False)]),
        ("bird, smile", [(0, 2), (2, True)]),
        ("flag, wings", [(0, 0), (3, True)]),
        ("places, wings", [(1, 2), (3, True)]),
    ],
)
def test_any_is_drawn_as_the_command_draws_it(
    attributes: tuple[Attribute, ...], phrase: str, choices: list[tuple[int, int]]
) -> None:
    schema = Schema(attributes)
    vocabulary = Vocabulary(schema, dependent_labels(schema, 120))
    page = page_data(vocabulary, ImageShape(16, 16, 3), 8, {})
    drawings = [{"seed": seed, "choices": choices} for seed in range(60)]
    script = DOCUMENT + asset_files.runtime() + asset_files.read("interface/words.js") + LABELS
    found = np.array(evaluate(script, {"page": page, "drawings": drawings}), np.float32)
    expected = [vocabulary.labels_for(phrase, 1, seed) for seed in range(60)]
    assert len(np.unique(found, axis=0)) > 1
    for row, labels in zip(found, expected, strict=True):
        np.testing.assert_array_equal(row, np.concatenate([labels.label[0], labels.known[0]]))
