"""What the texts of a source are."""

from __future__ import annotations

import pytest

from shards.sources.tag_cells.boxes import boxes_in
from shards.sources.tag_cells.texts import are_several, understand_texts
from support.source_files import CAPTIONS

PHRASES = [f"{hair} hair {eyes} eyes" for hair in ("red", "blue", "pink") for eyes in ("aqua", "red", "gray")]
HAIR = ("blue hair", "red hair", "green hair")


@pytest.mark.parametrize("sign", [", ", "，", "、", "; ", "/", "+", "\t", "\n", " ||| ", "|"])
def test_tags_in_any_dialect(sign: str) -> None:
    texts = [sign.join((HAIR[i % 3], ("smile", "open mouth")[i % 2], "long hair")) for i in range(24)]
    understood = understand_texts(texts)
    assert understood.kind == "tags" and understood.dialect
    assert understood.dialect.tags(texts[0]) == ("blue hair", "smile", "long hair")


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ([f"{i % 2} 0.5 0.5 0.25 0.125\n1 0.1 0.2 0.3 0.4" for i in range(9)] + [""], "boxes"),
        ([f"{i}" for i in range(9)], "numbers"),
        ([f"{i / 7:.3f}" for i in range(9)], "numbers"),
        ([f"{i * 7**40:064x}" for i in range(9)], "codes"),
        ([f"https://example.org/{i}.png" for i in range(9)], "codes"),
        ([f'{{"width": {i}, "name": {{"a": 1}}}}' for i in range(9)], "codes"),
        (["['blue hair', 'smile']", '["red hair"]'], "tags"),
        (["cat", "dog", "cat", "cat", "dog", "dog"], "tags"),
        (list(CAPTIONS) * 3, "captions"),
        (["a red fox", "a wolf", "a red fox"] * 5, "captions"),
        (["a gray bird\nbird with black wings\nsmall bird"] * 5, "captions"),
        (PHRASES, "tags"),
        ([], ""),
    ],
)
def test_kinds_of_texts(texts: list[str], kind: str) -> None:
    assert understand_texts(texts).kind == kind


def test_a_person_may_decide() -> None:
    assert understand_texts(CAPTIONS, forced="tags").kind == "tags"
    assert understand_texts(["fox, snow", "fox, lake"], forced="caption").kind == "captions"


def test_captions_one_per_line_are_told_from_one_with_line_breaks() -> None:
    assert are_several(["A red fox.\nA fox in the snow.", "Two dogs.\nDogs."])
    assert are_several(["a red fox\na fox in the snow\nfox", "two dogs\ndogs"])
    assert not are_several(["A red fox sits\nin the snow.", "Two dogs run\nover a frozen lake."])
    assert not are_several(["A red fox.", "Two dogs."])


def test_boxes_have_a_class_and_at_least_four_numbers() -> None:
    assert boxes_in("3 0.5 0.5 0.1 0.1\n1 .5 .5 1 1e-3\n") == {1, 3}
    assert boxes_in("0 0.1 0.2 0.3 0.4 0.5 0.6") == {0}
    assert boxes_in("3 0.5 0.5 0.1") is None and boxes_in("1girl, solo") is None and boxes_in("") is None
