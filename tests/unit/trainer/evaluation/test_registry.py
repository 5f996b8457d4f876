"""Metrics by the registry: values with their baselines, notes for what cannot be computed, one declaration each."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from shards.dataset.schema import Attribute, Schema
from trainer.evaluation import image_panels
from trainer.evaluation.metrics import registry
from trainer.evaluation.metrics.label_accuracy import AttributeAccuracy, LabelAccuracy, Tally
from trainer.evaluation.metrics.measurements import ImageSet, Measurements, Panel, PanelRow, Results
from trainer.evaluation.metrics.registry import (
    METRICS,
    Description,
    Needs,
    add_label_accuracy,
    add_new_combinations,
    describe,
    metric,
    panel_title,
)
from trainer.reporting import evaluation_table

SCHEMA = Schema((Attribute("ink", "exclusive", ("red", "blue")), Attribute("form", "exclusive", ("round", "square"))))


def images(count: int, seed: int, shift: float = 0.0, features: np.ndarray | None = None) -> ImageSet:
    """Random images of the schema, with features of a normal distribution."""
    random = np.random.default_rng(seed)
    label = np.zeros((count, 4), np.float32)
    label[np.arange(count), random.integers(2, size=count)] = 1
    label[np.arange(count), 2 + random.integers(2, size=count)] = 1
    drawn = random.normal(shift, 1, (count, 6)).astype(np.float32)
    return ImageSet.of(label, np.ones((count, 2), bool), drawn if features is None else features)


def concatenated(one: ImageSet, other: ImageSet) -> ImageSet:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return ImageSet(*(np.concatenate(pair) for pair in pairs))


def computed(names: str, generated: ImageSet, real: ImageSet, count: int | None = None) -> Results:
    """Compute metrics by features; half of the real images are the baseline."""
    results = Results()
    measurements = Measurements(SCHEMA, generated, real, len(real) // 2 if count is None else count)
    for name in names.split():
        METRICS[name].compute(measurements, results)
    return results


def test_metrics_keep_their_names_and_keys() -> None:
    """They are in evaluation files, on dashboards and in sweeps."""
    keys = {name: " ".join(metric.keys) for name, metric in METRICS.items()}
    published = {
        "fidelity": "fidelity/ fidelity fidelity_new",
        "fid": "fid",
        "kid": "kid kid_by_value",
        "prdc": "precision recall density coverage",
        "novelty": "memorised copying",
        "diversity": "diversity",
    }
    assert {name: keys[name] for name in published} == published
    assert list(keys)[: len(published)] == list(published), "the order in --metrics and in evaluation files"
    by_needs = sorted((METRICS[name] for name in published), key=lambda metric: metric.needs)
    assert [metric.name for metric in by_needs] == ["fidelity", "fid", "kid", "prdc", "diversity", "novelty"]
    assert all(value.meaning for metric in METRICS.values() for value in metric.keys.values())


def test_values_are_described_by_their_keys() -> None:
    assert describe("fidelity/hair") == Description("images in which hair is as labelled", fraction=True)
    assert describe("fidelity_new").fraction and not describe("density").fraction
    assert describe("kid").lower_is_better and not describe("fidelity").lower_is_better
    assert describe("of a newer version") == Description("") and panel_title("of a newer version") == ""
    assert "training images" in panel_title("nearest") and "accuracy" in panel_title("worst")


def test_new_metric_is_declared_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "METRICS", dict(METRICS))

    @metric("brightness", Needs.FEATURES, {"brightness": Description("mean of the features", fraction=True)})
    def _brightness(measurements: Measurements, results: Results) -> None:
        results.add("brightness", float(measurements.generated.features.mean()), real=0.25)

    results = Results()
    features = np.full((4, 6), 0.5, np.float32)
    measurements = Measurements(SCHEMA, images(4, 0, features=features), images(4, 1), 2)
    registry.METRICS["brightness"].compute(measurements, results)
    (row,) = evaluation_table.rows({"figures": results.values, "real": results.real})
    assert row == ("brightness", "50.0 %", "25.0 %", "mean of the features")


def test_distances_have_the_baseline_of_real_images() -> None:
    real = concatenated(images(200, 1), images(200, 2))
    near, far = (computed("fid kid prdc", images(200, 3, shift), real) for shift in (0.0, 2.0))
    assert near.real == far.real and near.values["fid"] < 3 * near.real["fid"]
    for key in ("fid", "kid", "kid_by_value"):
        assert far.values[key] > 5 * abs(near.values[key])
    assert far.values["precision"] < 0.2 < 0.8 < near.values["precision"] and not near.notes
    assert set(near.details["kid_by_value"]) == {"red", "blue", "round", "square"}
    few = computed("fid kid prdc", images(5, 3), concatenated(images(5, 1), images(5, 2)))
    assert "kid_by_value" not in few.values and "precision" not in few.values and len(few.notes) == 3


def test_copies_of_training_images_are_found_and_new_images_are_not() -> None:
    training = np.random.default_rng(0).normal(size=(500, 4))
    real = images(500, 0, features=training)
    copied = computed("novelty", images(100, 1, features=training[100:200]), real)
    fresh = computed("novelty", images(400, 1, features=np.random.default_rng(1).normal(size=(400, 4))), real)
    assert copied.values["memorised"] == 1 and copied.values["copying"] < -10
    assert fresh.values["memorised"] < 0.05 and abs(fresh.values["copying"]) < 3
    (panel,) = copied.panels
    assert panel.name == "nearest" and len(panel.rows) == 8
    assert all(row.real[0] == 100 + row.generated[0] and row.title == "distance 0" for row in panel.rows)
    assert panel.column_titles == ["generated", "training 1", "training 2", "training 3"]
    twice = computed("novelty", images(10, 1, features=training[:10]), concatenated(real, real))
    assert "twice" in twice.notes[0]


def test_one_image_per_label_has_no_diversity() -> None:
    real, same = images(200, 1), images(200, 2)
    _, numbers = np.unique(same.label, axis=0, return_inverse=True)
    one_each = np.eye(6, dtype=np.float32)[numbers.reshape(-1)]
    collapsed = computed("diversity", dataclasses.replace(same, features=one_each), real)
    diverse = computed("diversity", images(200, 3), real)
    assert collapsed.values["diversity"] < 1e-6 and diverse.values["diversity"] == pytest.approx(1, abs=0.1)
    nothing = computed("diversity", images(1, 3), real)
    assert not nothing.values and "diversity is left out" in nothing.notes[0]


def test_values_that_are_not_finite_become_notes() -> None:
    """JSON has no NaN: if all real images of a label are alike, the diversity would be divided by 0."""
    results = Results()
    results.add("diversity", float("nan"), 1.0)
    results.add("kid", 0.5, float("inf"))
    assert results.values == {"kid": 0.5} and results.real == {}
    (note,) = results.notes
    assert note.startswith("diversity is left out")
    json.dumps(results.values | results.real, allow_nan=False)


def test_label_accuracy_of_judged_images_and_of_new_combinations() -> None:
    label = np.eye(4, dtype=np.float32)[[0] * 10 + [1] * 10] + np.eye(4, dtype=np.float32)[[2, 3] * 10]
    judged = ImageSet.of(label, np.ones((20, 2), bool), logits=label * 4 - 2)
    wrong = judged.logits.copy()
    wrong[0] = wrong[0, [1, 0, 2, 3]]
    generated = dataclasses.replace(judged, logits=wrong)
    perfect = [AttributeAccuracy(a.name, a.kind, a.values, ((0, 0, 90), (1, 1, 90))) for a in SCHEMA.attributes]
    judge = LabelAccuracy(tuple(perfect), (), Tally(180, 180))
    results = Results()
    METRICS["fidelity"].compute(Measurements(SCHEMA, generated, generated.part(0, 0), 0, judge, judged), results)
    assert results.values == {"fidelity/ink": 0.95, "fidelity/form": 1.0, "fidelity": 0.95, "fidelity_new": 1.0}
    assert results.real == {"fidelity/ink": 1.0, "fidelity/form": 1.0, "fidelity": 1.0} and not results.notes
    (panel,) = results.panels
    assert panel == Panel("worst", [PanelRow("red, round: 4 of 5 right", (0,))])


def test_second_judge_confirms_the_first_or_a_warning_names_where_they_disagree() -> None:
    label = np.eye(4, dtype=np.float32)[[0] * 100 + [1] * 100] + np.eye(4, dtype=np.float32)[[2, 3] * 100]
    logits = label * 4 - 2
    tricked = logits.copy()
    tricked[:30, [0, 1]] = tricked[:30, [1, 0]]  # the second judge sees another ink in 30 of 200
    right = [AttributeAccuracy(a.name, a.kind, a.values, ((0, 0, 90), (1, 1, 90))) for a in SCHEMA.attributes]
    judge = LabelAccuracy(tuple(right), (), Tally(180, 180))
    for second, warned in ((logits, False), (tricked, True)):
        generated = ImageSet.of(label, np.ones((200, 2), bool), logits=logits, second_logits=second)
        results = Results()
        measurements = Measurements(SCHEMA, generated, generated.part(0, 0), 0, judge, second_accuracy=judge)
        METRICS["fidelity"].compute(measurements, results)
        assert list(results.values)[:4] == [
            f"fidelity/{name}{judged}" for name in ("ink", "form") for judged in ("", "@judge2")
        ]
        assert results.values["fidelity/ink@judge2"] == (0.85 if warned else 1.0)
        assert results.real["fidelity/ink@judge2"] == 1.0
        assert [code for code, _ in results.warnings] == (["judges-disagree"] if warned else [])
        assert all("ink (100.0% and 85.0%)" in text and "form" not in text for _, text in results.warnings)
    assert describe("fidelity/ink@judge2").meaning == "images in which ink is as labelled (second judge)"
    assert describe("fidelity/ink@judge2").fraction


def test_values_of_other_features_stand_beside_the_first_ones() -> None:
    first, other = Results({"fid": 2.0, "kid": 0.1}, {"fid": 1.0}), Results({"fid": 3.0, "kid": 0.2}, {"fid": 1.5})
    first.notes, other.notes = ["few images"], ["few images", "more"]
    first.join(other, "lite2")
    assert list(first.values.items()) == [("fid", 2.0), ("fid@lite2", 3.0), ("kid", 0.1), ("kid@lite2", 0.2)]
    assert first.real == {"fid": 1.0, "fid@lite2": 1.5} and first.notes == ["few images", "lite2: more"]
    assert describe("fid@lite2").lower_is_better and describe("fid@lite2").meaning.endswith("(features of lite2)")


def test_new_combinations_need_two_attributes_that_the_judge_recognises() -> None:
    both = [AttributeAccuracy(name, "exclusive", ("a", "b"), ((0, 0, 3), (1, 0, 1))) for name in ("ink", "form")]
    for doubt, values in (("", {"fidelity_new": 0.75}), ("too few", {})):
        results = Results()
        attributes = (both[0], dataclasses.replace(both[1], doubt=doubt))
        add_new_combinations(LabelAccuracy(attributes, (), Tally(4, 3)), results)
        assert results.values == values and bool(results.notes) == bool(doubt)


def test_never_drawing_a_rare_tag_is_not_accurate() -> None:
    """The tag is in 2 of 100 labels, and the other images are right."""
    hat = AttributeAccuracy("hat", "tag", ("no hat", "hat"), ((0, 0, 98), (1, 0, 2)))
    ink = AttributeAccuracy("ink", "exclusive", ("a", "b"), ((0, 0, 98), (1, 0, 2)))
    results = Results()
    found = LabelAccuracy((hat, ink), (), Tally(100, 98))
    add_label_accuracy(found, found, results)
    assert results.values == {"fidelity/hat": 0.5, "fidelity/ink": 0.98, "fidelity": 0.98}


def test_thousands_of_doubts_are_a_few_notes() -> None:
    doubted = tuple(AttributeAccuracy(f"tag {i}", "tag", ("no", "yes"), (), "rare") for i in range(5000))
    results = Results()
    found = LabelAccuracy(doubted, (), Tally(0, 0))
    add_label_accuracy(found, found, results)
    assert len(results.notes) < 10 and "4,992" in results.notes[-1]


def test_panel_shows_generated_and_real_images_padded_with_white(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(offset: int) -> image_panels.ReadImages:
        return lambda numbers: np.full((1, 3, 4, 4), 1, np.uint8) * (numbers[:, None, None, None] + offset).astype("u1")

    shown: dict[str, Any] = {}
    monkeypatch.setattr(image_panels.image_grid, "grid", lambda *arguments: shown.update(grid=arguments))
    panel = Panel("nearest", [PanelRow("one", [1, 2], [3]), PanelRow("two", [4])], ["a", "b", "c"])
    image_panels.draw(panel, read(0), read(100))
    cells, columns, titles, column_titles = shown["grid"]
    assert cells[:, 0, 0, 0].tolist() == [1, 2, 103, 4, 255, 255]
    assert (columns, titles, column_titles) == (3, ["one", "two"], ["a", "b", "c"])
