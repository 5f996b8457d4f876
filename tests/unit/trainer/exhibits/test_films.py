"""Films: opened again, their frames are what was drawn, in order and for as long as requested."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shards.core import errors
from shards.dataset.label_rows import Labels
from shards.dataset.schema import Attribute, Schema
from support.errors import raises
from support.generators import SCHEMA, make_run
from trainer import load
from trainer.exhibits import command, film_file, training_film
from trainer.exhibits.interpolation import interpolate_labels
from trainer.exhibits.walks import noise_walk, walk_frames, words_walk
from trainer.export import command as export_command
from trainer.generation import image_grid
from trainer.networks.conditioning import LabelEmbedding


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose generator has random weights."""
    return make_run(tmp_path_factory.mktemp("film") / "run")


def film(run: Path, path: Path, *words: str) -> Path:
    command.main([str(run), "--device", "cpu", "--film", str(path), *words])
    return path


def frames_of(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Return the frames of a WebP or GIF as RGB, and how long each is shown in milliseconds."""
    frames, durations = [], []
    with Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()  # a WebP says how long a frame is shown after it was decoded
            frames.append(np.asarray(image.convert("RGB")).astype(int))
            durations.append(int(image.info["duration"]))
    return frames, durations


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def sampled(run: Path, *phrases: str, count: int, seed: int) -> np.ndarray:
    """Return the pixels of the grid that `cgan sample` would draw."""
    sampler = load(run, device="cpu")
    images = np.concatenate([sampler.sample(phrase, count, seed) for phrase in phrases])
    titles = phrases if len(phrases) > 1 else ()
    return np.asarray(image_grid.grid(images, count, row_titles=titles)).astype(int)


@pytest.mark.parametrize(("ending", "tolerance"), [("webp", 4), ("gif", 6)])
def test_noise_film_is_a_loop_that_starts_at_the_samples(
    run: Path, tmp_path: Path, ending: str, tolerance: float
) -> None:
    path = film(run, tmp_path / f"new/walk.{ending}", *"--tiles 3 --stops 3 --seconds 1.2 --fps 10 --seed 5".split())
    frames, durations = frames_of(path)
    assert len(frames) == 12 and durations == [100] * 12
    assert difference(frames[0], sampled(run, "anything", count=3, seed=5)) < tolerance
    steps = [difference(a, b) for a, b in zip(frames, [*frames[1:], frames[0]], strict=True)]
    assert 0.3 < steps[-1] / np.median(steps) < 3, "the last frame is followed by the first as by any other"
    assert difference(frames[0], frames[6]) > 2 * steps[0]
    with Image.open(path) as image:
        assert image.info["loop"] == 0, "for ever"


def test_words_film_stops_at_the_samples_of_each_phrase(run: Path, tmp_path: Path) -> None:
    words = ("blue hair", "red hair, hat", "grey hair")
    more = ["--words", " ; ".join(words), *"--tiles 2 --seconds 3 --fps 2 --no-loop --seed 3".split()]
    frames, _ = frames_of(film(run, tmp_path / "walk.webp", *more))
    assert len(frames) == 6
    for number, phrase in ((0, words[0]), (5, words[2])):
        expected = sampled(run, phrase, count=2, seed=3)
        assert difference(frames[number][: len(expected)], expected) < 4
    # With an even number of steps, the middle one is the second stop.
    more[more.index("3")] = "2.5"
    frames, durations = frames_of(film(run, tmp_path / "odd.webp", *more))
    expected = sampled(run, words[1], count=2, seed=3)
    assert len(frames) == 5 and difference(frames[2][: len(expected)], expected) < 4
    assert sum(durations) == 2500
    assert difference(frames[0][len(expected) :], frames[2][len(expected) :]) > 0, "the caption names the phrase"


def test_words_are_the_values_of_an_attribute_by_default(run: Path) -> None:
    sampler = load(run, device="cpu")
    walk = words_walk(sampler, list(SCHEMA.attributes[0].values), 2, 0)
    frames = list(walk_frames(sampler, walk, 3, loop=True))
    assert len(frames) == 3 and walk.captions == ["blue hair", "red hair", "grey hair"]
    assert (walk.z[0] == walk.z[2]).all(), "only the words change"


def test_rows_of_a_noise_film_have_the_same_noise(run: Path, tmp_path: Path) -> None:
    sampler = load(run, device="cpu")
    walk = noise_walk(sampler, ["blue hair", "hat"], 2, 3, 7)
    assert (walk.z[:, :3] == walk.z[:, 3:]).all() and walk.row_titles == ["blue hair", "hat"]
    more = ["--film-of", "noise", "--words", "blue hair; hat", *"--tiles 3 --seconds 1 --fps 4 --seed 7".split()]
    frames, _ = frames_of(film(run, tmp_path / "walk.webp", *more))
    assert difference(frames[0], sampled(run, "blue hair", "hat", count=3, seed=7)) < 4


def test_film_repeats_to_the_byte_and_replaces_the_file(run: Path, tmp_path: Path) -> None:
    for ending in ("webp", "gif", "mp4"):
        path, short = tmp_path / f"walk.{ending}", "--tiles 1 --seconds 0.5 --fps 8".split()
        path.write_text("old")
        first = film(run, path, *short).read_bytes()
        assert film(run, path, *short).read_bytes() == first
        assert film(run, path, *short, "--seed", "1").read_bytes() != first
    assert len(list(tmp_path.iterdir())) == 3, "no temporary file is left"


def test_mp4_has_the_frames_at_their_rate(run: Path, tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    more = "--tiles 3 --seconds 2 --fps 12 --seed 4".split()
    path = film(run, tmp_path / "walk.mp4", *more)
    reader = imageio_ffmpeg.read_frames(str(path))
    notes = next(reader)
    width, height = notes["size"]
    expected = sampled(run, "anything", count=3, seed=4)
    assert notes["fps"] == 12 and notes["duration"] == pytest.approx(2, abs=0.1) and notes["codec"] == "h264"
    assert "yuv420p" in notes["pix_fmt"] and width % 2 == height % 2 == 0
    frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3).astype(int) for frame in reader]
    assert len(frames) == 24
    shown = frames[0][: expected.shape[0], : expected.shape[1]]
    assert difference(shown, expected) < 6 and abs((shown - expected).mean()) < 2, "the same colours"


@pytest.mark.parametrize("shape", [{"image_channels": 4, "aspect": (3, 4)}, {"image_channels": 1, "aspect": (2, 1)}])
def test_transparent_and_grey_images_of_any_shape(tmp_path: Path, shape: dict[str, Any]) -> None:
    run = make_run(tmp_path / "run", **shape)
    frames, _ = frames_of(film(run, tmp_path / "walk.webp", *"--tiles 2 --seconds 1 --fps 4 --seed 4".split()))
    assert len(frames) == 4 and difference(frames[0], sampled(run, "anything", count=2, seed=4)) < 4


def test_odd_sides_are_padded_for_mp4(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    film_file.write_film(tmp_path / "odd.mp4", (Image.new("RGB", (33, 21), "red") for _ in range(3)), 3, 4)
    assert next(imageio_ffmpeg.read_frames(str(tmp_path / "odd.mp4")))["size"] == (34, 22)


def test_durations_add_up_for_any_rate(tmp_path: Path) -> None:
    shades = [Image.new("RGB", (16, 16), (60 * n, 0, 255 - 60 * n)) for n in range(4)]
    for ending, fps, total in (("webp", 30, 133), ("gif", 30, 130), ("gif", 7, 570)):
        film_file.write_film(tmp_path / f"film.{ending}", iter(shades), 4, fps)
        assert sum(frames_of(tmp_path / f"film.{ending}")[1]) == total


def test_long_films_of_equal_frames(tmp_path: Path) -> None:
    """A GIF shows a frame for 655 seconds at most, and equal frames are one."""
    frame = Image.new("RGB", (16, 16), "red")
    with raises("film-too-large", "film.gif", "700 seconds"):
        film_file.write_film(tmp_path / "film.gif", iter([frame] * 1400), 1400, 2)
    assert not (tmp_path / "film.gif").exists()
    film_file.write_film(tmp_path / "film.gif", iter([frame] * 65), 65, 0.1)
    assert sum(frames_of(tmp_path / "film.gif")[1]) == 650_000


def test_without_ffmpeg_an_mp4_is_refused_before_anything_is_drawn(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    film_file._ffmpeg.cache_clear()
    with raises("package-missing", "cgan-trainer[film]"):
        film(run, tmp_path / "walk.mp4")
    film_file._ffmpeg.cache_clear()
    assert film(run, tmp_path / "walk.webp", "--seconds", "0.2").is_file()


def test_an_encoder_that_fails_leaves_the_old_film(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "walk.mp4"
    path.write_text("old")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho this is why >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(film_file, "_ffmpeg", lambda: str(broken))
    with raises("process-failed", "this is why", kind=errors.Failure):
        film(run, path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--film", "walk.avi"], "invalid-output-name", ".webp"),
        (["--film", "walk"], "invalid-output-name", "walk"),
        (["--film", "walk.gif", "--fps", "60"], "invalid-value", "--fps"),
        (["--film", "walk.gif", "--fps", "0.001"], "invalid-value", "--fps"),
        (["--film", "walk.webp", "--fps", "1e-7"], "invalid-value", "--fps"),
        (["--film", "walk.gif", "--fps", "1", "--seconds", "656"], "film-too-large", "--seconds"),
        (["--film", "walk.webp", "--words", "blue hair;;red hair"], "empty-phrase", "--words"),
        (["--film", "walk.webp", "--words", "purple hair; red hair"], "unknown-word", "purple"),
        (["--film", "walk.webp", "--film-of", "words", "--words", "red hair"], "option-conflict", "--words"),
        (["--film", "walk.webp", "--seconds", "1e6"], "film-too-large", "--seconds"),
        (
            ["--film", "walk.webp", "--tiles", "40", "--words", "hat;red hair", "--film-of", "noise"],
            "film-too-large",
            "",
        ),
        (["--film", "walk.webp", "--film-of", "training"], "samples-missing", "samples/"),
        (["--film", "walk.webp", "--film-of", "training", "--tiles", "3"], "option-conflict", "--tiles"),
        (["--film", "walk.webp", "--out", "grids"], "option-conflict", "--out"),
        (["--tiles", "3"], "option-conflict", "--tiles"),
        (["--no-loop"], "option-conflict", "--loop"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with raises(code, named):
        command.main([str(run), "--device", "cpu", *words])
    assert not list(tmp_path.iterdir())


def test_attribute_with_several_values_is_needed_without_words(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Schema((Attribute("hat", "tag", ("hat",)),)))
    with raises("option-missing", "--words"):
        film(run, tmp_path / "walk.webp", "--film-of", "words")


def test_interpolated_labels_have_interpolated_embeddings() -> None:
    torch.manual_seed(0)
    widths = (3, 1, 2)
    embedding = LabelEmbedding(widths, 7)
    embedding.mask.centre.copy_(torch.tensor([0, 0, 0, 0, 5, 5.0]))
    a = Labels(np.array([[0, 1, 0, 0, 7, 1]], np.float32), np.array([[True, False, True]]))
    b = Labels(np.array([[1, 0, 0, 1, 0, 0]], np.float32), np.array([[True, True, False]]))

    def embedded(labels: Labels) -> torch.Tensor:
        return embedding(torch.from_numpy(labels.label), torch.from_numpy(labels.known.astype(np.float32)))

    for t in (0, 0.25, 0.5, 1):
        expected = torch.lerp(embedded(a), embedded(b), t)
        torch.testing.assert_close(embedded(interpolate_labels(a, b, t, widths)), expected)


# ---------------------------------------------------------------- films of a training


def save_grid(run: Path, images_seen: int, size: tuple[int, int] = (60, 40)) -> Path:
    image = Image.new("RGB", size, (images_seen % 200, 90, 200))
    path = run / "samples" / f"{images_seen:012d}.png"
    path.parent.mkdir(exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def grids(tmp_path: Path) -> Path:
    """Return a run with grids of different sizes, of which two are damaged."""
    run = make_run(tmp_path / "run")
    for images_seen, size in ((900, (60, 40)), (20, (61, 40)), (10_000, (60, 51)), (150, (60, 40)), (80, (60, 40))):
        save_grid(run, images_seen, size)
    whole = save_grid(run, 300).read_bytes()
    (run / "samples" / "000000000300.png").write_bytes(whole[: len(whole) // 2])
    (run / "samples" / "000000000400.png").write_text("not an image")
    return run


def test_training_film_shows_the_grids_in_order(
    grids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, durations = frames_of(film(grids, tmp_path / "training.webp", "--film-of", "training"))
    warned = capsys.readouterr().err
    assert "000000000300.png" in warned and "000000000400.png" in warned and warned.count("[damaged-images]") == 2
    assert [round(frame[20, 20, 0]) for frame in frames] == pytest.approx([20, 80, 150, 100, 0], abs=5)
    assert {frame.shape for frame in frames} == {(51 + 24, 61, 3)}
    assert durations == [250, 250, 250, 250, 2250], "the last one is held"
    assert all(difference(a[51:], b[51:]) > 0 for a, b in itertools.pairwise(frames)), "captions differ"


def test_long_training_is_thinned_out(grids: Path, tmp_path: Path) -> None:
    saved = training_film.saved_grids(grids, 3)
    assert [grid.images_seen for grid in saved.grids] == [20, 150, 10_000]
    short = film(grids, tmp_path / "short.webp", "--film-of", "training", "--seconds", "0.5", "--fps", "4")
    assert len(frames_of(short)[0]) == 2


def test_large_grids_are_scaled_down(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    save_grid(run, 1, (4000, 1000))
    save_grid(run, 2, (100, 100))
    frames = list(training_film.training_frames(training_film.saved_grids(run, 10), 1))
    assert [frame.size for frame in frames] == [(1920, 480 + 24)] * 3


def test_an_export_has_no_training_to_show(tmp_path: Path) -> None:
    run, exported = make_run(tmp_path / "run"), tmp_path / "exported"
    export_command.main([str(run), str(exported)])
    with raises("samples-missing", "exported"):
        film(exported, tmp_path / "training.webp", "--film-of", "training")
    assert film(exported, tmp_path / "walk.webp", "--seconds", "0.2").is_file()


def test_grids_of_a_real_run_become_a_film(run_copy: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "exhibits", run_copy, "--film", tmp_path / "t.gif", "--film-of", "training"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    frames, _ = frames_of(tmp_path / "t.gif")
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((run_copy / "samples").glob("*.png"))]
    assert len(frames) == len(images)
    height, width, _ = images[0].shape
    assert difference(frames[0][:height, :width], images[0].astype(int)) < 6
