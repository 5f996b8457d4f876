"""What the children of the server do on the fake GPU. Arguments and results are values of JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from support.fake_cuda.careless import CHANGES, changed
from support.fake_cuda.ranks import first_of_two
from support.fake_cuda.training import WIDTHS, Training
from support.fake_cuda.whole_run import run

import torch  # isort: skip - after the rig

from shards.dataset.image_shape import ImageShape
from shards.dataset.label_rows import Labels
from trainer.evaluation.judge import classifier
from trainer.evaluation.metrics.feature_extractors import efficientnet_lite
from trainer.generation.generate import generate_images
from trainer.generation.sharded import generate_and_measure
from trainer.noise import normal
from trainer.run.async_checkpoint import Snapshot


def costs(words: str, shape: int | Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return what each kind of step costs, by its name; ``shape``: see `Training`."""
    training = Training(words, shape)
    found = {}
    for kind, number in training.kinds.items():
        with training.measured() as cost:
            training.step(number)
        found[kind] = dataclasses.asdict(cost)
    return found


def one_of_two(words: str, size: int) -> dict[str, dict[str, Any]]:
    """Return what each kind of step costs rank 0 of two, by its name, and its collectives, by what they reduce."""
    with first_of_two() as seen:
        training = Training(words, size)
        found = {}
        for kind, number in training.kinds.items():
            seen.clear()
            with training.measured() as cost:
                training.step(number)
            found[kind] = dataclasses.asdict(cost) | {"collectives": dict(seen)}
        with training.measured() as cost:
            training.env.sum_to_floats(training.step(0).metrics)
        found["log"] = dataclasses.asdict(cost)
        return found


def train(words: str, size: int) -> dict[str, dict[str, Any]]:
    """Return what each kind of step costs, a save's copies of all tensors, and a grid; check where the tensors are."""
    training = Training(words, size)
    state, found = training.state, {}
    for kind, number in training.kinds.items():
        with training.measured() as cost:
            result = training.step(number)
        assert {value.device.type for value in result.metrics.values()} == {"cuda"}, result.metrics
        found[kind] = dataclasses.asdict(cost)
    for player in (state.g, state.d):
        for name, weight in player.module.named_parameters():
            assert weight.is_cuda and weight.dtype == torch.float32, name
            for moment in ("exp_avg", "exp_avg_sq"):
                assert player.optimizer.state[weight][moment].stride() == weight.stride(), name
    with training.measured() as cost:
        state.gather_on_rank0()
        snapshot = Snapshot()
        tensors = state.tensors()
        snapshot.take(tensors)
    copies = snapshot.get()
    for file, held in tensors.items():
        for name, tensor in held.items():
            copy = copies[file][name]
            assert copy.device.type == "cpu" and copy.stride() == tensor.stride() and copy.dtype == tensor.dtype, name
    found["save"] = dataclasses.asdict(cost)
    with training.measured() as cost:
        images = generate(training, 130)
    assert images.shape == (130, 3, size, size) and images.dtype == np.uint8
    found["grid"] = dataclasses.asdict(cost)
    return found


def generate(training: Training, count: int) -> np.ndarray:
    """Return images of the averaged generator, as grids and samples have them."""
    labels = Labels(np.zeros((count, sum(WIDTHS)), np.float32), np.ones((count, len(WIDTHS)), np.float32))
    positions = torch.arange(count, device=training.env.device)
    z = normal(0, "noise of a test", positions, training.config.network.noise_size)
    return generate_images(training.state.ema.module, z, labels)


def whole_run(words: str) -> dict[str, Any]:
    """Return the waits and copies of a whole run of the trainer."""
    meter = run(words)
    return {"waits": dict(meter.waits), "copies": dict(meter.copies)}


def evaluate(words: str, size: int) -> dict[str, list[int]]:
    """Return the shapes of what the networks of an evaluation measure in generated images, on the GPU."""
    training = Training(words, size)
    env, network = training.env, training.config.network
    judges = {
        name: architecture(ImageShape.of(size), sum(WIDTHS)).to(env.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, architecture in classifier.ARCHITECTURES.items()
    }
    extractor = efficientnet_lite(0, env.device)
    labels = Labels(np.zeros((130, sum(WIDTHS)), np.float32), np.ones((130, len(WIDTHS)), np.float32))

    def measure(images: np.ndarray) -> tuple[np.ndarray, ...]:
        by_judge = (
            find(judge, images) for judge in judges.values() for find in (classifier.features, classifier.logits)
        )
        return extractor(images), *by_judge

    generator = training.state.ema.module
    measured = generate_and_measure(env, generator, network.noise_size, labels, 0, "noise of a test", measure)
    names = ["extractor", *(f"{name} judge's {found}" for name in judges for found in ("features", "logits"))]
    return {name: list(found.shape) for name, found in zip(names, measured, strict=True)}


# ---------------------------------------------------------------- negative controls


def careless(words: str, size: int) -> dict[str, dict[str, Any] | str]:
    """Return what a step costs with each of the careless changes, or the error that it raises."""
    training = Training(words, size)
    found: dict[str, dict[str, Any] | str] = {}
    for change in CHANGES:
        try:
            with changed(training, change), training.measured() as cost:
                training.step(3)
            found[change] = dataclasses.asdict(cost)
        except RuntimeError as error:
            found[change] = f"{type(error).__name__}: {error}"
    return found


# ---------------------------------------------------------------- the checks for real GPUs


def gpu_check(name: str) -> tuple[str, str]:
    """Return the verdict and the words of a check of `benchmarks/gpu_check`."""
    from support.fake_cuda.gpu_check import run_check

    return run_check(name)
