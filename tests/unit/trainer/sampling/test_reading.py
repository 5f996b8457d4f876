"""What a phrase asks for, and when a judge sees it: exclusive values, tags, and what cannot be judged."""

from __future__ import annotations

import numpy as np
import pytest

from shards.dataset.schema import Attribute, Schema
from trainer.generation import phrase
from trainer.sampling.reading import Request, read

SCHEMA = Schema(
    (
        Attribute("hair", "exclusive", ("blue hair", "red hair", "grey hair")),
        Attribute("hat", "tag", ("hat",)),
        Attribute("smile", "tag", ("smile",)),
        Attribute("size", "vector", (), 2),
        Attribute("kind", "exclusive", ("face",)),
    )
)


def request(words: str) -> Request:
    return Request.of(SCHEMA, *phrase.vector(phrase.parse(words, SCHEMA), SCHEMA))


@pytest.mark.parametrize(
    ("words", "values", "named"),
    [
        ("red hair", {0: 1}, ("red hair",)),
        ("grey hair, no hat, smile", {0: 2, 1: 0, 2: 1}, ("grey hair", "no hat", "smile")),
        ("anything", {}, ()),
    ],
)
def test_only_what_a_phrase_names_is_checked(words: str, values: dict[int, int], named: tuple[str, ...]) -> None:
    assert request(words).values == values and request(words).words == named


def test_what_no_judge_can_see_is_named() -> None:
    named = np.array([True, False, False, True, True])
    found = Request.of(SCHEMA, np.array([0, 1, 0, 0, 0, 7, 7, 1], np.float32), named)
    assert found.words == ("red hair",) and found.unchecked == ("size", "kind")


def test_certainty_is_the_product_of_the_probabilities_and_zero_if_a_word_is_not_seen() -> None:
    logits = np.zeros((4, SCHEMA.width), np.float32)
    logits[0, :4] = np.log([0.1, 0.8, 0.1, 3.0])  # red hair; a hat with 3 to 1
    logits[1, :4] = np.log([0.8, 0.1, 0.1, 3.0])  # blue hair
    logits[2, :4] = np.log([0.1, 0.8, 0.1, 1 / 3])  # no hat
    logits[3, :4] = 0, 500, 0, 500
    assert request("red hair, hat").certainty(logits).tolist() == pytest.approx([0.6, 0, 0, 1.0])
    assert request("red hair, no hat").certainty(logits).tolist() == pytest.approx([0, 0, 0.6, 0])
    assert request("red hair").certainty(logits).tolist() == pytest.approx([0.8, 0, 0.8, 1.0])
    assert read(SCHEMA, (0, 1), logits).values.tolist() == [[1, 1], [0, 1], [1, 0], [1, 1]]
    assert read(SCHEMA, (0, 1), logits).certainty.tolist() == pytest.approx([0.6, 0.6, 0.6, 1.0])


def test_a_tie_between_absent_and_present_is_absent_as_in_label_accuracy() -> None:
    logits = np.zeros((1, SCHEMA.width), np.float32)
    assert request("no hat").certainty(logits).tolist() == [0.5]
    assert request("hat").certainty(logits).tolist() == [0.0]
