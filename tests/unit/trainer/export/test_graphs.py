"""ONNX files and torch.export programs draw the generator's images, and say themselves what their inputs are."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import trainer
from shards.core.errors import Failure
from shards.dataset.schema import Attribute, Schema
from support import ROOT
from support.errors import raises
from support.generators import SCHEMA, make_run
from trainer.evaluation.metrics.appearance import visible
from trainer.export import graph, onnx_file
from trainer.export.command import main
from trainer.networks import Architecture
from trainer.noise import normal

R3GAN = {"family": "r3gan", "size": 12, "channels": (16, 16)}
FAMILIES = {
    "residual": {},
    "blocks and tanh": {"spectral_norm": True, "blocks": 2, "size": 12},
    "r3gan": R3GAN,
    "r3gan of equal and other channels": R3GAN | {"size": 16, "channels": (32, 32, 16), "expansion": 1},
    "article": {"family": "article", "size": 96, "channels": ()},
    "modulated residual with filters": {"modulation": True, "resize": "filter", "image_kernel": 3},
    "grey portraits": {"image_channels": 1, "aspect": (3, 4)},
    "transparent landscapes of r3gan": R3GAN | {"size": 8, "image_channels": 4, "aspect": (4, 3)},
    "modulated r3gan": R3GAN | {"modulation": True, "group_width": 8, "noise": 3, "embedding": 6, "image_kernel": 3},
}
# Fields of an architecture that are not a generator's, or that a test of its own varies.
ELSEWHERE = {"conditioning", "level_means", "widths"}
NUMBERS = Schema(
    (Attribute("measures", "vector", (), 2), Attribute("caption", "text", (), 3), Attribute("hat", "tag", ("hat",)))
)


def draw_with_onnxruntime(file: Path, *inputs: np.ndarray) -> np.ndarray:
    """Return the images uint8 of an ONNX file, by the rules that it states."""
    session = onnxruntime.InferenceSession(file)
    feeds = dict(zip(("noise", "label", "known"), inputs, strict=True))
    image = np.asarray(session.run(["image"], {name: value.astype(np.float32) for name, value in feeds.items()})[0])
    assert image.min() >= -1 and image.max() <= 1
    return np.round((image + 1) * 127.5).astype(np.uint8)


def notes(file: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(file).metadata_props}


# Translating takes seconds: one family is enough for the fast tests.
SLOW = [pytest.param(name, marks=[pytest.mark.long] if name != "r3gan" else []) for name in FAMILIES]


@pytest.mark.parametrize("family", SLOW)
def test_onnx_draws_what_the_generator_draws(family: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", **FAMILIES[family])  # type: ignore[arg-type]
    main([str(run), str(tmp_path / "g.onnx"), "--to", "onnx"])
    g = trainer.load(run)
    labels = g.labels_for("anything", 5)
    expected = g.generate(labels, seed=3)
    noise = normal(3, "noise to sample", torch.arange(5), g.noise_size).numpy()
    for rows in (slice(0, 1), slice(0, 5)):
        images = draw_with_onnxruntime(tmp_path / "g.onnx", noise[rows], labels.label[rows], labels.known[rows])
        # Colours count as far as they are seen: a file's are those of the network, also where alpha is 0.
        assert np.abs(visible(images).astype(int) - visible(expected[rows])).max() <= 1
    assert expected.std() > 10


def test_every_option_of_a_generator_is_among_the_families() -> None:
    """A new option of the architecture needs an entry in FAMILIES: the exporter may not know its operations."""
    tried = {name for shape in FAMILIES.values() for name in shape}
    assert {field.name for field in dataclasses.fields(Architecture)} - tried == ELSEWHERE


@pytest.mark.long
@pytest.mark.parametrize("family", ["residual", "r3gan"])
def test_numbers_enter_unscaled(family: str, tmp_path: Path) -> None:
    """A vector of 150 and more would clip every image, were it not scaled inside of the graph."""
    run = make_run(tmp_path / "run", NUMBERS, **FAMILIES[family])  # type: ignore[arg-type]
    main([str(run), str(tmp_path / "g.onnx"), "--to", "onnx"])
    g = trainer.load(run)
    labels = g.vocabulary.labels
    noise = normal(0, "noise to sample", torch.arange(32), g.noise_size).numpy()
    images = draw_with_onnxruntime(tmp_path / "g.onnx", noise, labels.label, labels.known)
    assert np.abs(images.astype(int) - g.generate(labels)).max() <= 1
    assert json.loads(notes(tmp_path / "g.onnx")["label"])[:3] == ["measures[0]", "measures[1]", "caption[0]"]


def test_a_stranger_draws_from_the_file_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "home" / "run")
    main([str(run), str(tmp_path / "g.onnx"), "--to", "onnx"])
    said = notes(tmp_path / "g.onnx")
    assert json.loads(said["label"]) == list(SCHEMA.values) and json.loads(said["known"]) == ["hair", "hat"]
    assert json.loads(said["schema"]) == SCHEMA.to_json()
    assert said["images_seen"] == "128" and json.loads(said["trained_with"])["commit"] == "abc"
    size = int(re.findall(r"\d+", said["noise"])[1])
    label = np.array([[word == "red hair" for word in json.loads(said["label"])]])
    images = draw_with_onnxruntime(tmp_path / "g.onnx", np.zeros((1, size)), label, np.array([[1, 0]]))
    expected = trainer.load(run).generator(
        torch.zeros(1, size), torch.tensor(label, dtype=torch.float32), torch.tensor([[1.0, 0.0]])
    )
    assert np.abs(images - ((expected.clamp(-1, 1) + 1) * 127.5).numpy()).max() <= 1


@pytest.mark.long
def test_torch_program_draws_what_the_generator_draws_without_this_project(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", **R3GAN)  # type: ignore[arg-type]
    main([str(run), str(tmp_path / "g.pt2"), "--to", "torch-export"])
    script = """
import json, sys, torch
files = {"generator.json": ""}
g = torch.export.load(sys.argv[1], extra_files=files).module()
notes = json.loads(files["generator.json"])
label = torch.tensor([[float(word == "red hair") for word in notes["label"]]]).expand(3, -1)
image = g(torch.zeros(3, 5), label, torch.ones(3, 2))
torch.save(image, sys.argv[2])
assert not [name for name in sys.modules if name.split(".")[0] in ("trainer", "shards")]
"""
    command = [sys.executable, "-c", script, str(tmp_path / "g.pt2"), str(tmp_path / "image.pt")]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=100)
    image = torch.load(tmp_path / "image.pt", weights_only=True)
    label = torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(3, -1)
    expected = trainer.load(run).generator(torch.zeros(3, 5), label, torch.ones(3, 2)).clamp(-1, 1)
    assert torch.allclose(image, expected, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("family", ["residual", "article", "modulated r3gan"])
def test_every_family_is_a_torch_program(family: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", **FAMILIES[family])  # type: ignore[arg-type]
    main([str(run), str(tmp_path / "g.pt2"), "--to", "torch-export"])  # which compares pixels
    assert (tmp_path / "g.pt2").exists()


@pytest.mark.long
@pytest.mark.parametrize(("kind", "name"), [("onnx", "g.onnx"), ("torch-export", "g.pt2")])
def test_no_file_names_of_this_machine_are_inside(kind: str, name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", config={"shards": "/home/zoe/data"})
    encoder = {"spec": "/home/zoe/model", "sha256": "f" * 64}
    (run / "schema.json").write_text(json.dumps({**SCHEMA.to_json(), "text_encoder": encoder}))
    main([str(run), str(tmp_path / name), "--to", kind])
    data = (tmp_path / name).read_bytes()
    if kind == "torch-export":
        with zipfile.ZipFile(tmp_path / name) as archive:
            data = b"".join(archive.read(entry) for entry in archive.namelist())
    assert b"f" * 64 in data
    assert not [word for word in (str(ROOT), str(tmp_path), "zoe", sys.prefix, ".py") if word.encode() in data]


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("kind", ["onnx", "torch-export"])
def test_nothing_is_left_of_an_export_that_differs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run")
    out = tmp_path / ("g.onnx" if kind == "onnx" else "g.pt2")
    out.write_text("earlier")
    forward = graph.Graph.check

    def check(self: graph.Graph, runtime: str, images: np.ndarray, inputs: tuple[torch.Tensor, ...]) -> None:
        forward(self, runtime, images + 2 / 127.5, inputs)

    monkeypatch.setattr(graph.Graph, "check", check)
    with raises("export-differs", kind=Failure):
        main([str(run), str(out), "--to", kind, "--force"])
    assert out.read_text() == "earlier" and sorted(p.name for p in tmp_path.iterdir()) == sorted([out.name, "run"])


def test_images_that_are_not_numbers_differ(tmp_path: Path) -> None:
    sampler = trainer.load(make_run(tmp_path / "run"), device="cpu")
    g, inputs = graph.Graph(sampler.generator), graph.Example.of(sampler).rows(2)
    good = g(*inputs).detach().numpy()
    g.check("here", good + 0.9 / 127.5, inputs)
    for bad in (np.full_like(good, np.nan), good[:1], good[:, :, 1:]):
        with raises("export-differs", "here", kind=Failure):
            g.check("here", bad, inputs)


def test_missing_package_and_name_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run")
    with raises("invalid-output-name", ".onnx"):
        main([str(run), str(tmp_path / "g.pt2"), "--to", "onnx"])
    (tmp_path / "g.onnx").touch()
    with raises("output-exists", "--force"):
        main([str(run), str(tmp_path / "g.onnx"), "--to", "onnx"])
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with raises("package-missing", 'pip install "cgan-trainer[export]"'):
        onnx_file.write_onnx(trainer.load(run, device="cpu"), run, tmp_path / "new.onnx")


def test_folder_of_a_file_is_made_before_anything_is_translated(tmp_path: Path) -> None:
    graph.require_unused_file(tmp_path / "new" / "er" / "g.onnx", ".onnx", force=False)
    assert (tmp_path / "new" / "er").is_dir()
    (tmp_path / "file").touch()
    with raises("disk-error", tmp_path / "file", kind=Failure):
        graph.require_unused_file(tmp_path / "file" / "g.onnx", ".onnx", force=False)
