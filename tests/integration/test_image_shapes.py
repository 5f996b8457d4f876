"""Images with alpha, in grey and of other aspects than squares, from a folder of sprites to the playground."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import trainer
from shards.dataset.dataset import Dataset
from shards.dataset.image_shape import ImageShape
from shards.packing.pack import Pack, pack
from support.errors import raises
from support.launching import assert_same_run
from trainer.evaluation.judge import classifier
from trainer.export import command as export
from trainer.playground import command as playground
from trainer.sampling import command as sample

INKS = {"blue ink": (40, 60, 220), "red ink": (220, 40, 40), "green ink": (30, 160, 60)}
OPTIONS = {
    **{"preset": "smoke", "batch": 16, "log_every": 32, "grid_every": 10_000, "checkpoint_every": 10_000},
    **{"log_with": "none", "workers": 0, "threads": 1},
}
R3GAN = {"family": "r3gan", "channels": (16, 16, 16), "group_width": 8}
# Shapes of datasets, each with the options of a run.
RUNS = {
    "rgba": (ImageShape(4, 16, 16), {"augment": "ada", "flip": True, "updates": "joint"}),
    "grey 3:4": (ImageShape(1, 16, 12), {"augment": "ada", "flip": True}),
    "rgba 4:3 r3gan": (ImageShape(4, 12, 16), {"augment": "diff", **R3GAN}),
}


def sprites(folder: Path, shape: ImageShape, count: int = 96) -> Path:
    """Draw discs and squares with soft edges, on nothing at all."""
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = ["id,tags"]
    for number in range(count):
        ink, form = list(INKS)[number % 3], ("round", "angular")[number // 3 % 2]
        image = Image.new("RGBA", (4 * shape.width, 4 * shape.height))
        x, y = (4 * side * random.uniform(0.4, 0.6) for side in (shape.width, shape.height))
        radius = 4 * min(shape.width, shape.height) * random.uniform(0.25, 0.4)
        brush = ImageDraw.Draw(image)
        draw = brush.ellipse if form == "round" else brush.rectangle
        draw((x - radius, y - radius, x + radius, y + radius), (*INKS[ink], 255))
        image.save(folder / f"{number:03d}.png")
        rows.append(f'{number:03d},"{ink}, {form} shape"')
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    return folder


def packed(folder: Path, shape: ImageShape) -> Path:
    source = sprites(folder / "source", shape)
    channels = {1: "grey", 3: "rgb", 4: "rgba"}[shape.channels]
    pack(
        Pack(
            src=source,
            out=folder / "data",
            size=shape.size,
            channels=channels,
            aspect=shape.aspect,
            workers=1,
            yes=True,
        )
    )
    return folder / "data"


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_a_shape_from_pack_to_playground(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, options = RUNS[name]
    data, run = packed(tmp_path, shape), tmp_path / "run"
    assert Dataset.open(data).shape == shape

    trainer.train(run=tmp_path / "whole", shards=str(data), total_images=192, **OPTIONS, **options)
    trainer.train(run=run, shards=str(data), total_images=96, **OPTIONS, **options)
    trainer.train(run=run, shards=str(data), total_images=192, **OPTIONS, **options)
    assert_same_run(run, tmp_path / "whole")

    grid = Image.open(run / "samples" / "000000000192.png")
    assert grid.mode == "RGB" and grid.width > 8 * shape.width
    if shape.channels == 1:
        cell = np.asarray(grid)[20:40, -60:-20]
        assert (cell == cell[..., :1]).all()

    images = trainer.load(run).sample("red ink", count=3, seed=5)
    assert images.shape == (3, shape.channels, shape.height, shape.width) and images.dtype == np.uint8
    sample.main([str(run), "red ink", "--count", "3", "--seed", "5", "--out", f"{tmp_path}/drawn/"])
    for number, image in enumerate(images):
        written = Image.open(tmp_path / "drawn" / f"{number:06d}.png")
        assert written.mode == shape.mode
        assert np.array_equal(np.asarray(written).reshape(shape.pixels_shape), image.transpose(1, 2, 0))
    if shape.channels == 4:
        assert not images.transpose(0, 2, 3, 1)[images[:, 3] == 0].any(), "what is transparent has no colour"

    monkeypatch.setattr(classifier, "_IMAGES_SHOWN", 2_000)
    monkeypatch.setattr(classifier, "_EPOCHS", (1, 4))
    figures = trainer.evaluate(run, count=40, device="cpu")
    assert all(np.isfinite(figures[key]) for key in ("fid", "kid", "spectrum"))

    export.main([str(run), str(tmp_path / "exported")])
    assert np.array_equal(trainer.load(tmp_path / "exported").sample("red ink", count=3, seed=5), images)
    export.main([str(run), str(tmp_path / "generator.pt2"), "--to", "torch-export"])

    playground.main([str(run)])
    document = (run / "playground.html").read_text()
    found = re.search(r'id="page-data">(.*?)</script>', document)
    assert found
    data_of_page = json.loads(found[1])
    assert [data_of_page[key] for key in ("channels", "height", "width")] == [shape.channels, shape.height, shape.width]
    assert f'width="{shape.width}" height="{shape.height}"' in document


def test_shapes_that_networks_do_not_support_are_one_sentence(tmp_path: Path) -> None:
    data = packed(tmp_path, ImageShape(4, 16, 12))
    article = {"preset": "article96", "log_with": "none", "workers": 0, "batch": 16}
    with raises("unsupported-architecture", "article", "96x96", "12x16"):
        trainer.train(run=tmp_path / "article", shards=str(data), total_images=16, **article)
    with raises("unsupported-architecture", "12x16", "3 levels", "--channels"):
        trainer.train(run=tmp_path / "deep", shards=str(data), total_images=16, **OPTIONS, channels=(8, 8))
    assert not (tmp_path / "article" / "checkpoints").exists()
