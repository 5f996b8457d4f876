"""Requests share passes of the generator, and no image notices."""

from __future__ import annotations

import dataclasses
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shards.dataset.schema import Attribute
from support.small_runs import write_run
from trainer.generation.generate import FEW, PASS
from trainer.generation.sampler import Sampler, load
from trainer.serving.drawing import DrawingThread
from trainer.serving.metrics import Metrics

HAIR = Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair"))
SIZES = Attribute("sizes", "vector", (), 2)


class LastBits(nn.Module):
    """A generator whose pixels show the last bits of another's, so that no difference of rounding stays hidden."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        return torch.remainder(self.generator(z, label, known) * 1e6, 2) - 1


@pytest.fixture(scope="module", params=["r3gan", "residual"])
def sampler(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sampler:
    run = write_run(tmp_path_factory.mktemp("runs") / "run", [HAIR, SIZES], request.param, size=32)
    loaded = load(run, device="cpu")
    return dataclasses.replace(loaded, generator=LastBits(loaded.generator))


def submit(drawing: DrawingThread, phrase: str, count: int, seed: int = 0) -> Future[np.ndarray]:
    sampler = drawing._sampler
    return drawing.submit(sampler.labels_for(phrase, count, seed), sampler.noise(count, seed))


def test_trap_an_image_has_the_same_pixels_however_many_are_drawn_with_it(sampler: Sampler) -> None:
    """Kernels differ with the shape of a batch, and round differently: with r3gan, some pixels in 64 images."""
    everything = sampler.sample("red hair", FEW)
    for count in (1, 2, 3, PASS, PASS + 1, 31):
        labels = sampler.labels_for("red hair", FEW)
        few = type(labels)(labels.label[:count], labels.known[:count])
        assert np.array_equal(sampler.generate(few), everything[:count]), count


def test_trap_requests_in_one_pass_draw_what_each_draws_alone(sampler: Sampler) -> None:
    metrics = Metrics()
    drawing = DrawingThread(sampler, metrics)
    asked = [(phrase, count, seed) for seed in range(6) for phrase, count in (("red hair", 1), ("blue hair", 3))]
    asked += [("anything", 29, 7), ("green hair", 1, 8)]
    with drawing._changed:  # all wait before the first pass is planned
        futures = [submit(drawing, *words) for words in asked]
    images = [future.result(60) for future in futures]
    drawing.end()
    for words, found in zip(asked, images, strict=True):
        assert np.array_equal(found, sampler.sample(*words)), words
    total = sum(count for _, count, _ in asked)
    assert f"cgan_images_total {total}\n" in metrics.text()
    assert f"cgan_passes_total {-(-total // PASS)}\n" in metrics.text()


def test_cancelled_request_is_not_drawn(sampler: Sampler) -> None:
    metrics = Metrics()
    drawing = DrawingThread(sampler, metrics)
    with drawing._changed:
        futures = [submit(drawing, "anything", 20, seed) for seed in range(3)]
        assert futures[0].cancel() and futures[1].cancel()
    assert np.array_equal(futures[2].result(60), sampler.sample("anything", 20, 2))
    drawing.end()
    assert "cgan_images_total 20\n" in metrics.text()
    with pytest.raises(CancelledError):
        futures[0].result(0)


def test_error_fails_the_requests_of_its_pass_alone(sampler: Sampler) -> None:
    drawing = DrawingThread(sampler, Metrics())
    labels = sampler.labels_for("anything", 2)
    broken = drawing.submit(type(labels)(labels.label[:, :-1], labels.known), sampler.noise(2))
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        broken.result(60)
    assert np.array_equal(drawing.submit(labels, sampler.noise(2)).result(60), sampler.generate(labels))
    assert drawing.is_alive
    drawing.end()
    assert not drawing.is_alive and torch.is_grad_enabled()


class Failing(nn.Module):
    """A generator that raises while it is told to."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator, self.fails, self.passes = generator, True, 0

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        self.passes += 1
        if self.fails:
            raise RuntimeError("out of memory")
        return self.generator(z, label, known)


def test_request_that_fails_in_several_passes_ends_no_thread(sampler: Sampler) -> None:
    failing = Failing(sampler.generator)
    drawing = DrawingThread(dataclasses.replace(sampler, generator=failing), Metrics())
    with drawing._changed:
        futures = [submit(drawing, "anything", PASS + 1, seed) for seed in range(2)]
    for future in futures:
        with pytest.raises(RuntimeError, match="out of memory"):
            future.result(60)
    assert failing.passes == 2, "what is left of a failed request is not drawn"
    failing.fails = False
    assert np.array_equal(submit(drawing, "anything", 2).result(60), sampler.sample("anything", 2))
    drawing.end()


def test_drawing_keeps_its_threads_while_a_text_encoder_has_one(sampler: Sampler) -> None:
    counts, before = [], torch.get_num_threads()
    counted = Failing(sampler.generator)
    counted.fails = False
    counted.register_forward_hook(lambda *_: counts.append(torch.get_num_threads()))
    try:
        torch.set_num_threads(2)
        drawing = DrawingThread(dataclasses.replace(sampler, generator=counted), Metrics())
        torch.set_num_threads(1)
        submit(drawing, "anything", 2).result(60)
        drawing.end()
    finally:
        torch.set_num_threads(before)
    assert counts == [2]


def test_end_finishes_what_was_submitted(sampler: Sampler) -> None:
    drawing = DrawingThread(sampler, Metrics())
    futures = [submit(drawing, "anything", 9, seed) for seed in range(5)]
    drawing.end()
    assert all(len(future.result(0)) == 9 for future in futures)
