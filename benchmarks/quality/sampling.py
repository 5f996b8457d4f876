"""The time that a leg's generator takes per image."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from other_evaluation import candidate_of

from quality.legs import Leg
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import sample_labels
from trainer.generation.generate import generate_images
from trainer.generation.sampler import load

_IMAGES = 32


def seconds_per_image(leg: Leg, run: Path, data: Path) -> float:
    """Return the processor time per image, in one thread and one batch, after a first batch.

    Args:
        data: a dataset with labels to generate images of.
    """
    if leg.other:
        candidate, _ = candidate_of(run, str(data))
        generator, noise_size = candidate.generator, candidate.noise_size
    else:
        sampler = load(run, device="cpu")
        generator, noise_size = sampler.generator, sampler.noise_size
    dataset = Dataset.open(data)
    labels = sample_labels(dataset.labels, dataset.known, _IMAGES, 0, "labels to time")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generate_images(generator, torch.randn(_IMAGES, noise_size), labels)
        began = time.process_time()
        generate_images(generator, torch.randn(_IMAGES, noise_size), labels)
        return (time.process_time() - began) / _IMAGES
    finally:
        torch.set_num_threads(threads)
