"""`cgan invert`: a generator's own drawing is found again, words change and the noise stays."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import shards
from shards.dataset.decode import read_pixels
from shards.dataset.image_shape import ImageShape
from shards.dataset.label_rows import Labels
from support.errors import raises
from support.generators import SCHEMA, make_run
from trainer import load
from trainer.evaluation.judge.judge import judge_of
from trainer.export import command as export_command
from trainer.generation import image_grid
from trainer.generation.generate import generate_images
from trainer.generation.sampler import Sampler
from trainer.inversion import command, features
from trainer.inversion.labels import Candidates
from trainer.inversion.reading import Reading, read_label
from trainer.inversion.search import Settings, _Search, invert
from trainer.inversion.target import psnr, read_target
from trainer.models import fresh_networks
from trainer.run import checkpoint

NOTHING = np.zeros(len(SCHEMA.attributes), bool)
QUICK = "--steps 60 --restarts 3 --draws 128 --references 0 --features none --device cpu".split()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with random weights, without a discriminator."""
    return make_run(tmp_path_factory.mktemp("invert") / "run")


def with_discriminator(run: Path, **options: Any) -> Path:
    """Add a checkpoint with a random discriminator, and options of the training."""
    saved = checkpoint.find(run)
    generator, discriminator = fresh_networks(saved.state.architecture, 3)
    generator.load_state_dict(saved.tensors("ema"))
    state = {"images_seen": 256, "architecture": json.loads((saved.path / "state.json").read_text())["architecture"]}
    state |= {"config": {**saved.state.config, **options}, "scaler": {}, "data": "f00d"}
    files = {"ema": generator.state_dict(), "discriminator": discriminator.state_dict()}
    checkpoint.save(run, state, files, 1)
    return run


def save(pixels: np.ndarray, path: Path) -> Path:
    image_grid.to_pillow(pixels).save(path)
    return path


def own_drawing(run: Path, path: Path, phrase: str, seed: int = 11) -> Path:
    """Save one of the generator's own drawings."""
    return save(load(run, device="cpu").sample(phrase, 1, seed)[0], path)


def drawn(sampler: Sampler, noise: list[float], content: dict[str, Any]) -> np.ndarray:
    """Draw what a .json of an inversion says."""
    labels = Labels(np.array([content["label"]], np.float32), np.array([content["known"]], bool))
    return generate_images(sampler.generator, torch.tensor([noise]), labels)[0]


def inverted(*words: object) -> tuple[dict[str, Any], Image.Image]:
    """Run the command and return its .json and its panel."""
    command.main([*QUICK, *map(str, words)])
    out = Path(str(words[list(words).index("--out") + 1]))
    return json.loads(out.with_suffix(".json").read_text()), Image.open(out)


def test_own_drawing_is_found_and_words_change_with_the_same_noise(run: Path, tmp_path: Path) -> None:
    image = own_drawing(run, tmp_path / "own.png", "blue hair, hat")
    words = ["--as", "blue hair, hat", "--change", "red hair; grey hair, no hat"]
    content, panel = inverted(run, image, *words, "--out", tmp_path / "new/panel.png")
    assert content["psnr"] > content["nearest_random_psnr"] + 10 and content["psnr"] > 35
    assert content["words"] == ["blue hair", "hat"] and content["labels_read_by"] is None
    assert 0.3 < np.square(content["noise"]).mean() < 2.5, "noise stays as long as normal noise"
    sampler, original = load(run, device="cpu"), np.asarray(Image.open(image)).transpose(2, 0, 1)
    again = drawn(sampler, content["noise"], content)
    assert psnr(again, original) == pytest.approx(content["psnr"], abs=0.01), "the .json draws the drawing"
    red, grey = content["changes"]
    assert red["words"] == ["red hair", "hat"] and grey["words"] == ["grey hair"] and grey["known"] == [1, 1]
    # The panel has the original, the drawing, and each change, drawn with the same noise.
    shown = [original, again, *(drawn(sampler, content["noise"], change) for change in (red, grey))]
    scale = 12  # of 8x8 pixels
    tiles = np.asarray(panel)[-8 - 8 * scale : -8, 8:-8][::scale, :]
    for number, expected in enumerate(shown):
        tile = tiles[:, number * (8 * scale + 2) :][:, : 8 * scale][:, ::scale]
        assert (tile == expected.transpose(1, 2, 0)).all(), number
    assert panel.info["Description"] == "columns: original; drawing; red hair; grey hair, no hat"


def test_what_no_word_says_is_tried(run: Path, tmp_path: Path) -> None:
    for seed, phrase in enumerate(("blue hair, hat", "red hair, no hat", "grey hair, hat")):
        image = own_drawing(run, tmp_path / "own.png", phrase, seed)
        content, _ = inverted(run, image, "--out", tmp_path / f"{seed}.png")
        assert ", ".join(content["words"]) == phrase.removesuffix(", no hat")
        assert content["psnr"] > content["nearest_random_psnr"] + 10


def test_drawing_of_a_real_run_is_found(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = own_drawing(trained_run, tmp_path / "own.png", "blue ink, round shape")
    more = ["--features", "auto", "--steps", 100, "--out", tmp_path / "panel.png"]
    content, _ = inverted(trained_run, image, "--as", "blue ink", *more)
    assert content["psnr"] > content["nearest_random_psnr"] + 6
    assert content["features"] == "discriminator" and content["feature_distance"] < 0.1
    assert "blue ink" in content["words"] and content["verdict"] in capsys.readouterr().out


@pytest.mark.parametrize("shape", [{"image_channels": 4, "aspect": (3, 4)}, {"image_channels": 1, "aspect": (2, 1)}])
def test_transparent_and_grey_drawings_of_any_shape_are_found(tmp_path: Path, shape: dict[str, Any]) -> None:
    run = with_discriminator(make_run(tmp_path / "run", **shape))
    image = own_drawing(run, tmp_path / "own.png", "blue hair, hat")
    more = ["--features", "discriminator", "--change", "red hair", "--out", tmp_path / "panel.png"]
    content, panel = inverted(run, image, "--as", "blue hair, hat", *more)
    assert content["psnr"] > content["nearest_random_psnr"] + 6 and panel.mode == "RGB"


def test_search_repeats_with_its_seed(run: Path, tmp_path: Path) -> None:
    image = own_drawing(run, tmp_path / "own.png", "hat")
    results = []
    for seed in (1, 1, 2):
        inverted(run, image, "--out", tmp_path / "panel.png", "--seed", seed, "--change", "red hair")
        results.append([(tmp_path / name).read_bytes() for name in ("panel.png", "panel.json")])
    assert results[0] == results[1] != results[2]


def test_comparison_says_how_near_it_came(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = own_drawing(run, tmp_path / "own.png", "hat")
    other = save(np.random.default_rng(0).integers(0, 255, (3, 8, 8), np.uint8), tmp_path / "noise.png")
    said = []
    for image in (own, other):
        content, _ = inverted(run, image, "--references", 2, "--out", tmp_path / f"{image.stem}-panel.png")
        assert content["options"]["references"] == 2 and content["options"]["features"] == "none"
        assert len(content["references"]["own"]) == 2
        said.append(content["verdict"])
        assert content["verdict"] in capsys.readouterr().out
        least = min(each["psnr"] for each in content["references"]["own"])
        assert ("as well as any" in content["verdict"]) is (content["psnr"] >= least)
    assert "not the image itself" in said[1] or "hardly anything" in said[1]


def test_held_out_images_are_compared(trained_run: Path, small_dataset: Path, tmp_path: Path, run: Path) -> None:
    image = own_drawing(trained_run, tmp_path / "own.png", "blue ink")
    more = ["--references", 1, "--steps", 4, "--held-out", small_dataset]
    content, _ = inverted(trained_run, image, "--out", tmp_path / "panel.png", *more)
    assert any("it has seen these images" in note for note in content["notes"]), "they are those of its training"
    assert len(content["references"]["held_out"]) == 1 and "held-out" in content["verdict"]
    with raises("wrong-dataset", "--held-out", "8 x 8"):
        command.main([str(run), str(image), "--held-out", str(small_dataset), "--out", str(tmp_path / "x.png")])


def test_an_export_is_inverted_without_a_discriminator(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "exported"
    export_command.main([str(run), str(exported)])
    before = sorted(exported.iterdir())
    image = own_drawing(run, tmp_path / "own.png", "hat")
    monkeypatch.chdir(tmp_path)
    command.main([*QUICK, str(exported), str(image), "--features", "auto", "--steps", "2", "--draws", "4"])
    assert "features of efficientnet-lite0" in capsys.readouterr().out
    assert (tmp_path / "own-inverted.png").is_file() and sorted(exported.iterdir()) == before
    with raises("discriminator-missing", exported):
        command.main([str(exported), str(image), "--features", "discriminator"])
    monkeypatch.setattr(features, "lite_distance", _missing)
    command.main([*QUICK, str(exported), str(image), "--features", "auto"])
    assert "pixels alone" in capsys.readouterr().out
    assert json.loads((tmp_path / "own-inverted.json").read_text())["features"] is None


def _missing(device: torch.device) -> features.FeatureDistance:
    raise shards.core.errors.UserError("package-missing", "not installed")


def test_features_of_efficientnet_do_not_see_hidden_colours() -> None:
    """As everywhere in inversion, RGBA images lie on mid-grey, and invisible differences are none."""
    image = torch.rand(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image[:, 3, :8] = -1
    other, on_grey = image.clone(), image[:, :3] * (image[:, 3:] + 1) / 2
    other[:, :3, :8] = 1
    distance = features.lite_distance(torch.device("cpu")).to(image)
    assert distance(other) == distance(image) == distance(on_grey) == 0


def test_time_limit_keeps_the_best_so_far(run: Path, tmp_path: Path) -> None:
    image = own_drawing(run, tmp_path / "own.png", "hat")
    content, _ = inverted(run, image, "--out", tmp_path / "panel.png", "--minutes", 1e-6)
    assert content["steps_taken"] == 0 and "--minutes" in content["notes"][-1]
    assert content["psnr"] == pytest.approx(content["nearest_random_psnr"], abs=3)
    assert "nearest of 64 random drawings" in content["verdict"], "the other draws were left out"


def test_time_limit_is_shared_with_the_references(run: Path, tmp_path: Path) -> None:
    image = own_drawing(run, tmp_path / "own.png", "hat")
    more = ["--references", 2, "--steps", 100_000, "--minutes", 0.05]
    content, _ = inverted(run, image, "--out", tmp_path / "panel.png", *more)
    steps = [content["steps_taken"], *(each["steps_taken"] for each in content["references"]["own"])]
    assert min(steps) > max(steps) / 10, steps
    low, high = min(steps[1:]), max(steps[1:])
    assert f"after {steps[0]:,} of 100,000 steps" in content["notes"][-1] and f"{low:,}" in content["notes"][-1]
    assert f"{high:,}" in content["notes"][-1]
    assert content["verdict"].endswith("The search was cut short, so no conclusion is drawn.")
    assert "same search" not in content["verdict"]


def test_time_limit_ends_the_trial_of_words(run: Path) -> None:
    vocabulary = load(run, device="cpu").vocabulary
    candidates = Candidates(vocabulary, *vocabulary.read("anything"), NOTHING)
    labels, over = candidates.draw(2, 0), Settings(1, 2, 2, 0, deadline=0.0)

    def draw(*_: object) -> torch.Tensor:
        raise AssertionError("nothing is drawn after the deadline")

    generator = torch.nn.Module()
    generator.forward = draw
    search = _Search(generator, torch.zeros(1, 3, 8, 8), None, candidates, over)
    assert search.relabelled(torch.zeros(2, 4), labels) == labels


# ---------------------------------------------------------------- reading labels


def test_label_is_read_by_a_discriminator_that_learned_labels(tmp_path: Path) -> None:
    run = with_discriminator(make_run(tmp_path / "run"), label_loss=0.5)
    sampler = load(run, device="cpu")
    image = sampler.sample("hat", 1)[0]
    reading = read_label(sampler, run, image)
    assert reading is not None and reading.reader == "discriminator" and reading.read.all()
    assert reading.label[:3].sum() == 1 and reading.label[3] in (0, 1)
    content, _ = inverted(run, save(image, tmp_path / "own.png"), "--as", "hat", "--out", tmp_path / "panel.png")
    assert content["labels_read_by"] == "discriminator" and content["words"][-1] == "hat"
    assert content["label"][:3] == reading.label[:3].tolist()
    without = with_discriminator(make_run(tmp_path / "without"))
    assert read_label(load(without, device="cpu"), without, image) is None


@pytest.mark.long
def test_label_is_read_by_the_judge_if_there_is_one(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sampler = load(trained_run, device="cpu")
    dataset = shards.open(sampler.saved.state.config["shards"])
    image = np.empty(dataset.shape.pixels_shape, np.uint8)
    read_pixels(dataset, 5, image)
    image = image.transpose(2, 0, 1)
    assert read_label(sampler, trained_run, image) is None
    judge_of(dataset, progress=False)
    reading = read_label(sampler, trained_run, image)
    assert reading is not None and reading.reader == "judge"
    assert reading.label.tolist() == dataset.labels[5].tolist()


@pytest.mark.parametrize(
    ("truth", "misread", "note", "seed"),
    [
        ("blue hair, hat", "red hair, hat", "the judge read red hair, but", 11),
        ("red hair, no hat", "red hair, hat", "the judge read hat, but", 11),
        ("grey hair, hat", "grey hair, no hat", "the judge read no hat, but", 2),
    ],
)
def test_word_that_the_judge_misreads_is_corrected_unless_it_was_given(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truth: str, misread: str, note: str, seed: int
) -> None:
    monkeypatch.setattr(command, "read_label", _reading(misread))
    image = own_drawing(run, tmp_path / "own.png", truth, seed)
    corrected, _ = inverted(run, image, "--out", tmp_path / "corrected.png")
    assert ", ".join(corrected["words"]) == truth.removesuffix(", no hat")
    assert corrected["labels_read_by"] == "judge" and corrected["notes"][0].startswith(note)
    given, _ = inverted(run, image, "--as", misread, "--out", tmp_path / "given.png", "--steps", 5)
    assert ", ".join(given["words"]) == misread.removesuffix(", no hat") and given["notes"] == []


def test_word_that_the_judge_reads_rightly_stays(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "read_label", _reading("grey hair, hat"))
    image = own_drawing(run, tmp_path / "own.png", "grey hair, hat")
    content, _ = inverted(run, image, "--out", tmp_path / "panel.png")
    assert content["words"] == ["grey hair", "hat"] and content["notes"] == []


def _reading(words: str) -> Callable[[Sampler, Path, np.ndarray], Reading]:
    return lambda sampler, run, image: Reading("judge", *sampler.vocabulary.read(words))


def test_reading_counts_where_another_value_is_hardly_better(run: Path) -> None:
    """Only a clear difference speaks against the judge: what a tag hardly changes is decided by chance."""
    vocabulary = load(run, device="cpu").vocabulary
    label, read = vocabulary.read("red hair, hat")
    candidates = Candidates(vocabulary, label, NOTHING, read)
    wanted = torch.zeros(1, 3, 8, 8)
    for gain, found in ((0.97, [0, 1, 0, 1]), (0.9, [1, 0, 0, 1])):
        generator = torch.nn.Module()
        generator.forward = lambda z, label, known, gain=gain: (  # blue hair draws it better
            torch.where(label[:, 0] > 0, gain, 1.0).sqrt()[:, None, None, None].expand(-1, 3, 8, 8) * 0.5
        )
        search = _Search(generator, wanted, None, candidates, Settings(1, 1, 1, 0))
        labels = search.relabelled(torch.zeros(1, 4), candidates.draw(1, 0))
        assert labels.label[0].tolist() == found, gain


def test_named_attributes_stay_and_open_ones_are_the_datasets(run: Path) -> None:
    vocabulary = load(run, device="cpu").vocabulary
    candidates = Candidates(vocabulary, *vocabulary.read("grey hair"), NOTHING)
    labels = candidates.draw(50, 0)
    assert candidates.open == [1] and (labels.label[:, 2] == 1).all() and len(np.unique(labels.label[:, 3])) == 2
    tried = list(candidates.choices(labels, 1))
    assert [set(each.label[:, 3]) for each in tried] == [{0}, {1}] and all(each.known.all() for each in tried)


# ---------------------------------------------------------------- images of all kinds


def files(folder: Path) -> dict[str, Image.Image]:
    """Return images of different sizes and modes, with a shape that a wrong crop or turn would move."""
    found = {}
    for mode, size in (("RGB", (40, 30)), ("RGBA", (30, 41)), ("L", (33, 33)), ("P", (20, 60)), ("CMYK", (31, 30))):
        image = Image.new("RGB", size, "navy")
        ImageDraw.Draw(image).ellipse([3, 5, size[0] // 2, size[1] - 4], "orange", "red")
        if mode == "RGBA":
            image.putalpha(Image.linear_gradient("L").resize(size))
        found[mode] = image.convert(mode)
    return found


@pytest.mark.parametrize(("fit", "background"), [("crop", "white"), ("pad", "#336699"), ("stretch", "black")])
def test_image_is_fitted_as_packing_does(tmp_path: Path, fit: str, background: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, image in files(tmp_path).items():
        image.save(source / f"{name}.{'tiff' if name == 'CMYK' else 'png'}")
    turned = Image.Exif()
    turned[0x0112] = 6
    files(tmp_path)["RGB"].save(source / "turned.jpg", exif=turned)
    rows = "".join(f'{path.stem},"a tag"\n' for path in sorted(source.iterdir()))
    (source / "tags.csv").write_text(f"id,tags\n{rows}")
    shards.pack(source, tmp_path / "data", size=16, fit=fit, background=background, format="raw")
    dataset, packed = shards.open(tmp_path / "data"), []
    for number in range(len(dataset)):
        pixels = np.empty((16, 16, 3), np.uint8)
        read_pixels(dataset, number, pixels)
        packed.append(pixels.transpose(2, 0, 1).tobytes())
    paths = [path for path in source.iterdir() if path.suffix != ".csv"]
    read = [read_target(path, ImageShape(3, 16, 16), fit, background).tobytes() for path in paths]
    assert len(set(read)) == 6 and sorted(read) == sorted(packed)


@pytest.mark.parametrize("shape", [ImageShape(4, 12, 9), ImageShape(1, 8, 16)])
def test_image_has_the_channels_and_sides_of_the_generator(tmp_path: Path, shape: ImageShape) -> None:
    for name, image in files(tmp_path).items():
        image.save(tmp_path / f"{name}.tiff")
        read = read_target(tmp_path / f"{name}.tiff", shape, "crop", "white")
        assert read.shape == (shape.channels, shape.height, shape.width)
    if shape.channels == 4:
        read = read_target(tmp_path / "RGBA.tiff", shape, "crop", "white")
        assert read[3, 0].max() < 40 and read[3, -1].min() > 200, "alpha is kept"


# ---------------------------------------------------------------- what is refused


def contents() -> dict[str, bytes]:
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    return {
        "empty.png": b"",
        "text.png": b"hello",
        "page.png": b"<!DOCTYPE html><html>",
        "half.png": whole.getvalue()[:900],
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    }


@pytest.mark.parametrize("name", [*contents(), "missing.png", "folder.png"])
def test_image_that_cannot_be_read_is_one_sentence(run: Path, tmp_path: Path, name: str) -> None:
    image = tmp_path / name
    if name == "folder.png":
        image.mkdir()
    elif name != "missing.png":
        image.write_bytes(contents()[name])
    expected = "image-missing" if name in ("missing.png", "folder.png") else "image-unusable"
    with raises(expected, image):
        command.main([str(run), str(image), "--out", str(tmp_path / "out.png")])
    assert not (tmp_path / "out.png").exists() and not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--as", "purple hair"], "unknown-word", "purple"),
        (["--change", "red hair; green hair"], "unknown-word", "green"),
        (["--change", "red hair;;"], "empty-phrase", "--change"),
        (["--out", "panel.jpg"], "invalid-output-name", ".png"),
        (["--background", "nocolour"], "invalid-value", "--background"),
        (["--steps", "0"], "invalid-value", "--steps"),
        (["--held-out", "nowhere"], "dataset-missing", "nowhere"),
        (["--held-out", "nowhere", "--references", "0"], "option-conflict", "--references"),
    ],
)
def test_option_that_does_not_fit_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    image = own_drawing(run, tmp_path / "own.png", "hat")
    with raises(code, named):
        command.main([str(run), str(image), "--device", "cpu", *words])
    assert [path.name for path in tmp_path.iterdir()] == ["own.png"]


def test_nothing_of_others_is_replaced(run: Path, tmp_path: Path) -> None:
    image = own_drawing(run, tmp_path / "own.png", "hat")
    before = image.read_bytes()
    with raises("output-exists", "own.png"):
        command.main([str(run), str(image), "--out", str(image)])
    (tmp_path / "panel.json").write_text('{"label": "mine"}')
    with raises("output-exists", "panel.json"):
        command.main([str(run), str(image), "--out", str(tmp_path / "panel.png")])
    other = save(np.zeros((3, 8, 8), np.uint8), tmp_path / "other.png").read_bytes()
    with raises("output-exists", "other.png"):
        command.main([str(run), str(image), "--out", str(tmp_path / "other.png")])
    assert (tmp_path / "other.png").read_bytes() == other and not (tmp_path / "other.json").exists()
    assert image.read_bytes() == before and not (tmp_path / "panel.png").exists()


def test_another_image_of_the_same_name_replaces_nothing(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    for folder, phrase in (("red", "red hair"), ("blue", "blue hair")):
        (tmp_path / folder).mkdir()
        own_drawing(run, tmp_path / folder / "000000.png", phrase)
    quick = [*QUICK, "--steps", "1", "--draws", "2", str(copy)]
    command.main([*quick, str(tmp_path / "red/000000.png")])
    before = [path.read_bytes() for path in sorted((copy / "inverted").iterdir())]
    with raises("output-exists", "another image", "000000.png"):
        command.main([*quick, str(tmp_path / "blue/000000.png")])
    assert [path.read_bytes() for path in sorted((copy / "inverted").iterdir())] == before


def test_result_is_kept_in_the_run_by_default(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    image = own_drawing(run, tmp_path / "own.png", "hat")
    for _ in range(2):  # its own result may be replaced
        command.main([*QUICK, str(copy), str(image)])
    assert {path.name for path in (copy / "inverted").iterdir()} == {"own.png", "own.json"}


# ---------------------------------------------------------------- the search itself


def test_psnr_of_images() -> None:
    a = np.full((3, 4, 4), 100, np.uint8)
    assert psnr(a, a) == pytest.approx(58.9, abs=0.1)
    assert psnr(a, a + 16) == pytest.approx(20 * np.log10(255 / 16))


def test_more_steps_come_nearer(run: Path) -> None:
    sampler = load(run, device="cpu")
    labels = sampler.labels_for("blue hair, hat", 1)
    image = sampler.generate(labels, 4)[0]
    candidates = Candidates(sampler.vocabulary, labels.label[0], ~NOTHING, NOTHING)
    reached = [
        invert(sampler.generator, image, candidates, None, sampler.noise_size, Settings(steps, 2, 64, 0)).psnr
        for steps in (1, 20, 150)
    ]
    assert reached[0] < reached[1] < reached[2] and reached[2] > 40


@pytest.mark.parametrize("family", ["residual", "r3gan"])
def test_discriminator_gives_the_features_of_every_level(tmp_path: Path, family: str) -> None:
    shape = {"family": family, "size": 16, "channels": (32, 32, 32)}
    sampler = load(with_discriminator(make_run(tmp_path / "run", **shape)), device="cpu")
    distance = features.open_features(sampler, "discriminator", [])
    assert distance is not None
    found = distance.features(torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert [tuple(layer.shape[-2:]) for layer in found] == [(8, 8), (4, 4), (4, 4)]
    assert all(layer.shape[1] == 32 for layer in found), "and none of the image itself"


def test_features_are_zero_for_the_image_itself_and_differentiable(tmp_path: Path) -> None:
    run = with_discriminator(make_run(tmp_path / "run"))
    sampler = load(run, device="cpu")
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    for requested in ("discriminator", "lite0"):
        found = features.open_features(sampler, requested, [])
        assert found is not None
        shown = x.clone().requires_grad_(True)
        distance = found.to(x[:1])(shown)
        assert distance[0] < 1e-6 < distance[1:].min() and distance.shape == (3,)
        distance.sum().backward()
        assert shown.grad is not None and shown.grad[1:].abs().max() > 0
    assert features.open_features(sampler, "none", []) is None
