"""Choosing among candidates: which is kept, the same whatever is drawn at once; receipts; what goes wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import trainer
from shards.core import self_hash
from shards.core.errors import Failure
from support.errors import raises
from support.generators import make_run
from trainer.generation.sampler import Sampler, load
from trainer.models import fresh_networks
from trainer.run import checkpoint
from trainer.run.state_dicts import weights_hash
from trainer.sampling import command, verification
from trainer.sampling.calibration import Evidence, Rung
from trainer.sampling.drawings import Choice
from trainer.sampling.reading import Request
from trainer.sampling.receipt import path_of
from trainer.sampling.verification import Calibration, Verifier

PHRASE = "blue hair, hat"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_discriminator(tmp_path_factory.mktemp("sampling") / "run")


def with_discriminator(folder: Path, **architecture: Any) -> Path:
    """Return a run of random weights with a discriminator."""
    make_run(folder, **architecture)
    saved = checkpoint.find(folder)
    _, discriminator = fresh_networks(saved.state.architecture, 3)
    state = dataclasses.asdict(saved.state) | {"images_seen": 256}
    files = {"ema": saved.tensors("ema"), "discriminator": discriminator.state_dict()}
    checkpoint.save(folder, state, files, 2)
    return folder


@pytest.fixture
def sampler(run: Path) -> Sampler:
    return load(run, device="cpu")


class PickyVerifier:
    """Accepts images by a hash of their pixels: a judge whose answers are known, and cost nothing."""

    judge = referee = SimpleNamespace(
        identity={"seed": 0}, net=torch.nn.Linear(1, 1), accuracy=SimpleNamespace(attributes=())
    )
    notes = ()

    def __init__(self, sampler: Sampler, share: float) -> None:
        self.sampler, self.share, self.judged = sampler, share, 0

    def certainty(self, request: Request, images: np.ndarray) -> np.ndarray:
        self.judged += len(images)
        return np.array([self.of(image) for image in images])

    def of(self, image: np.ndarray) -> float:
        digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=4).digest()
        drawn = int.from_bytes(digest, "big") / 2**32
        return 0.95 if drawn < self.share else 0.5 if drawn < 0.9 else 0.0

    def calibrate(self, phrase: str, *_: object) -> Calibration:
        request = Request.of(self.sampler.schema, *self.sampler.vocabulary.read(phrase))
        evidence = {name: Evidence(400, 300, 3, 0.97) for name in ("real", "drawn")}
        return Calibration(request, Rung(0.9, evidence), 400)


def choice(sampler: Sampler, share: float = 0.3, **options: Any) -> Choice:
    verifier: Any = PickyVerifier(sampler, share)
    return Choice(sampler, verifier, **options)


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let `cgan sample --verified` use a `PickyVerifier` that accepts a share of the images."""

    def use(share: float) -> None:
        monkeypatch.setattr(Verifier, "open", lambda sampler, *_, **__: PickyVerifier(sampler, share))

    return use


# ---------------------------------------------------------------- which image is kept


def chosen(chooser: Choice, count: int, start: int = 0, seed: int = 4) -> list[tuple[int, int, bytes]]:
    """Return number, candidate and pixels of each image that is kept of ``count``."""
    labels = chooser.sampler.labels_for(PHRASE, start + count, seed)
    part = type(labels)(labels.label[start:], labels.known[start:])
    found = chooser.choose(part, seed, chooser.calibrate(PHRASE), start)
    return [
        (int(row) + start, int(candidate), image.tobytes())
        for row, candidate, image in zip(found.rows, found.candidates, found.images, strict=True)
    ]


@pytest.mark.parametrize("best_of", [1, 3])
def test_same_seed_keeps_the_same_drawings_whatever_is_drawn_at_once(sampler: Sampler, best_of: int) -> None:
    chooser = choice(sampler, best_of=best_of)
    whole = chosen(chooser, 70)
    assert [number for number, _, _ in whole] == list(range(70))
    assert len({candidate for _, candidate, _ in whole}) > 3, "not every first try is accepted"
    for start, count in ((0, 1), (0, 5), (13, 40), (69, 1)):
        assert chosen(chooser, count, start) == whole[start : start + count]
    assert chosen(chooser, 5, seed=5) != whole[:5]


def test_first_accepted_try_is_kept_and_tries_are_counted(sampler: Sampler) -> None:
    chooser, labels = choice(sampler), sampler.labels_for(PHRASE, 12, 0)
    found = chooser.choose(labels, 0, chooser.calibrate(PHRASE))
    verifier: Any = chooser.verifier
    for row in range(12):
        label = type(labels)(labels.label[[row]].repeat(40, 0), labels.known[[row]].repeat(40, 0))
        tries = sampler.generate_at(label, row + (np.arange(40) << 32), 0)
        first = next(number for number, image in enumerate(tries) if verifier.of(image) >= 0.9)
        assert (found.candidates[row], found.tries[row]) == (first, first + 1)
        assert np.array_equal(found.images[row], tries[first]) and found.certainty[row] == 0.95
    plain = sampler.sample(PHRASE, 12, 0)
    kept_at_once = np.flatnonzero(found.candidates == 0)
    assert len(kept_at_once) and np.array_equal(found.images[kept_at_once], plain[kept_at_once])


@pytest.mark.parametrize("channels", [3, 4])
def test_best_of_keeps_the_candidate_that_the_discriminator_scores_highest(
    sampler: Sampler, tmp_path: Path, channels: int
) -> None:
    if channels == 4:
        sampler = load(with_discriminator(tmp_path / "run", image_channels=4), device="cpu")
    chooser, labels = Choice(sampler, best_of=5), sampler.labels_for(PHRASE, 6, 1)
    found = chooser.choose(labels, 1, chooser.calibrate(PHRASE))
    assert chooser.discriminator is not None and len(set(found.candidates.tolist())) > 1
    assert found.tries.tolist() == [1] * 6
    for row in range(6):
        label = type(labels)(labels.label[[row]].repeat(5, 0), labels.known[[row]].repeat(5, 0))
        images = sampler.generate_at(label, row + (np.arange(5) << 32), 1)
        x, y, known = (torch.from_numpy(np.asarray(part, np.float32)) for part in (images / 127.5 - 1, *label))
        if channels == 4:  # as in training, D does not see hidden colours
            x[:, :3] *= (x[:, 3:] + 1) / 2
        with torch.no_grad():
            assert found.candidates[row] == chooser.discriminator(x, y, known).argmax()
        assert np.array_equal(found.images[row], images[found.candidates[row]])


def test_images_that_are_never_accepted_are_given_up(sampler: Sampler) -> None:
    chooser = choice(sampler, 0.05, most_draws=7)
    found = chooser.choose(sampler.labels_for(PHRASE, 40), 0, chooser.calibrate(PHRASE))
    assert 0 < len(found.rows) < 40 and len(found.images) == len(found.rows) == len(found.candidates)
    assert found.tries.max() == 7 and found.candidates.max() < 7
    nothing = dataclasses.replace(chooser, verifier=PickyVerifier(sampler, 0.0))  # type: ignore[arg-type]
    empty = nothing.choose(sampler.labels_for(PHRASE, 3), 0, nothing.calibrate(PHRASE))
    assert empty.images.shape == (0, 3, 8, 8) and empty.tries.tolist() == [7] * 3


# ---------------------------------------------------------------- the command


def receipt_of(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    assert self_hash.is_intact(content)
    return content


def test_command_writes_a_receipt_that_names_what_was_drawn(
    run: Path, tmp_path: Path, picky: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    picky(0.3)
    out = tmp_path / "blue.png"
    words = [str(run), PHRASE, "red hair", "--verified", "--count", "9", "--seed", "2", "--best-of", "2"]
    command.main([*words, "--out", str(out)])
    content = receipt_of(path_of(out))
    assert content["image"] == {"name": "blue.png", "sha256": hashlib.sha256(out.read_bytes()).hexdigest()}
    assert content["generator"]["weights"] == weights_hash(load(run, device="cpu").generator)
    first, second = content["phrases"]
    assert first["words"] == ["blue hair", "hat"] and second["words"] == ["red hair"]
    assert first["kept"] == 9 and first["drawn"] > 9 and first["numbers"] == list(range(9)) and not first["missing"]
    assert first["acceptance_rate"] == round(9 / first["drawn"], 4) and first["certainty"] == [0.95] * 9
    assert (content["seed"], content["best_of"], content["promise"], first["threshold"]) == (2, 2, 0.9, 0.9)
    assert str(tmp_path) not in path_of(out).read_text() and str(run) not in path_of(out).read_text()
    printed = capsys.readouterr().out
    assert f"{PHRASE!r}: drew {first['drawn']}, the judge accepted 9, 0.9 certain or more" in printed

    again = tmp_path / "again" / "blue.png"
    command.main([*words, "--out", str(again)])
    assert again.read_bytes() == out.read_bytes() and path_of(again).read_bytes() == path_of(out).read_bytes()
    drawings = trainer.sample(run, PHRASE, count=9, seed=2, best_of=2, verified=True)
    assert drawings.receipt["phrases"] == [first] and len(drawings.images) == 9 and not drawings.missing


def test_what_is_never_accepted_is_said_and_the_rest_is_written(
    run: Path, tmp_path: Path, picky: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    picky(0.1)
    words = [str(run), PHRASE, "--verified", "--count", "12", "--most-draws", "5"]
    with raises("never-accepted", "of 12", "5 tries", "the others were written", kind=Failure):
        command.main([*words, "--out", str(tmp_path / "some.png")])
    (entry,) = receipt_of(tmp_path / "some.receipt.json")["phrases"]
    assert entry["missing"] and sorted(entry["numbers"] + entry["missing"]) == list(range(12))
    sheet = np.asarray(Image.open(tmp_path / "some.png"))
    side = (sheet.shape[0] - 16 - 2) // 2
    for number in range(12):
        row, column = divmod(number, 8)
        y, x = 8 + row * (side + 2), 8 + column * (side + 2)
        assert (sheet[y : y + side, x : x + side].min() == 255) == (number in entry["missing"]), number

    with raises("never-accepted", kind=Failure):
        command.main([*words, "--out", f"{tmp_path}/folder/"])
    names = sorted(int(path.stem) for path in (tmp_path / "folder").glob("*.png"))
    table = (tmp_path / "folder" / "tags.csv").read_text().splitlines()
    assert names == entry["numbers"] and [int(line.split(",")[0]) for line in table[1:]] == names
    assert receipt_of(tmp_path / "folder" / "receipt.json")["phrases"] == [entry]

    picky(0.0)
    for out in ("none.png", "none/"):
        with raises("never-accepted", "12 of 12", "nothing was written", kind=Failure):
            command.main([*words, "--out", f"{tmp_path}/{out}"])
    assert not [path for path in tmp_path.iterdir() if "none" in path.name]
    assert "from the checkpoint" not in capsys.readouterr().out.splitlines()[-1]


def test_receipt_of_replaced_drawings_is_removed_and_another_file_is_not(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    command.main([str(run), "blue hair", "--best-of", "3", "--count", "2", "--out", str(out)])
    content = receipt_of(path_of(out))
    assert content["discriminator"] and "judge" not in content and "threshold" not in content["phrases"][0]
    command.main([str(run), "blue hair", "--count", "2", "--out", str(out)])
    assert not path_of(out).exists(), "it was of other drawings"
    for other in ('{"mine": 1}', "[1]", "no json"):
        path_of(out).write_text(other)
        command.main([str(run), "blue hair", "--count", "2", "--out", str(out)])
        drawn = out.read_bytes()
        with raises("output-exists", path_of(out), "no receipt"):
            command.main([str(run), "red hair", "--best-of", "3", "--count", "2", "--out", str(out)])
        assert path_of(out).read_text() == other and out.read_bytes() == drawn


def test_images_go_into_the_folder_that_is_meant(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "above" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    with raises("output-exists", here.parent, "not empty"):
        command.main([str(run), "blue hair", "--count", "2", "--out", ".."])
    command.main([str(run), "blue hair", "--count", "2", "--out", "."])
    assert sorted(path.name for path in here.iterdir()) == ["000000.png", "000001.png", "tags.csv"]
    assert [path.name for path in here.parent.iterdir()] == ["here"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--most-draws", "99999999"], "invalid-value"),
        (["--best-of", "2", "--checkpoint", "128"], "discriminator-missing"),
        (["--out", "folder.png"], "output-exists"),
    ],
)
def test_mistakes_are_told_before_judges_are_trained(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr(Verifier, "open", lambda *_, **__: pytest.fail("judges are trained"))
    with raises(code):
        command.main([str(run), "blue hair", "--verified", "--out", "x.png", *words])
    if code == "discriminator-missing":
        with raises(code):
            trainer.sample(run, "blue hair", verified=True, best_of=2, checkpoint=128)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--promise", "0.8"], "option-conflict", ["--promise", "--verified"]),
        (["--most-draws", "8"], "option-conflict", ["--most-draws", "--verified"]),
        (["--shards", "data"], "option-conflict", ["--shards", "--verified"]),
        (["--verified", "--promise", "1"], "invalid-value", ["--promise", "0.99"]),
        (["--verified", "--promise", "nan"], "invalid-value", ["--promise"]),
        (["--verified", "--most-draws", "0"], "invalid-value", ["--most-draws"]),
        (["--best-of", "0"], "invalid-value", ["--best-of"]),
        (["--seed", str(2**63)], "invalid-value", ["--seed"]),
        (["--verified", "--shards", "nowhere"], "dataset-missing", ["nowhere"]),
        (["--best-of", "2", "--checkpoint", "128"], "discriminator-missing", ["--best-of 2", "give the run"]),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_written(
    run: Path, tmp_path: Path, words: list[str], code: str, named: list[str]
) -> None:
    with raises(code, *named):
        command.main([str(run), "blue hair", "--out", str(tmp_path / "x.png"), *words])
    assert not list(tmp_path.iterdir())


def test_python_names_the_same_mistakes(run: Path) -> None:
    for options in (
        {"promise": 0.2},
        {"best_of": 0},
        {"most_draws": 0},
        {"count": 0},
        {"seed": 2**64},
        {"promise": float("nan")},
    ):
        with raises("invalid-value", next(iter(options)).replace("_", "-")):
            trainer.sample(run, "blue hair", **options)  # type: ignore[arg-type]
    with raises("unknown-word", "purple"):
        trainer.sample(run, "purple hair")


def test_export_has_no_discriminator_and_no_images(run: Path, tmp_path: Path) -> None:
    from trainer.export.command import main as export

    export([str(run), str(tmp_path / "out")])
    with raises("discriminator-missing", "--best-of 2", tmp_path / "out"):
        trainer.sample(tmp_path / "out", "blue hair", best_of=2)
    with raises("dataset-missing", "--shards", tmp_path / "out"):
        trainer.sample(tmp_path / "out", "blue hair", verified=True)


def test_plain_drawings_need_no_judge(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "judge_of", None)
    command.main([str(run), PHRASE, "--count", "3", "--out", f"{tmp_path}/plain/"])
    expected = load(run, device="cpu").sample(PHRASE, 3)
    for number, image in enumerate(expected):
        assert np.array_equal(
            np.asarray(Image.open(tmp_path / "plain" / f"{number:06d}.png")), image.transpose(1, 2, 0)
        )
    assert not (tmp_path / "plain" / "receipt.json").exists()
