"""Figures that share images or a network with what taught the run are marked, and no others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shards.dataset.dataset import Dataset
from support.launching import make_dataset
from trainer.evaluation import apartness
from trainer.evaluation.evaluation_networks import EvaluationNetworks
from trainer.evaluation.metrics.feature_extractors import Extractor
from trainer.reporting import evaluation_table
from trainer.run import lineage
from trainer.run.lineage import Influence, image_sample

KEYS = ("fidelity/ink", "fidelity/ink@judge2", "fid", "fid@lite2", "memorised", "diversity", "spectrum", "unheard of")


def extractor(name: str, weights: str) -> Extractor:
    return Extractor(name, False, 3, name, lambda images: np.zeros((len(images), 3)), weights=weights)


NETWORKS = EvaluationNetworks(
    None, None, (extractor("efficientnet-lite0", "57"), extractor("efficientnet-lite2", "96")), None, (), "data"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("apartness"), 20)


def marked(influence: Influence, dataset: Dataset) -> dict[str, list[str]]:
    return apartness.marks([influence], dataset, NETWORKS, KEYS)


def test_images_of_the_training_mark_what_compares_with_them(dataset: Dataset) -> None:
    images = Influence("images", "training images", "", dataset.fingerprint)
    assert marked(images, dataset) == {key: ["training-images"] for key in ("fid", "fid@lite2", "spectrum")}


def test_shared_images_are_found_in_a_dataset_packed_differently(dataset: Dataset, tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", 30)
    influence = Influence("images", "training images", "", other.fingerprint, sample=image_sample(other))
    assert marked(influence, dataset).keys() == {"fid", "fid@lite2", "spectrum"}
    assert marked(Influence("images", "training images", "", "other", sample=("ff",)), dataset) == {}


def test_features_of_a_network_that_taught_are_marked(dataset: Dataset) -> None:
    assert marked(Influence("network", "teacher", "lite2", "96"), dataset) == {"fid@lite2": ["teaching-network"]}
    assert marked(Influence("network", "text encoder", "minilm", "12"), dataset) == {}
    assert marked(Influence("network", "initial weights", "a run", ""), dataset) == {}


def test_labels_that_a_classifier_of_the_run_learned_mark_the_judges(dataset: Dataset) -> None:
    influence = Influence("network", "classifier", "", "", ("data",))
    expected = {key: ["taught-labels"] for key in ("fidelity/ink", "fidelity/ink@judge2")}
    assert marked(influence, dataset) == expected
    assert marked(Influence("network", "classifier", "", "", ("other data",)), dataset) == {}


def test_judges_learn_from_the_validation_part_if_the_labels_of_the_rest_were_taught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_dataset(tmp_path / "all", 20)
    part = make_dataset(tmp_path / "part", 30)
    part.path.rename(whole.path / "validation")
    taught = [Influence("network", "classifier", "", "", (whole.fingerprint,))]
    assert apartness.judged_dataset(whole, []) is whole
    assert apartness.judged_dataset(whole, taught) is whole, "too few images to learn from"
    monkeypatch.setattr(apartness, "_FEW", 30)
    assert len(apartness.judged_dataset(whole, taught)) == 30


def test_export_within_another_run_does_not_take_its_record(tmp_path: Path) -> None:
    other = Influence("network", "teacher", "lite2", "96")
    for folder in (tmp_path, tmp_path / "exports"):
        folder.mkdir(exist_ok=True)
        lineage.record(folder, [other], starts=True)
    export, notes = tmp_path / "exports" / "mine", []
    state = SimpleNamespace(data="data", config={"label_loss": 0.5})
    saved: Any = SimpleNamespace(path=export, state=state)
    found = apartness.influences_of(export, saved, notes)
    assert [(influence.identity, influence.learned_from) for influence in found] == [("data", ()), ("", ("data",))]
    assert len(notes) == 1 and f"{export} has no lineage.json, as exports" in notes[0]


def test_marks_are_shown_with_their_meaning() -> None:
    entry = {
        "figures": {"fid": 3.0, "kid": 1.0},
        "marks": {"fid": ["training-images", "teaching-network"], "kid": ["?"]},
    }
    text = evaluation_table.table(64, entry)
    assert "3*†" in text and "* compared with images of the training" in text and "† measured in features" in text
    assert "‡" not in text and "1*" not in text
