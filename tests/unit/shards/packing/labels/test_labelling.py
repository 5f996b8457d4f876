"""From what a source says to label rows: tags, classes, captions, vectors, synonyms, rare tags."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards import text_encoders
from shards.core.errors import UserError
from shards.dataset.schema import Attribute, Schema
from shards.packing.labels import synonyms
from shards.packing.labels.labelling import Labelling, LabelOptions, build_labelling
from shards.sources.item import ImageFile, Item, Source
from shards.vocabulary.spelling import normalise
from support.errors import raises
from support.source_files import scan_source
from support.text_models import WIDTH, write_onnx

NOWHERE = ImageFile(Path("nowhere.png"), "nowhere.png")


def item(number: int, *tags: str, **known: Any) -> Item:
    return Item(f"{number}.png", NOWHERE, tags or None, **known)


def source(items: Sequence[Item], **known: Any) -> Source:
    return Source("tags", list(items), **known)


def asked(**options: Any) -> LabelOptions:
    return LabelOptions(**options)


def names(result: Labelling) -> list[tuple[str, str]]:
    return [(attribute.name, attribute.kind) for attribute in result.schema.attributes]


def words(result: Labelling, items: Sequence[Item]) -> list[list[str]]:
    rows = result.rows(items)
    return [result.schema.words(label, known) for label, known in zip(rows.labels, rows.known, strict=True)]


HAIR = [item(i, f"{colour} hair", *(["smile"] if i % 2 else [])) for i, colour in enumerate(["red", "blue"] * 6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tokenizers")
    return str(write_onnx(tmp_path_factory.mktemp("models") / "table"))


# ---------------------------------------------------------------- which attributes there are


def test_tags_become_attributes_and_rows_without_stay_unknown() -> None:
    items = [*HAIR, item(99)]
    result = build_labelling(source(items), asked())
    assert names(result) == [("hair", "exclusive"), ("smile", "tag")]
    assert words(result, items)[:2] == [["red hair"], ["blue hair", "smile"]]
    assert not result.rows(items).known[-1].any()


def test_class_takes_all_tags_as_one_attribute() -> None:
    items = [item(0, "red fox"), item(1, "owl"), item(2, "owl", "red fox")]
    result = build_labelling(source(items), asked(labels="class"))
    assert names(result) == [("class", "exclusive")]
    assert words(result, items) == [["red fox"], ["owl"], []]
    assert result.rows(items).conflicts == {"class": 1}


def test_vectors_are_labels_as_they_are() -> None:
    items = [item(0, vector=(0.5, -2.0)), item(1), item(2, vector=(0.0, 0.0))]
    for kind in ("auto", "vector"):
        rows = (result := build_labelling(source(items), asked(labels=kind))).rows(items)
        assert names(result) == [("vector", "vector")] and result.schema.width == 2
        assert rows.labels.tolist() == [[0.5, -2], [0, 0], [0, 0]]
        assert rows.known[:, 0].tolist() == [True, False, True]


def test_captions_are_encoded_once_and_alike(model: str) -> None:
    items = [
        item(0, caption="blue hair"),
        item(1, caption="  "),
        item(2),
        item(3, caption="a girl"),
        item(4, caption=" blue hair"),
    ]
    result = build_labelling(source(items), asked(text_encoder=model))
    assert names(result) == [("caption", "text")] and result.schema.width == WIDTH
    rows = result.rows(items)
    assert rows.known[:, 0].tolist() == [True, False, False, True, True]
    assert np.array_equal(rows.labels[[0, 3]], text_encoders.load(model).encode(["blue hair", "a girl"]))
    assert np.array_equal(rows.labels[0], rows.labels[4]) and not rows.labels[[1, 2]].any()
    one_by_one = np.concatenate([result.rows([single]).labels for single in items])
    assert np.array_equal(rows.labels, one_by_one)


def test_tags_vectors_and_captions_stand_side_by_side(model: str) -> None:
    items = [replace(one, caption="a girl", vector=(1.0, 2.0, 3.0)) for one in HAIR]
    items[3] = replace(items[3], caption=None, vector=None)
    result = build_labelling(source(items), asked(text_encoder=model))
    assert names(result) == [("hair", "exclusive"), ("smile", "tag"), ("vector", "vector"), ("caption", "text")]
    rows = result.rows(items)
    assert rows.labels[0, 3:6].tolist() == [1, 2, 3] and rows.labels[0, 6:].any()
    assert rows.known[3].tolist() == [True, True, False, False] and not rows.labels[3, 3:].any()
    assert names(build_labelling(source(items), asked(labels="tags"))) == names(result)[:2]
    assert names(build_labelling(source(items), asked(labels="caption", text_encoder=model))) == names(result)[3:]
    without = source(items)
    assert names(build_labelling(without, asked())) == names(result)[:3]
    assert without.problems.counts() == {"caption-not-encoded": len(items) - 1}


def test_given_attributes_stay_and_their_words_are_not_inferred_again() -> None:
    hair = Attribute("hair", "exclusive", ("blue hair", "red hair"))
    flags = Attribute("male", "tag", ("male",))
    items = [item(0, "blue hair", "male", "long hair"), item(1, "red hair", "short hair", denied=("male",))]
    items += [item(i, "red hair", ["long hair", "short hair"][i % 2]) for i in range(2, 12)]
    result = build_labelling(source(items, attributes=(hair, flags)), asked())
    assert names(result) == [("hair", "exclusive"), ("male", "tag"), ("hair 2", "exclusive")]
    assert result.explicit == {"blue hair", "red hair", "male"}
    male = result.rows(items).known[:, 1].tolist()
    assert male == [True, True] + [False] * 10, "known only where the row says yes or no"
    only = build_labelling(source([item(0, "blue hair")], attributes=(hair,)), asked())
    assert only.schema.attributes == (hair,)


def test_the_identity_is_plain_and_holds_the_encoders_hash(model: str) -> None:
    items = [item(0, "azure hair", caption="blue hair"), item(1, "red hair", caption="a girl")]
    first, again = (build_labelling(source(items), asked(text_encoder=model)) for _ in range(2))
    assert first == again and first.identity == again.identity
    identity = json.loads(json.dumps(first.identity))
    assert identity == first.identity
    assert identity["text_encoder"] == text_encoders.load(model).identity
    assert build_labelling(source(items), asked()).identity["text_encoder"] is None


@pytest.mark.parametrize(
    ("items", "options", "code", "named"),
    [
        ([item(0)], {}, "source-unlabelled", []),
        ([item(0, caption="a girl")], {}, "option-missing", ["--text-encoder", "cgan-trainer[text]", "--labels tags"]),
        (HAIR, {"labels": "caption"}, "source-unlabelled", ["--labels caption"]),
        (HAIR, {"labels": "vector"}, "source-unlabelled", ["--labels vector"]),
        (HAIR, {"text_encoder": "minilm"}, "option-without-effect", ["--text-encoder minilm"]),
        ([item(0, "a", caption="b")], {"labels": "caption"}, "option-missing", ["--text-encoder"]),
        (
            [item(0, "a", caption="b")],
            {"labels": "tags", "text_encoder": "minilm"},
            "option-conflict",
            ["--text-encoder", "--labels tags"],
        ),
        (
            [item(0, vector=(1.0,)), item(1, vector=(1.0, 2.0))],
            {},
            "vector-lengths-differ",
            ["1.png: its vector has 2 numbers", "0.png has 1"],
        ),
        ([item(0, vector=())], {}, "vector-lengths-differ", ["0.png"]),
        ([item(0, vector=(float("nan"),))], {}, "invalid-vector", ["0.png"]),
        ([item(0, vector=(1e39,))], {}, "invalid-vector", ["0.png"]),
        ([item(0, vector=(10**400,))], {}, "invalid-vector", ["0.png"]),
        (HAIR, {"min_count": 7}, "no-frequent-tags", ["--min-count 7", " hair in 6"]),
        ([item(0, caption="a girl")], {"text_encoder": "/nowhere"}, "model-missing", ["/nowhere"]),
    ],
)
def test_source_that_cannot_be_labelled_is_refused(
    items: list[Item], options: dict[str, Any], code: str, named: list[str]
) -> None:
    with raises(code, *named):
        build_labelling(source(items), asked(**options))


# ---------------------------------------------------------------- a schema by hand


def test_classes_that_come_as_floats_are_classes(tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = [{"file_name": f"{i}.png", "label": None if i == 3 else float(i % 2)} for i in range(4)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for labels in ("auto", "class"):
        images = scan_source(tmp_path, labels=labels)
        result = build_labelling(images, asked(labels=labels))
        assert [a.values for a in result.schema.attributes] == [("0", "1")]
        assert words(result, images.items) == [["0"], ["1"], ["0"], []]


def test_a_schema_decides_and_unlabelled_images_are_fine_with_it(tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"
    Schema((Attribute("hair", "exclusive", ("red hair", "green hair")),)).save(file)
    unlabelled = source([item(0), item(1)])
    result = build_labelling(unlabelled, asked(schema=file))
    assert not result.rows(unlabelled.items).known.any()
    tagged = source(HAIR)
    assert words(build_labelling(tagged, asked(schema=file)), HAIR)[:2] == [["red hair"], []]
    assert tagged.problems.counts() == {"tag-not-in-schema schema.yaml": 2}


def test_a_schemas_texts_and_vectors_must_fit(tmp_path: Path, model: str) -> None:
    def schema(*attributes: Attribute) -> Path:
        Schema(attributes).save(tmp_path / "schema.yaml")
        return tmp_path / "schema.yaml"

    text = [item(0, caption="blue hair")]
    fits = schema(Attribute("what", "text", (), WIDTH))
    assert build_labelling(source(text), asked(schema=fits, text_encoder=model)).rows(text).known.all()
    with raises("option-missing", "what", "--text-encoder"):
        build_labelling(source(text), asked(schema=fits))
    with raises("schema-mismatch", "what", 3, WIDTH):
        build_labelling(source(text), asked(schema=schema(Attribute("what", "text", (), 3)), text_encoder=model))
    with raises("schema-mismatch", "'v'", 3, 2):
        build_labelling(source([item(0, vector=(1.0, 2.0))]), asked(schema=schema(Attribute("v", "vector", (), 3))))
    two = schema(Attribute("v", "vector", (), 3), Attribute("w", "vector", (), 3))
    with raises("invalid-schema", "vector"):
        build_labelling(source([item(0)]), asked(schema=two))
    with raises("option-conflict", "--min-count", "--schema"):
        build_labelling(source(HAIR), asked(schema=schema(Attribute("smile", "tag", ("smile",))), min_count=2))


# ---------------------------------------------------------------- rare tags and synonyms


def test_rare_tags_are_left_out_and_named() -> None:
    items = [*HAIR, item(20, "green hair", "hat"), item(21, "green hair")]
    images = source(items)
    result = build_labelling(images, asked(min_count=3))
    assert result.schema.values == ("blue hair", "red hair", "smile")
    assert images.problems.found == {"tag-rare 3": ["green hair", "hat"]}
    assert words(result, items)[-2:] == [[], []]
    assert result.rows(items).known[-1].tolist() == [False, True], "the row has tags: it does not smile"


def test_images_of_a_rare_class_become_unlabelled() -> None:
    items = [item(i, "owl" if i else "fox") for i in range(5)]
    result = build_labelling(source(items, one_class=True), asked(min_count=2))
    assert result.schema.values == ("owl",)
    assert result.rows(items).known[:, 0].tolist() == [False, True, True, True, True]


def test_rare_values_of_given_attributes() -> None:
    given = (Attribute("a", "exclusive", ("x", "y")), Attribute("b", "tag", ("z",)))
    items = [item(0, "x"), item(1, "x"), item(2, "y", "z")]
    result = build_labelling(source(items, attributes=given), asked(min_count=2))
    assert result.schema.attributes == (Attribute("a", "exclusive", ("x",)),)


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "aliases.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_synonyms_become_their_tag(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        'Azure_Hair: cyan hair\ncyan hair: blue hair\n"1girl": ""\nsolo:\nunseen: red hair\nblue hair: blue_hair\n',
    )
    items = [*HAIR, item(20, "azure hair", "1girl", "blue hair"), item(21, "1girl", "solo", denied=("azure hair",))]
    images = source(items)
    result = build_labelling(images, asked(aliases=file))
    assert images.items[-2].tags == ("blue hair",) and images.items[-1].tags == ()
    assert images.items[-1].denied == ("blue hair",)
    assert images.problems.found == {"synonym-unused aliases.yaml": ["cyan hair", "unseen"]}
    assert result.schema.values == ("blue hair", "red hair", "smile")
    assert result.identity["aliases"] == {
        "1girl": "", "azure hair": "blue hair", "cyan hair": "blue hair", "solo": "", "unseen": "red hair"
    }  # fmt: skip


def test_synonyms_of_given_words() -> None:
    given = (Attribute("hair", "exclusive", ("azure", "blue", "red")), Attribute("m", "tag", ("m",)))
    assert synonyms.apply_to_attributes(given, {"azure": "blue", "m": "red"}) == (
        Attribute("hair", "exclusive", ("blue", "red")),
    )


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("a: b\nb: c\nc: a\n", "invalid-synonyms", "a → b → c → a"),
        ("- a\n", "invalid-synonyms", "azure hair: blue hair"),
        ("", "invalid-synonyms", "azure hair: blue hair"),
        ("a: [b, c]\n", "invalid-synonyms", "['b', 'c']"),
        ("1: b\n", "invalid-synonyms", "1"),
        ("yes: b\n", "invalid-synonyms", "True"),
        ("a b: c\nA_b: d\n", "invalid-synonyms", "'a b' stands for both 'c' and 'd'"),
        ('" ": d\n', "invalid-synonyms", "'d'"),
        ("a: b: c\n", "invalid-yaml", ""),
        ("!!python/object/apply:os.system [ls]", "invalid-yaml", ""),
        (b"a: \xff\n", "invalid-yaml", ""),
        ("[" * 5000, "invalid-yaml", ""),
        ("a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]\n", "invalid-synonyms", ""),
    ],
)
def test_damaged_file_of_synonyms_is_refused(tmp_path: Path, text: str | bytes, code: str, named: str) -> None:
    with raises(code, named) as caught:
        build_labelling(source(HAIR), asked(aliases=written(tmp_path, text)))
    assert "\n" not in str(caught.value)
    with raises("file-unreadable", "none.yaml"):
        synonyms.load(tmp_path / "none.yaml")


WORD = st.sampled_from("a b c d e f".split())


def _circle(table: dict[str, str]) -> bool:
    """Whether following the table from some word comes to no end."""

    def end(word: str) -> str | None:
        for _ in range(len(table) + 1):
            if table.get(word, word) == word:
                return word
            word = table[word]
        return None

    return any(end(word) is None for word in table)


@given(st.dictionaries(WORD, WORD | st.just("")), st.lists(WORD, max_size=6))
def test_aliases_end_at_words_that_are_no_synonyms(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, str], tags: list[str]
) -> None:
    file = written(tmp_path_factory.mktemp("aliases"), json.dumps(table))
    try:
        found = synonyms.load(file)
    except UserError:
        assert _circle(table)
        return
    assert not _circle(table)
    assert not set(found) & set(found.values())
    once = synonyms.apply_to_item(item(0, *tags), found)
    assert synonyms.apply_to_item(once, found) == once
    assert all(tag and normalise(tag) == tag and tag not in found for tag in once.tags or ())


@given(
    st.lists(st.tuples(st.lists(WORD, max_size=4), st.lists(WORD, max_size=2)), min_size=1, max_size=12),
    st.integers(1, 3),
)
def test_any_tags_make_rows_or_a_sentence(rows: list[tuple[list[str], list[str]]], least: int) -> None:
    items = [Item(str(i), NOWHERE, tuple(tags) or None, tuple(denied)) for i, (tags, denied) in enumerate(rows)]
    try:
        result = build_labelling(source(items), asked(min_count=least))
    except UserError:
        counts = Counter(tag for tags, _ in rows for tag in set(tags))
        assert max(counts.values(), default=0) < least
        return
    together = result.rows(items)
    assert together.labels.shape == (len(items), result.schema.width)
    assert set(np.unique(together.labels)) <= {0, 1}
    one: Callable[[Item], np.ndarray] = lambda single: result.rows([single]).labels[0]  # noqa: E731
    assert np.array_equal(together.labels, np.stack([one(single) for single in items]))


@pytest.mark.parametrize(("images", "least"), [(30, 1), (199, 1), (300, 3), (2000, 20), (20_000, 20), (50_000, 50)])
def test_rare_tags_are_left_out_by_default(images: int, least: int) -> None:
    """20 images are enough for a tag, or 1 % of few images; of many, 0.1 %."""
    rare, frequent = {f"rare{n}": n for n in range(1, least)}, {f"tag{n}": n for n in (least, least + 1)}
    tags: list[list[str]] = [["every", "odd"] if i % 2 else ["every"] for i in range(images)]
    for tag, count in {**rare, **frequent}.items():
        for i in range(count):
            tags[i].append(tag)
    made = source([item(i, *row) for i, row in enumerate(tags)])
    words = set(build_labelling(made, asked()).schema.values)
    assert words == {"every", "odd", *frequent} and made.rare == rare
    assert set(build_labelling(made, asked(min_count=1)).schema.values) == words | set(rare)


def test_rare_classes_and_columns_are_kept() -> None:
    """A class of one image is a class; only tags are left out."""
    items = [item(i, "often" if i else "once") for i in range(1000)]
    for one_class in (True, False):
        assert build_labelling(source(items, one_class=one_class), asked()).schema.values == ("often", "once")
    column = (Attribute("kind", "exclusive", ("often", "once")),)
    assert build_labelling(source(items, attributes=column), asked()).schema.values == ("often", "once")
