"""Labels of two vocabularies are matched by the names of attributes and values."""

from __future__ import annotations

from shards.dataset.schema import Attribute, Schema
from trainer.finetuning.carried_labels import match

OLD = Schema(
    (
        Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair")),
        Attribute("glasses", "tag", ("glasses",)),
        Attribute("pose", "vector", size=2),
        Attribute("caption", "text", size=3),
    )
)


def test_columns_follow_their_names_not_their_places() -> None:
    new = Schema(
        (
            Attribute("caption", "text", size=3),
            Attribute("hat", "tag", ("hat",)),
            Attribute("Hair", "exclusive", ("green hair", "black hair", "blue hair")),
            Attribute("pose", "vector", size=2),
        )
    )
    found = match(OLD, new, same_texts=True)
    assert found.entries.tolist() == [6, 7, 8, -1, 2, -1, 0, 4, 5]
    assert found.attributes.tolist() == [3, -1, 0, 2]
    assert found.fresh == ("hat", "Hair: black hair")
    assert found.without_effect("entries").nonzero()[0].tolist() == [3]
    assert found.describe() == "7 of 9 label columns came over by name; fresh: hat, Hair: black hair"
    assert not found.is_same


def test_the_same_vocabulary_is_the_same() -> None:
    found = match(OLD, OLD, same_texts=True)
    assert found.is_same and found.describe() == "all 9 label columns came over by name"
    other_order = Schema(OLD.attributes[::-1])
    assert not match(OLD, other_order, same_texts=True).is_same


def test_what_only_looks_alike_is_fresh() -> None:
    """Of equal widths: by shape alone, all of these would come over."""
    new = Schema(
        (
            Attribute("hair style", "exclusive", ("long hair", "short hair", "bald")),  # another attribute
            Attribute("glasses", "exclusive", ("glasses",)),  # of another kind
            Attribute("pose", "vector", size=3),  # of another size
            Attribute("caption", "text", size=3),  # of another encoder
        )
    )
    found = match(OLD, new, same_texts=False)
    assert (found.entries < 0).all() and (found.attributes < 0).all()
    assert found.fresh == ("hair style", "glasses", "pose", "caption")


def test_many_fresh_labels_are_counted() -> None:
    tags = Schema(tuple(Attribute(f"tag {n}", "tag", (f"tag {n}",)) for n in range(20)))
    assert match(OLD, tags, same_texts=True).describe().endswith("tag 4, tag 5 and 14 more")
