"""Verified drawings keep their promise to a judge of other images, which neither generator nor judges have seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from shards.dataset.dataset import Dataset
from shards.examples.shapes import FORMS, INKS
from shards.packing.pack import Pack, pack
from support.launching import TINY, train
from trainer.evaluation.judge.judge import SECOND, Judge, judge_of
from trainer.generation.sampler import load
from trainer.sampling.candidates import in_blocks
from trainer.sampling.drawings import Choice
from trainer.sampling.reading import read
from trainer.sampling.verification import Verifier

SIZE = 8
SEEDS, COUNT = 20, 16
IMAGES = 1600  # after which the generator draws what it is asked for often, but not as often as promised
PHRASE, PROMISE = "blue ink, tall shape", 0.9


def draw(rng: np.random.Generator) -> tuple[Image.Image, str]:
    """Return an image of a shape on paper, and its tags; place, sizes, ink and paper vary, so that no two are alike."""
    ink, form = rng.choice(list(INKS)), rng.choice(FORMS)
    image = Image.new("RGB", (SIZE, SIZE), tuple(rng.integers(200, 256, 3).tolist()))
    middle, radius = SIZE // 2 + rng.integers(-1, 1, 2), int(rng.integers(2, 4))
    half_width = radius // 2 if form == "tall" else radius
    low, high = middle - (half_width, radius), middle + (half_width, radius)
    colour = np.clip(INKS[ink] + rng.integers(-20, 21, 3), 0, 255)
    brush = ImageDraw.Draw(image)
    (brush.ellipse if form == "round" else brush.rectangle)(
        (*low.tolist(), *high.tolist()), fill=tuple(colour.tolist())
    )
    return image, f"{ink} ink, {form} shape"


def drawn_shapes(folder: Path, count: int, seed: int) -> Dataset:
    """Draw and pack shapes; those of two seeds have no image in common."""
    rng, rows = np.random.default_rng(seed), ["id,tags"]
    (folder / "source").mkdir(parents=True)
    for number in range(count):
        image, tags = draw(rng)
        image.save(folder / "source" / f"{number:04d}.png")
        rows.append(f'{number:04d},"{tags}"')
    (folder / "source" / "tags.csv").write_text("\n".join(rows))
    pack(Pack(src=folder / "source", out=folder / "data", size=SIZE, workers=1))
    return Dataset.open(folder / "data")


def pixels_of(data: Dataset) -> set[bytes]:
    return {data[number].image.tobytes() for number in range(len(data))}


def shares_right(run: Path, data: Dataset, referee: Judge) -> tuple[list[float], list[float]]:
    """Return for each seed the fraction of drawings in which a referee sees the phrase: verified and plain ones."""
    sampler = load(run, device="cpu")
    choice = Choice(sampler, Verifier.open(sampler, run, str(data.path), progress=False), PROMISE)
    calibration = choice.calibrate(PHRASE)
    assert calibration is not None
    request = calibration.request

    def share(images: np.ndarray) -> float:
        return float(request.shown(read(request.schema, request.attributes, in_blocks(referee.logits, images))).mean())

    verified, plain = list[float](), list[float]()
    for seed in range(SEEDS):
        labels = sampler.labels_for(PHRASE, COUNT, seed)
        chosen = choice.choose(labels, seed, calibration)
        assert len(chosen.rows) == COUNT
        verified.append(share(chosen.images))
        plain.append(share(sampler.generate(labels, seed)))
    return verified, plain


@pytest.mark.long
def test_judge_of_other_images_sees_the_promised_share_over_twenty_seeds(tmp_path: Path) -> None:
    data, others = drawn_shapes(tmp_path / "own", 600, seed=0), drawn_shapes(tmp_path / "others", 800, seed=1)
    assert pixels_of(data).isdisjoint(pixels_of(others))
    options = (*TINY, "--channels", "16,8", "--label-loss", 0.5, "--total-images", IMAGES)
    train(*options, "--shards", data.path, "--run", tmp_path / "run")
    referee = judge_of(others, device="cpu", progress=False, seed=2, architecture=SECOND["architecture"])
    verified, plain = shares_right(tmp_path / "run", data, referee)
    assert np.mean(plain) < PROMISE, plain  # the promise is not kept by itself
    assert np.mean(verified) >= PROMISE, verified
