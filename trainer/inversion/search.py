"""Find the noise, and what is open of a label, with which a generator draws an image.

Many random drawings, of which the nearest are improved by gradient descent in the noise (Zhu et al. 2016, arXiv
1609.03552, section 3.1; Lipton & Tripathi 2017, arXiv 1702.04782), with the learning rate of StyleGAN2's projection
(Karras et al. 2020, arXiv 1912.04958, appendix D). The label is not part of the descent, for its words are whole: in
between, each open attribute takes the value that draws the image best.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from shards.dataset.label_rows import Labels
from trainer.augment.pixels import weigh_by_alpha
from trainer.generation.generate import generate_images
from trainer.inversion.features import FeatureDistance
from trainer.inversion.labels import Candidates
from trainer.inversion.target import psnr, to_tensor
from trainer.noise import normal

_CHUNK = 64  # random drawings compared at once
_RATE = 0.1  # the highest learning rate
_RISE, _FALL = 0.05, 0.5  # parts of the steps in which the learning rate rises from 0, and falls to 0
_RELABEL_AT = (0.15, 0.4)  # parts of the steps after which open attributes are chosen again
_MARGIN = 0.05  # part by which the error of a value that contradicts the reading counts as higher
_FEATURES = 0.1  # weight of the feature distance, next to the mean squared error of pixels in [-1, 1]
_PRIOR = 0.1  # weight of leaving the lengths of noise
_TYPICAL = 2.0  # standard deviations of |z|² / n around 1, the lengths that cost nothing


@dataclass(frozen=True)
class Settings:
    """How long to search.

    Attributes:
        steps: of gradient descent.
        restarts: drawings that are improved, at once.
        draws: random drawings that they are chosen from.
        seed: determines all noise.
        deadline: `time.monotonic` at which the search ends early; None: never.
    """

    steps: int
    restarts: int
    draws: int
    seed: int
    deadline: float | None = None

    def is_over(self) -> bool:
        """Return whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline


@dataclass(frozen=True)
class Inversion:
    """The noise and label that draw an image.

    Attributes:
        z: float32 (noise_size,), on the CPU.
        label: one row.
        image: the drawing, uint8 (C, H, W).
        psnr: of the drawing, in dB.
        feature_distance: of the drawing; None without a network.
        nearest_psnr: PSNR of the random drawing that is nearest in pixels.
        steps: how many were taken; fewer than the settings say if the deadline ended the search.
        draws: random drawings that were compared.
    """

    z: Tensor
    label: Labels
    image: np.ndarray
    psnr: float
    feature_distance: float | None
    nearest_psnr: float
    steps: int
    draws: int


def invert(
    generator: nn.Module,
    target: np.ndarray,
    candidates: Candidates,
    features: FeatureDistance | None,
    noise_size: int,
    settings: Settings,
    advance: Callable[[int], object] = lambda steps: None,
) -> Inversion:
    """Find noise and label with which a generator draws an image.

    Repeats bit for bit on one kind of CPU with one number of threads, unless the deadline ends it.

    Args:
        generator: in eval mode, its weights without gradients.
        target: uint8 (C, H, W).
        candidates: labels that the image may have.
        features: a further distance, or None.
        noise_size: length of z.
        settings: how long to search.
        advance: called with each number of steps taken.
    """
    device = next(generator.parameters()).device
    wanted = to_tensor(target[None], device)
    search = _Search(generator, wanted, features.to(wanted) if features is not None else None, candidates, settings)
    z, labels, nearest, drawn = search.best_draws(noise_size)
    z, labels, losses, steps = search.descend(z, labels, advance)
    best = int(losses.argmin())
    z, labels = z[best : best + 1], _rows(labels, [best])
    image = generate_images(generator, z, labels)
    with torch.no_grad():
        apart = None if search.features is None else float(search.features(to_tensor(image, device)))
    return Inversion(z[0].cpu(), labels, image[0], psnr(image[0], target), apart, nearest, steps, drawn)


@dataclass(frozen=True)
class _Search:
    """The search for one image.

    Attributes:
        generator: in eval mode.
        wanted: the image, float32 (1, C, H, W) in [-1, 1].
        features: a further distance to it, images (N, C, H, W) -> (N,); None: pixels alone.
        candidates: labels that the image may have.
        settings: how long to search.
    """

    generator: nn.Module
    wanted: Tensor
    features: Callable[[Tensor], Tensor] | None
    candidates: Candidates
    settings: Settings

    def draw(self, z: Tensor, labels: Labels) -> Tensor:
        """Return images (N, C, H, W) of noise (N, noise_size) and N labels."""
        return self.generator(z, *_tensors(labels, z.device))

    def distance(self, x: Tensor) -> Tensor:
        """Return the distances (N,) of images (N, C, H, W) to the image."""
        pixels = _pixel_distance(x, self.wanted)
        return pixels if self.features is None else pixels + _FEATURES * self.features(x.clamp(-1, 1))

    @torch.no_grad()
    def best_draws(self, noise_size: int) -> tuple[Tensor, Labels, float, int]:
        """Compare random drawings, of which a deadline leaves some.

        Returns:
            Noise (restarts or fewer, noise_size) and labels of the nearest, the PSNR of the nearest, and how many there
            were.
        """
        settings = self.settings
        labels = self.candidates.draw(settings.draws, settings.seed)
        positions = torch.arange(settings.draws, device=self.wanted.device)
        z = normal(settings.seed, "noise to invert", positions, noise_size)
        losses, errors = [], []
        for rows in positions.split(_CHUNK):
            x = self.draw(z[rows], _rows(labels, rows.tolist()))
            losses.append(self.distance(x))
            errors.append(_pixel_distance(x.clamp(-1, 1), self.wanted))
            if settings.is_over():
                break
        found = torch.cat(losses)
        chosen = found.argsort(stable=True)
        if self.candidates.read.any():  # in every other draw; it may be wrong, so half of the restarts begin without it
            half = settings.restarts // 2
            as_read, free = (chosen[chosen % 2 == odd] for odd in (0, 1))
            chosen = torch.cat([as_read[: settings.restarts - half], free[:half]])
        chosen = chosen[: settings.restarts]
        nearest = -10 * math.log10(max(1e-12, float(torch.cat(errors).min()) / 4))
        return z[chosen], _rows(labels, chosen.tolist()), nearest, len(found)

    def descend(
        self, z: Tensor, labels: Labels, advance: Callable[[int], object]
    ) -> tuple[Tensor, Labels, Tensor, int]:
        """Improve all restarts at once; return each one's best noise, label and loss (restarts,), and the steps."""
        settings = self.settings
        z = z.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([z], lr=_RATE)
        relabel_after = {round(part * settings.steps) for part in _RELABEL_AT} if self.candidates.open else set()
        best_z, best_labels = z.detach().clone(), labels
        lowest = torch.full((len(z),), math.inf, device=z.device)
        taken = 0
        while True:
            if taken in relabel_after:
                labels = self.relabelled(z.detach(), labels)
            losses = self.distance(self.draw(z, labels)) + _PRIOR * _prior(z)
            better = losses.detach() < lowest
            lowest = torch.where(better, losses.detach(), lowest)
            best_z = torch.where(better[:, None], z.detach(), best_z)
            pairs = zip(labels, best_labels, strict=True)
            best_labels = Labels(*(np.where(better.cpu().numpy()[:, None], new, old) for new, old in pairs))
            if taken == settings.steps or settings.is_over():
                return best_z, best_labels, lowest, taken
            taken += 1
            for group in optimizer.param_groups:
                group["lr"] = _RATE * _annealed(taken / settings.steps)
            optimizer.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimizer.step()
            advance(1)

    @torch.no_grad()
    def relabelled(self, z: Tensor, labels: Labels) -> Labels:
        """Return each restart's label with the values of open attributes that draw the image best, one after the other.

        A value that contradicts what was read must draw it better by a margin. The deadline ends it between two
        attributes.
        """
        for attribute in self.candidates.open:
            if self.settings.is_over():
                break
            choices = [labels, *self.candidates.choices(labels, attribute)]
            found = torch.stack([self.distance(self.draw(z, choice)) for choice in choices])
            doubtful = np.stack([self.candidates.contradicts(choice, attribute) for choice in choices])
            best = (found * (1 + _MARGIN * torch.from_numpy(doubtful).to(found))).argmin(0).tolist()
            labels = Labels(
                np.stack([choices[choice].label[row] for row, choice in enumerate(best)]),
                np.stack([choices[choice].known[row] for row, choice in enumerate(best)]),
            )
        return labels


def _pixel_distance(x: Tensor, wanted: Tensor) -> Tensor:
    """Return mean squared errors (N,) of images as they are shown.

    What lies beyond black or white costs nothing, nor does the colour of transparent pixels.
    """
    error = weigh_by_alpha(x) - weigh_by_alpha(wanted)
    hidden = ((x > 1) & (wanted >= 1)) | ((x < -1) & (wanted <= -1))
    return error.masked_fill(hidden, 0).square().flatten(1).mean(1)


def _prior(z: Tensor) -> Tensor:
    """Return (N,) what noise (N, n) costs whose length is unlike that of normal noise.

    |z|² / n has mean 1 and variance 2 / n; what lies beyond some standard deviations is squared.
    """
    free = _TYPICAL * math.sqrt(2 / z.shape[1])
    return ((z.square().mean(1) - 1).abs() - free).clamp(min=0).square()


def _tensors(labels: Labels, device: torch.device) -> tuple[Tensor, Tensor]:
    return tuple(torch.from_numpy(np.ascontiguousarray(part, np.float32)).to(device) for part in labels)  # type: ignore[return-value]


def _rows(labels: Labels, rows: list[int]) -> Labels:
    return Labels(labels.label[rows], labels.known[rows])


def _annealed(done: float) -> float:
    """Return the factor of the learning rate after a part of the steps: a linear rise, and a cosine's fall."""
    fall = min(1.0, (1 - done) / _FALL)
    return (0.5 - 0.5 * math.cos(math.pi * fall)) * min(1.0, done / _RISE)
