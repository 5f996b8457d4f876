"""Load a trained generator with its vocabulary and generate images from phrases or labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from shards.dataset.label_rows import Labels
from shards.dataset.schema import Schema
from trainer.distributed.device import choose
from trainer.generation import image_grid
from trainer.generation.generate import FEW, PASS, generate_images
from trainer.generation.prompts import Vocabulary, read_vocabulary
from trainer.models import load_generator
from trainer.noise import normal
from trainer.run import exported, hub
from trainer.run.checkpoint import Checkpoint
from trainer.run.exported import ExportedGenerator


@dataclass(frozen=True)
class Sampler:
    """A trained generator with its vocabulary; made by `load`.

    Attributes:
        generator: the averaged generator, in eval mode.
        vocabulary: turns phrases into labels.
        noise_size: length of the noise vector.
        device: where the generator is.
        saved: the checkpoint or the export that it was loaded from.
    """

    generator: nn.Module
    vocabulary: Vocabulary
    noise_size: int
    device: torch.device
    saved: Checkpoint

    @property
    def schema(self) -> Schema:
        """The label schema of the run."""
        return self.vocabulary.schema

    def sample(self, phrase: str, count: int = 16, seed: int = 0) -> np.ndarray:
        """Generate images of ``phrase``; the same seed gives the same pixels as `cgan sample`.

        Args:
            phrase: such as "blue hair, long hair", or "anything"; see `Vocabulary.labels_for`.
            count: number of images.
            seed: determines the noise and the attributes that the phrase does not name.

        Returns:
            uint8 (count, C, H, W).

        Raises:
            UserError: the phrase cannot be read.
        """
        return self.generate(self.labels_for(phrase, count, seed), seed)

    def grid(self, phrases: str | Sequence[str], count: int = 8, seed: int = 0) -> Image.Image:
        """Generate a titled grid: one row of ``count`` images per phrase.

        Raises:
            UserError: a phrase cannot be read.
        """
        phrases = [phrases] if isinstance(phrases, str) else list(phrases)
        images = np.concatenate([self.sample(phrase, count, seed) for phrase in phrases])
        return image_grid.grid(images, count, row_titles=phrases)

    def labels_for(self, phrase: str, count: int, seed: int = 0) -> Labels:
        """Return ``count`` labels of ``phrase``; the other attributes are sampled jointly from the dataset's labels.

        Raises:
            UserError: the phrase cannot be read (see `Vocabulary.labels_for`).
        """
        return self.vocabulary.labels_for(phrase, count, seed)

    def generate(self, labels: Labels, seed: int = 0, start: int = 0) -> np.ndarray:
        """Generate one image per label: uint8 (n, C, H, W).

        Image i of a seed, counted from ``start``, has the same noise under any label. Among up to `FEW` images, it also
        has the same pixels, however many are generated.
        """
        per_pass = PASS if len(labels.label) <= FEW else None
        return generate_images(self.generator, self.noise(len(labels.label), seed, start), labels, per_pass)

    def noise(self, count: int, seed: int = 0, start: int = 0) -> Tensor:
        """Return the noise of the images of a seed, counted from ``start``: float32 (count, noise_size)."""
        positions = torch.arange(start, start + count, device=self.device)
        return normal(seed, "noise to sample", positions, self.noise_size)

    def generate_at(self, labels: Labels, positions: np.ndarray, seed: int = 0) -> np.ndarray:
        """Generate one image per label, with the noise of these positions, int64 (n,): uint8 (n, C, H, W).

        An image has the same pixels whichever images are generated with it: those of `generate` of a few images.
        """
        z = normal(seed, "noise to sample", torch.from_numpy(positions).to(self.device), self.noise_size)
        return generate_images(self.generator, z, labels, PASS)


def load(
    run: str | Path,
    checkpoint: str | int | None = None,
    device: str = "auto",
    text_encoder: str | None = None,
) -> Sampler:
    """Load the averaged generator of a run, or one that `cgan export` wrote.

    Args:
        run: a run directory, the folder of an exported generator, or one at the Hugging Face Hub, "hf://user/name" or
            "hf://user/name@revision", which is fetched into the cache of huggingface_hub.
        checkpoint: "newest" (the default), "best", or the number of images seen of a run's checkpoint.
        device: "auto", "cpu", "cuda" or "mps".
        text_encoder: folder of the text encoder of the captions, if it has moved since the dataset was packed.

    Raises:
        UserError: there is no such run, export or checkpoint, or it is damaged.
        Failure: the Hub does not answer.
    """
    run = hub.located(run)
    selected = choose(device)
    saved = exported.find(run, None if checkpoint is None else str(checkpoint))
    vocabulary = read_vocabulary(run)
    if text_encoder:
        vocabulary = vocabulary.encoded_by(text_encoder)
    generator, architecture = load_generator(saved, selected)
    return Sampler(generator, vocabulary, architecture.noise, selected, saved)


def default_output(sampler: Sampler, run: Path, name: str) -> Path:
    """Return where a command writes if nothing else is said: into the run, or here, for an export stays as it was made.

    Args:
        sampler: what `load` returned for ``run``.
        run: as it was given, which may be an address at the Hub.
        name: of the file or folder.
    """
    return Path(name) if isinstance(sampler.saved, ExportedGenerator) else run / name
