"""Phrases to labels: tags, captions and numbers; the other attributes follow the dataset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from shards import text_encoders
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import Labels
from shards.dataset.schema import Attribute, Schema
from support.errors import raises
from support.text_models import WIDTH, write_bert, write_onnx
from trainer.config import Config
from trainer.generation.prompts import Vocabulary, read_vocabulary
from trainer.generation.showcase import showcase
from trainer.run.directory import RunDirectory

HAIR = Attribute("hair", "exclusive", ("blue hair", "red hair"))
SMILE = Attribute("smile", "tag", ("smile",))
VECTOR = Attribute("pose", "vector", (), 3)
TEXT = Attribute("caption", "text", (), WIDTH)


def labels(schema: Schema, rows: list[dict[str, Any]]) -> Labels:
    """Return labels from one dict per row: attribute name -> numbers."""
    label = np.zeros((len(rows), schema.width), np.float32)
    known = np.zeros((len(rows), len(schema.attributes)), bool)
    for number, row in enumerate(rows):
        for a, attribute in enumerate(schema.attributes):
            if attribute.name in row:
                label[number, schema.starts[a] :][: attribute.width] = row[attribute.name]
                known[number, a] = True
    return Labels(label, known)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tokenizers")
    return str(write_onnx(tmp_path_factory.mktemp("models") / "table"))


@pytest.fixture(scope="module")
def captioned(model: str) -> Vocabulary:
    """Half of the images show a red circle, half a blue square; tags and captions agree."""
    schema = Schema((HAIR, SMILE, TEXT))
    encoder = text_encoders.load(model)
    circle, square = encoder.encode(["the red circle", "a blue square"])
    rows = [
        {"hair": (0, 1), "smile": i % 4 == 0, "caption": circle} if i % 2 else {"hair": (1, 0), "caption": square}
        for i in range(300)
    ]
    return Vocabulary(schema, labels(schema, rows), encoder.identity)


def test_other_attributes_follow_the_dataset() -> None:
    schema = Schema((HAIR, SMILE))
    rows = [{"hair": (i % 2, 1 - i % 2), "smile": i % 3 == 0} for i in range(60)]
    vocabulary = Vocabulary(schema, labels(schema, rows), None, {"azure hair": "blue hair"})
    asked = vocabulary.labels_for("azure hair", 60)
    assert (asked.label[:, 0] == 1).all() and asked.known.all()
    assert asked.label[:, 2].sum() == 20, "each label of the dataset once"
    anything = vocabulary.labels_for("anything", 60)
    assert sorted(map(tuple, anything.label)) == sorted(map(tuple, vocabulary.labels.label))
    for wrong, code in (("grey hair", "unknown-word"), (" ", "empty-phrase"), ("1, 2", "unknown-word")):
        with raises(code):
            vocabulary.labels_for(wrong, 1)


GROUP = Attribute("group", "exclusive", ("flags", "animals"))
KIND = Attribute("kind", "exclusive", ("country flag", "mammal", "bird", "fish"))
GROUPED = Schema((GROUP, KIND, SMILE))


@pytest.fixture(scope="module")
def grouped() -> Vocabulary:
    """Flags do or do not smile, mammals smile, birds do not, nobody knows of fish."""
    rows: list[dict[str, Any]] = [{"group": (1, 0), "kind": (1, 0, 0, 0), "smile": i < 10} for i in range(20)]
    rows += [{"group": (0, 1), "kind": (0, 1, 0, 0), "smile": True}] * 60
    rows += [{"group": (0, 1), "kind": (0, 0, 1, 0), "smile": False}] * 30
    rows += [{"group": (0, 1), "kind": (0, 0, 0, 1)}] * 10
    return Vocabulary(GROUPED, labels(GROUPED, rows))


def test_what_follows_from_a_word_comes_with_it(grouped: Vocabulary) -> None:
    flags = grouped.labels_for("country flag", 40)
    assert (flags.label[:, :2] == [1, 0]).all() and 0 < flags.label[:, 6].sum() < 40
    animals = grouped.labels_for("animals", 40)
    assert (animals.label[:, 2] == 0).all() and (animals.label[:, 3:6].sum(axis=0) > 0).all()
    mammals, birds = grouped.labels_for("mammal", 40), grouped.labels_for("bird", 40)
    assert (mammals.label[:, :2] == [0, 1]).all() and mammals.label[mammals.known[:, 2], 6].all()
    assert (birds.label[:, :2] == [0, 1]).all() and not birds.label[:, 6].any()
    assert (grouped.labels_for("no smile", 40).label[:, 3] == 0).all(), "every mammal smiles"


def test_a_seed_keeps_what_goes_with_the_words(grouped: Vocabulary) -> None:
    anything = grouped.labels_for("anything", 40, seed=2)
    for words, entry in (("animals", 1), ("smile", 6)):
        asked = grouped.labels_for(words, 40, seed=2)
        kept = anything.label[:, entry] == 1
        if words == "smile":
            kept |= ~anything.known[:, 2]  # whether fish smile, the labels do not say
        assert 0 < kept.sum() < 40
        others = np.arange(7) != entry
        assert (asked.label[:, others] == anything.label[:, others])[kept].all()


def test_few_images_of_a_word_do_not_tell_what_goes_with_it(grouped: Vocabulary) -> None:
    rows = np.r_[:80, 80:82]  # two birds
    few = replace(grouped, labels=Labels(*(part[rows] for part in grouped.labels)))
    birds = few.labels_for("bird", 80)
    assert 0 < birds.label[:, 0].sum() < 80 and 0 < birds.label[:, 6].sum() < 80


def test_words_that_no_label_has_leave_the_others_as_they_are(grouped: Vocabulary) -> None:
    one_kind = replace(grouped, labels=Labels(*(part[:20] for part in grouped.labels)))
    assert (one_kind.labels_for("bird", 20).label[:, :2] == [1, 0]).all()
    both = grouped.labels_for("flags, mammal", 20)
    assert (both.label[:, :6] == [1, 0, 0, 1, 0, 0]).all()
    assert both.known[:, 2].any() and both.label[both.known[:, 2], 6].all()


def test_sentence_is_a_caption_and_other_attributes_follow_similar_captions(captioned: Vocabulary, model: str) -> None:
    asked = captioned.labels_for("with the red circle", 40, seed=3)
    assert np.array_equal(asked.label[:, 3:], text_encoders.load(model).encode(["with the red circle"]).repeat(40, 0))
    assert asked.known[:, 2].all()
    assert (asked.label[:, 1] == 1).all(), "hair is red in the images with the most similar captions"
    again = captioned.labels_for("with the red circle", 10, seed=3)
    assert np.array_equal(again.label, asked.label[:10])


def test_tags_in_a_caption_are_read_as_well(captioned: Vocabulary) -> None:
    asked = captioned.labels_for("blue hair, no smile", 10)
    assert (asked.label[:, :3] == [1, 0, 0]).all() and asked.known.all() and asked.label[:, 3:].any()
    anything = captioned.labels_for("anything", 50)
    assert {tuple(row) for row in anything.label[:, :2]} == {(0, 1), (1, 0)}


def test_different_text_encoder_is_an_error(captioned: Vocabulary, model: str, tmp_path: Path) -> None:
    import shutil

    moved = shutil.copytree(model, tmp_path / "moved")
    there = captioned.encoded_by(str(moved)).labels_for("the red circle", 4)
    assert np.array_equal(there.label, captioned.labels_for("the red circle", 4).label)
    other = write_onnx(tmp_path / "other", seed=1)
    with raises("text-encoder-differs", f"--text-encoder {other}"):
        captioned.encoded_by(str(other)).labels_for("the red circle", 4)
    with pytest.raises(UserError, match="gone"):
        captioned.encoded_by(str(tmp_path / "gone")).labels_for("the red circle", 4)
    with raises("text-encoder-unknown", "--text-encoder"):
        replace(captioned, text_encoder=None).labels_for("the red circle", 4)


def test_numbers_are_a_vector() -> None:
    schema = Schema((HAIR, VECTOR))
    rows = [{"hair": (1, 0), "pose": (i, 0, 0)} for i in range(8)]
    vocabulary = Vocabulary(schema, labels(schema, rows))
    asked = vocabulary.labels_for("-0.5, 1e-1,2", 4)
    assert np.allclose(asked.label, [1, 0, -0.5, 0.1, 2]) and asked.known.all()
    assert set(vocabulary.labels_for("red hair", 8).label[:, 2]) == set(range(8))
    for wrong in ("1,2", "1,2,nan", "1,2,1e39", "1,2,3,4"):
        with raises("invalid-vector", f"{wrong!r}", 3):
            vocabulary.labels_for(wrong, 1)
    only = Vocabulary(Schema((VECTOR,)), labels(Schema((VECTOR,)), [{"pose": (1, 2, 3)}]))
    assert np.array_equal(only.labels_for("anything", 2).label, [[1, 2, 3]] * 2)
    with raises("labels-without-words", "vectors of 3 numbers"):
        only.labels_for("red hair", 1)


def test_class_named_by_a_number_is_a_word() -> None:
    schema = Schema((Attribute("digit", "exclusive", ("1", "2")), Attribute("v", "vector", (), 1)))
    vocabulary = Vocabulary(schema, labels(schema, [{"digit": (0, 1), "v": (5,)}]))
    assert vocabulary.labels_for("1", 1).label.tolist() == [[1, 0, 5]]
    assert vocabulary.labels_for("1.0", 1).label.tolist() == [[0, 1, 1]]


def test_run_keeps_its_encoder_and_synonyms(tmp_path: Path) -> None:
    schema = Schema((HAIR, TEXT))
    kept = labels(schema, [{"hair": (1, 0)}, {"caption": np.ones(WIDTH)}])
    manifest = {"text_encoder": {"spec": "minilm", "sha256": "0" * 64}, "aliases": {"azure hair": "blue hair"}}

    class Fake(SimpleNamespace):
        def __len__(self) -> int:
            return 2

    for held in (manifest, {}):
        run = RunDirectory(tmp_path)
        dataset = cast(
            Dataset, Fake(fingerprint="f", schema=schema, manifest=held, labels=kept.label, known=kept.known)
        )
        run.write_identity(Config(), dataset, kept)
        vocabulary = read_vocabulary(tmp_path)
        assert vocabulary.schema == schema and len(vocabulary.labels.label) == 2
        assert vocabulary.text_encoder == held.get("text_encoder")
        assert vocabulary.synonyms == held.get("aliases", {})
    (tmp_path / "schema.json").write_text(json.dumps(schema.to_json()))  # as earlier versions wrote it
    assert read_vocabulary(tmp_path).text_encoder is None
    odd = {"text_encoder": [1], "aliases": {"a": ["b"], "azure hair": "blue hair"}}
    (tmp_path / "schema.json").write_text(json.dumps({**schema.to_json(), **odd}))
    assert read_vocabulary(tmp_path).synonyms == {"azure hair": "blue hair"}
    assert read_vocabulary(tmp_path).text_encoder is None
    for broken in ("[]", "{", '{"attributes": 3}'):
        (tmp_path / "schema.json").write_text(broken)
        with pytest.raises(UserError):
            read_vocabulary(tmp_path)


def test_grid_titles_rows_without_words_by_sample_number() -> None:
    schema = Schema((HAIR, TEXT, VECTOR))
    rows = [{"caption": np.ones(WIDTH)}, {"pose": (1, 2, 3)}, {"hair": (1, 0), "caption": np.ones(WIDTH)}, {}]
    shown, titles = showcase(schema, labels(schema, rows), 4, 1, np.array([17, 4, 9, 1234]))
    assert titles == ["caption of image 17", "vector of image 4", "blue hair", "(no label)"]
    assert np.array_equal(shown.label, labels(schema, rows).label), "captions are not contradicted"


def test_grid_shows_the_most_frequent_values_with_what_goes_with_them(grouped: Vocabulary) -> None:
    mixed = np.random.default_rng(1).permutation(len(grouped.labels.label))
    shown, titles = showcase(GROUPED, Labels(*(part[mixed] for part in grouped.labels)), 2, 8)
    assert titles == ["mammal", "bird"], "and not the first of the schema"
    assert (shown.label[:8, :6] == [0, 1, 0, 1, 0, 0]).all() and (shown.label[8:, :6] == [0, 1, 0, 0, 1, 0]).all()
    assert shown.known[:, 1].all() and shown.label[:8, 6][shown.known[:8, 2]].all() and not shown.label[8:, 6].any()


def test_torch_models_serve_as_well(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    encoder = text_encoders.load(str(write_bert(tmp_path / "bert")))
    schema = Schema((TEXT,))
    data = labels(schema, [{"caption": row} for row in encoder.encode(["blue hair", "red hair"])])
    asked = Vocabulary(schema, data, encoder.identity).labels_for("red hair", 3)
    assert np.array_equal(asked.label, data.label[[1, 1, 1]])
