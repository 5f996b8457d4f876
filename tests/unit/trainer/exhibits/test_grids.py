"""Exhibits: each changes what its columns say and nothing else, for any schema."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards.core.errors import UserError
from shards.dataset.label_rows import Labels
from shards.dataset.schema import Attribute, Schema
from support.errors import raises
from support.generators import make_run
from trainer.exhibits import command
from trainer.exhibits.grids import exhibits
from trainer.exhibits.interpolation import slerp
from trainer.exhibits.path_grids import TRUNCATION
from trainer.exhibits.source import Exhibit
from trainer.export import command as export_command
from trainer.generation.prompts import Vocabulary

HAIR = Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair"))
EYES = Attribute("eyes", "exclusive", ("black eyes", "brown eyes"))
GLASSES, SMILE = Attribute("glasses", "tag", ("glasses",)), Attribute("smile", "tag", ("smile",))
CAPTION = Attribute("caption", "text", (), 5)
CPU = torch.device("cpu")


def vocabulary(*attributes: Attribute, rows: int = 40) -> Vocabulary:
    """Return random labels, some of them unknown."""
    schema = Schema(attributes)
    random = np.random.default_rng(0)
    label = np.zeros((rows, schema.width), np.float32)
    known = random.random((rows, len(attributes))) < 0.8
    for row in range(rows):
        for a, attribute in enumerate(attributes):
            start = int(schema.starts[a])
            if known[row, a] and attribute.kind == "exclusive":
                label[row, start + random.integers(attribute.width)] = 1
            elif known[row, a]:
                label[row, start : start + attribute.width] = random.random(attribute.width).round()
    return Vocabulary(schema, Labels(label, known))


def shown(words: Vocabulary, *attributes: str) -> dict[str, Exhibit]:
    return {exhibit.name: exhibit for exhibit in exhibits(words, 8, 3, CPU, attributes)}


def cells(exhibit: Exhibit, array: np.ndarray | torch.Tensor) -> np.ndarray:
    """Return an exhibit's array as (rows, columns, …)."""
    array = np.asarray(array)
    return array.reshape(-1, exhibit.columns, *array.shape[1:])


def test_two_attributes_are_crossed_and_the_rest_stays() -> None:
    words = vocabulary(HAIR, EYES, SMILE)
    exhibit = shown(words)["attributes-hair-by-eyes"]
    assert exhibit.row_titles == list(HAIR.values) and exhibit.column_titles == list(EYES.values)
    label = cells(exhibit, exhibit.labels.label)
    assert np.array_equal(label[:, 0, :3], np.eye(3)) and np.array_equal(label[0, :, 3:5], np.eye(2))
    assert (label[:, :, :3] == label[:, :1, :3]).all() and (label[:, :, 3:5] == label[:1, :, 3:5]).all()
    assert (label[:, :, 5] == label[0, 0, 5]).all() and len(np.unique(exhibit.z, axis=0)) == 1
    assert exhibit.labels.known[:, :2].all()


def test_tags_are_shown_in_pairs_without_and_with() -> None:
    exhibit = shown(vocabulary(GLASSES, SMILE))["tags"]
    assert exhibit.row_titles == ["glasses", "smile"] and exhibit.column_titles[:2] == ["without", "with"]
    label, z, known = (cells(exhibit, a) for a in (exhibit.labels.label, exhibit.z, exhibit.labels.known))
    assert (label[0, :, 0] == [0, 1] * 4).all() and (label[1, :, 1] == [0, 1] * 4).all()
    assert (label[0, 0::2, 1] == label[0, 1::2, 1]).all(), "the other tag stays"
    assert (z[:, 0::2] == z[:, 1::2]).all() and len(np.unique(z[0], axis=0)) == 4
    assert known[0, :, 0].all() and known[1, :, 1].all()


def test_one_attribute_is_crossed_with_noise_and_named_ones_in_pairs() -> None:
    assert "attributes-hair-by-noise" in shown(vocabulary(HAIR))
    words = vocabulary(HAIR, EYES, GLASSES, SMILE)
    named = shown(words, "glasses", "hair", "eyes")
    assert [n for n in named if n.startswith("attributes")] == [
        "attributes-glasses-by-hair",
        "attributes-glasses-by-eyes",
        "attributes-hair-by-eyes",
    ]
    assert named["attributes-glasses-by-hair"].row_titles == ["no glasses", "glasses"] and "tags" not in named
    with raises("unknown-attribute", "'hare'", "'hair'"):
        shown(words, "hare")


def test_labels_with_captions_have_paths_only() -> None:
    words = vocabulary(CAPTION, HAIR)
    assert list(shown(words)) == ["noise", "labels", "truncation"]
    with raises("option-conflict", "--attributes", "caption"):
        shown(words, "hair")


def test_paths_change_one_thing_each() -> None:
    found = shown(vocabulary(HAIR, EYES))
    noise, labels, truncated = found["noise"], found["labels"], found["truncation"]
    for array in noise.labels:
        assert (cells(noise, array) == cells(noise, array)[:, :1]).all()
    z = cells(noise, noise.z)
    assert (z == z[:1]).all() and not np.allclose(z[0, 0], z[0, -1])

    label, known = cells(labels, labels.labels.label), cells(labels, labels.labels.known)
    assert (known == known[:, :1]).all() and len(np.unique(labels.z, axis=0)) == 1
    assert set(np.unique(label[:, [0, -1]])) == {0, 1} and np.allclose(label[:, 4], (label[:, 0] + label[:, -1]) / 2)
    assert (label[:, 0] != label[:, -1]).any(1).all(), "a path from a label to itself shows nothing"

    z = cells(truncated, truncated.z)
    for column, psi in enumerate(TRUNCATION):
        assert np.allclose(z[:, column], psi * z[:, 0])


def test_unlabelled_dataset_has_no_path_between_labels() -> None:
    words = vocabulary(HAIR)
    nothing = Labels(np.zeros_like(words.labels.label), np.zeros_like(words.labels.known))
    assert "labels" not in shown(Vocabulary(words.schema, nothing))


def test_file_names_are_safe_and_distinct() -> None:
    odd = [Attribute(name, "exclusive", (f"a {n}", f"b {n}")) for n, name in enumerate(["../x", "/", "髪 (長)"])]
    names = list(shown(vocabulary(*odd)))
    assert len(set(names)) == len(names) and not any("/" in name or "." in name for name in names)
    alike = [Attribute(name, "exclusive", (f"a {n}", f"b {n}")) for n, name in enumerate(["x", "y ", "y"])]
    assert len(shown(vocabulary(*alike))) == 6


@given(seed=st.integers(0, 1000), size=st.integers(1, 20), t=st.floats(0, 1))
def test_slerp_interpolates_on_a_sphere(seed: int, size: int, t: float) -> None:
    a, b = torch.randn(2, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(slerp(a, b, 0), a)
    torch.testing.assert_close(slerp(a, b, 1), b)
    assert slerp(a, b, t).isfinite().all()
    if size > 1:
        middle, other = slerp(a, b * a.norm() / b.norm(), t), slerp(b, a, 1 - t)
        torch.testing.assert_close(middle.norm(), a.norm())
        torch.testing.assert_close(slerp(a, b, t), other)


def test_command_draws_the_exhibits_of_a_run(
    run_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_copy
    (run / "report.html").unlink()
    command.main([str(run)])
    assert "attributes-" in (run / "report.html").read_text()
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert paths[0].name == "attributes-ink-by-shape.png" and {p.parent for p in paths} == {run / "exhibits"}
    first = [path.read_bytes() for path in paths]
    with Image.open(paths[0]) as image:
        assert "rows: blue ink" in image.info["Description"] and "columns: round shape" in image.info["Description"]
    command.main([str(run), "--out", str(tmp_path / "again")])
    assert [(tmp_path / "again" / path.name).read_bytes() for path in paths] == first
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        command.main([str(tmp_path)])


def test_exhibits_of_an_export_leave_it_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, exported = make_run(tmp_path / "run"), tmp_path / "exported"
    export_command.main([str(run), str(exported)])
    before = sorted(exported.iterdir())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    command.main([str(exported), "--device", "cpu"])
    assert sorted(exported.iterdir()) == before
    assert (tmp_path / "here" / "exhibits" / "noise.png").is_file()
