"""Label accuracy: counts worked out by hand, and properties that hold for any images."""

from __future__ import annotations

import json
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.dataset.schema import Attribute, Schema
from trainer.evaluation.metrics.combinations import Combinations
from trainer.evaluation.metrics.label_accuracy import (
    AttributeAccuracy,
    LabelAccuracy,
    Tally,
    label_accuracy,
    reason_to_doubt,
    wilson_interval,
)

HAIR = Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair"))
EYES = Attribute("eyes", "exclusive", ("blue eyes", "red eyes"))
SMILE = Attribute("smile", "tag", ("smile",))
SCHEMA = Schema((HAIR, Attribute("caption", "text", (), 2), EYES, SMILE))
WIDTH = 3 + 2 + 2 + 1
Words = tuple[int, int, int]  # numbers of hair, eyes and smile; -1: unknown


def labels(*rows: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Label vectors and masks of (hair, eyes, smile); -1: unknown."""
    label, known = np.zeros((len(rows), WIDTH), np.float32), np.zeros((len(rows), 4), bool)
    for row, (hair, eyes, smile) in enumerate(rows):
        known[row] = hair >= 0, True, eyes >= 0, smile >= 0
        label[row, 3:5] = 0.6, 0.8
        if hair >= 0:
            label[row, hair] = 1
        if eyes >= 0:
            label[row, 5 + eyes] = 1
        label[row, 7] = smile == 1
    return label, known


def logits_of(*rows: tuple[int, int, int]) -> np.ndarray:
    """Logits of a judge that recognises (hair, eyes, smile)."""
    label, _ = labels(*rows)
    return label * 4 - 2


LABELLED = (0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, -1), (-1, 0, 0), (2, -1, 1)
SHOWN = (0, 0, 0), (1, 1, 1), (1, 1, 0), (1, 1, 1), (2, 0, 1), (2, 0, 1)


def test_counts_equal_those_by_hand() -> None:
    found = label_accuracy(SCHEMA, logits_of(*SHOWN), *labels(*LABELLED))
    assert found.wordless == ("caption",)
    hair, eyes, smile = found.attributes
    assert hair.tally == Tally(5, 4) and hair.by_value == {
        "blue hair": Tally(2, 1),
        "red hair": Tally(2, 2),
        "green hair": Tally(1, 1),
    }
    assert hair.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 1]]
    assert hair.balanced == pytest.approx((1 / 2 + 1 + 1) / 3) and hair.tally.fraction == 0.8
    assert eyes.by_value == {"blue eyes": Tally(3, 2), "red eyes": Tally(2, 2)}
    assert smile.values == ("no smile", "smile")
    assert smile.by_value == {"no smile": Tally(2, 1), "smile": Tally(3, 2)}
    assert found.whole == Tally(6, 3)  # rows 0, 3 and 5: what is unknown cannot be wrong
    assert found["eyes"] is eyes


def test_worst_combinations_list_their_wrong_images() -> None:
    found = label_accuracy(SCHEMA, logits_of(*SHOWN), *labels(*LABELLED))
    assert [(c.words, c.tally, c.rows) for c in found.worst] == [
        (("blue hair", "red eyes"), Tally(1, 0), (1,)),
        (("red hair", "blue eyes"), Tally(1, 0), (2,)),
    ]
    alone = Schema((HAIR,))
    label, known = np.eye(3, dtype=np.float32)[[0, 0, 1]], np.ones((3, 1), bool)
    worst = label_accuracy(alone, np.eye(3)[[1, 1, 1]], label, known).worst
    assert [(c.words, c.rows) for c in worst] == [(("blue hair",), (0, 1))]


def test_combinations_that_the_dataset_lacks_are_scored_separately() -> None:
    seen = Combinations.of(SCHEMA, *labels(*[(0, 0, -1), (1, 1, -1), (2, -1, -1), (-1, 1, -1)]))
    found = label_accuracy(SCHEMA, logits_of(*SHOWN), *labels(*LABELLED), seen=seen)
    assert found.seen == Tally(2, 2)  # rows 0 and 3; of rows 4 and 5 not enough is known to tell
    assert found.unseen == Tally(2, 0)  # rows 1 and 2
    without = label_accuracy(SCHEMA, logits_of(*SHOWN), *labels(*LABELLED))
    assert without.seen is None and without.unseen is None


def test_many_attributes_are_combined_in_pairs() -> None:
    three = Schema(tuple(Attribute(n, "exclusive", (f"{n}0", f"{n}1")) for n in "abc"))
    one_hot = np.eye(2, dtype=np.float32)
    few = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1]])  # every pair but (1, 1, ·), (1, ·, 0) and (·, 1, 0)
    new = np.array([[0, 0, 1], [1, 1, 1], [1, 0, 0], [0, 1, 0]])
    known = np.ones((100, 3), bool)
    seen = Combinations.of(three, one_hot[few].reshape(3, 6), known[:3])
    assert not seen.whole and len(seen.groups) == 3
    assert seen.unseen(one_hot[new].reshape(4, 6), known[:4])[0].tolist() == [False, True, True, True]
    many = Combinations.of(three, np.tile(one_hot[few].reshape(3, 6), (30, 1)), known[:90])
    assert many.whole  # 8 are possible and there are 90 images: a new triple is new
    assert many.unseen(one_hot[new].reshape(4, 6), known[:4])[0].tolist() == [True, True, True, True]
    decidable = many.unseen(one_hot[new].reshape(4, 6), np.array([[True, True, False]] * 4))[1]
    assert not decidable.any()
    assert Combinations.of(Schema((HAIR, SMILE)), np.zeros((2, 4)), np.ones((2, 2), bool)).groups == ()


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_equals_published_values(right: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(right, count) == pytest.approx((low, high), abs=2e-4)


def of_counts(*matrix: tuple[int, ...]) -> AttributeAccuracy:
    """Return an attribute with this confusion matrix."""
    cells = [(a, s, n) for a, row in enumerate(matrix) for s, n in enumerate(row) if n]
    return AttributeAccuracy("hair", "exclusive", tuple(f"v{i}" for i in range(len(matrix))), tuple(cells))


@pytest.mark.parametrize(
    ("real", "word"),
    [
        (of_counts((95, 5), (10, 90)), ""),
        (of_counts((0, 0), (0, 0)), "no held-out image"),
        (of_counts((1000, 0), (0, 0)), "only 1 of its 2"),
        (of_counts((70, 30), (30, 70)), "in 70%"),
        (of_counts((990, 0), (10, 0)), "in 50%"),  # always answering "no" is right in 99 %, and useless
        (of_counts((1000, 0), (0, 1)), "too few"),
        (of_counts((4, 0), (0, 4)), "too few"),
        (of_counts((4, 1), (0, 5)), "too few"),
    ],
)
def test_weak_judge_is_not_trusted(real: AttributeAccuracy, word: str) -> None:
    assert word in reason_to_doubt(real) if word else reason_to_doubt(real) == ""


def test_doubtful_attributes_are_left_out_of_aggregates() -> None:
    good = [(i % 3, i % 2, -1) for i in range(300)]
    real = label_accuracy(
        SCHEMA, logits_of(*[(h, 0, 1) for h, _, _ in good]), *labels(*good)
    )  # always recognises blue eyes
    found = label_accuracy(SCHEMA, logits_of(*SHOWN), *labels(*LABELLED), real=real)
    assert [bool(a.doubt) for a in found.attributes] == [False, True, True]
    assert found.whole == Tally(5, 4) and [c.words for c in found.worst] == [("blue hair",)]
    assert found["eyes"].tally == Tally(5, 4), "a doubtful attribute is still counted, and reported with its doubt"


IMAGES = st.lists(
    st.tuples(
        st.tuples(st.integers(-1, 2), st.integers(-1, 1), st.integers(-1, 1)),  # the label
        st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 1)),  # what the image shows
    ),
    max_size=30,
)


@given(IMAGES, st.randoms(use_true_random=False))
def test_result_does_not_depend_on_the_order_of_images_and_counts_add_up(
    images: list[tuple[Words, Words]], random: Random
) -> None:
    expected, shown = [p[0] for p in images], [p[1] for p in images]
    label, known = labels(*expected)
    logits = logits_of(*shown)
    seen = Combinations.of(SCHEMA, label[::2], known[::2])
    found = label_accuracy(SCHEMA, logits, label, known, seen=seen)
    for a, attribute in zip((0, 2, 3), found.attributes, strict=True):
        assert attribute.tally.count == int(known[:, a].sum()) == attribute.confusion.sum()
        assert attribute.tally.right == np.trace(attribute.confusion)
        assert math.isnan(attribute.balanced) or 0 <= attribute.balanced <= 1
        low, high = attribute.balanced_interval
        assert math.isnan(attribute.balanced) or low - 1e-9 <= attribute.balanced <= high + 1e-9
    assert found.whole.count == int(known[:, [0, 2, 3]].any(1).sum())
    assert found.seen is not None and found.unseen is not None
    assert found.seen.count + found.unseen.count == int((known[:, 0] & known[:, 2]).sum())
    for combination in found.worst:
        wrong = combination.tally.count - combination.tally.right
        assert wrong > 0 and len(combination.rows) == min(wrong, 16)

    permutation = list(range(len(images)))
    random.shuffle(permutation)
    moved = label_accuracy(SCHEMA, logits[permutation], label[permutation], known[permutation], seen=seen)
    assert [(c.words, c.tally) for c in moved.worst] == [(c.words, c.tally) for c in found.worst]
    for there, here in zip(moved.worst, found.worst, strict=True):
        assert len(here.rows) == 16 or {permutation[row] for row in there.rows} == set(here.rows)
    assert moved.attributes == found.attributes
    assert (moved.whole, moved.seen, moved.unseen) == (found.whole, found.seen, found.unseen)
    assert LabelAccuracy.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


def test_wrong_shapes_are_an_error() -> None:
    label, known = labels(*LABELLED)
    with pytest.raises(ValueError, match="do not fit the schema"):
        label_accuracy(SCHEMA, logits_of(*SHOWN)[:, :-1], label, known)
    content = label_accuracy(SCHEMA, logits_of(*SHOWN), label, known).to_json()
    content["attributes"][0]["cells"] = [(0, 7, 1)]
    with pytest.raises(ValueError, match="outside its confusion matrix"):
        LabelAccuracy.from_json(content)
