"""A small convolutional classifier of all attributes at once, and its training: one minute on two cores.

An exclusive attribute is a softmax over its values, a tag a logistic regression; unknown attributes do not contribute
to the loss. Rare values are weighted by the square root of how much rarer they are. Images are augmented by shifts of
up to a sixteenth of their side, which change no label; colours and left/right stay, as labels may refer to them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shards.core import rng
from shards.core.permutation import permute
from shards.dataset.image_shape import ImageShape
from shards.dataset.schema import Schema
from trainer.evaluation.judge.data import LabelledImages
from trainer.evaluation.metrics.label_accuracy import judgeable_attributes

FEATURES = 128
_BATCH = 64
_IMAGES_SHOWN = 50_000  # in total, if a few epochs suffice for that
_EPOCHS = 4, 60  # the fewest and the most
_LEARNING_RATE = 4e-3
_CHUNK = 256
_MAX_CHANNELS = 128
_MAX_WEIGHT = 10.0  # of a rare value, relative to a common one


class Classifier(nn.Module):
    """A convolutional network from uint8 (B, C, h, w) to features (B, 128) and logits (B, L)."""

    def __init__(self, shape: ImageShape, outputs: int) -> None:
        super().__init__()
        stride = 2 if shape.size > 40 else 1
        layers: list[nn.Module] = [nn.Conv2d(shape.channels, 32, 3, stride, padding=1), nn.ReLU()]
        channels, height, width = 32, -(-shape.height // stride), -(-shape.width // stride)
        while max(height, width) > 4:
            wider = min(2 * channels, _MAX_CHANNELS)
            layers += [nn.Conv2d(channels, wider, 3, 2, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            channels, height, width = wider, -(-height // 2), -(-width // 2)
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, outputs)

    def features(self, images: Tensor) -> Tensor:
        """Return features (B, 128), not negative, of images uint8 (B, C, h, w)."""
        scaled = images.to(self.head.weight.dtype) / 127.5 - 1
        return self.trunk(scaled.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, L) of images uint8 (B, C, h, w)."""
        return self.head(self.features(images))


class PooledClassifier(Classifier):
    """A classifier that shares no structure with `Classifier`, to confirm it.

    Residual blocks between average pooling, group normalisation, and the mean and the maximum over the last feature map
    instead of strides, batch normalisation, and every position by itself.
    """

    def __init__(self, shape: ImageShape, outputs: int) -> None:
        super().__init__(ImageShape(3, 4, 4), outputs)
        stride = 2 if shape.size > 40 else 1
        layers: list[nn.Module] = [nn.Conv2d(shape.channels, 32, 5, stride, padding=2), nn.SiLU()]
        channels, side = 32, -(-shape.size // stride)
        while side > 4:
            wider = min(2 * channels, _MAX_CHANNELS)
            layers += [nn.AvgPool2d(2, ceil_mode=True), _Residual(channels, wider)]
            channels, side = wider, -(-side // 2)
        self.trunk = nn.Sequential(*layers, _MeanAndMaximum(), nn.Linear(2 * channels, FEATURES), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(8, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.conv(F.silu(self.norm(x)))


class _MeanAndMaximum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


ARCHITECTURES: dict[str, type[Classifier]] = {"strided": Classifier, "pooled": PooledClassifier}


def train_classifier(
    schema: Schema,
    images: LabelledImages,
    tune: LabelledImages,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None],
    architecture: type[Classifier] = Classifier,
) -> Classifier:
    """Train a classifier, and return it as it was when its loss on ``tune`` was lowest.

    Args:
        images: to train on.
        tune: for early stopping.
        seed: determines initial weights, order of images and shifts.
        progress: called with the number of images shown and of images to show.
        architecture: of the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.key(seed, "initial weights of the judge"))
        net = architecture(ImageShape(*images.images.shape[1:]), schema.width)
    net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = Loss(schema, images, device)
    count, batch = len(images), min(_BATCH, len(images))
    epochs = min(max(_IMAGES_SHOWN // count, _EPOCHS[0]), _EPOCHS[1])
    steps = -(-count // batch)
    optimizer = torch.optim.AdamW(net.parameters(), _LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=epochs * steps, pct_start=0.2)
    best, lowest, waited = copy.deepcopy(net.state_dict()), math.inf, 0
    base = rng.key(seed, "what the judge sees")
    for epoch in range(epochs):
        net.train()
        for step in range(epoch * steps, (epoch + 1) * steps):
            positions = np.arange(step * batch, (step + 1) * batch)
            rows = permute(rng.bits(base, positions // count), count, positions % count)
            shifted = _shift(torch.from_numpy(images.images[rows]).to(device), seed, positions)
            optimizer.zero_grad(set_to_none=True)
            loss(net(shifted), images.label[rows], images.known[rows]).backward()
            optimizer.step()
            schedule.step()
            progress((step + 1) * batch, epochs * steps * batch)
        value = loss.of(logits(net, tune.images), tune)
        waited = 0 if value < lowest else waited + 1
        if value < lowest:
            best, lowest = copy.deepcopy(net.state_dict()), value
        if waited > max(3, epochs // 4):
            break
    net.load_state_dict(best)
    return net.eval()


@torch.inference_mode()
def logits(net: Classifier, images: np.ndarray) -> np.ndarray:
    """Return logits float32 (N, L) of images uint8 (N, C, h, w), computed in chunks in eval mode."""
    return _in_chunks(net.eval(), net, images, net.head.out_features)


@torch.inference_mode()
def features(net: Classifier, images: np.ndarray) -> np.ndarray:
    """Return the inputs of the classifier's last layer, float32 (N, 128), of images uint8 (N, C, h, w)."""
    return _in_chunks(net.eval(), net.features, images, FEATURES)


def _in_chunks(net: Classifier, run: Callable[[Tensor], Tensor], images: np.ndarray, width: int) -> np.ndarray:
    device = net.head.weight.device
    found = np.empty((len(images), width), np.float32)
    for start in range(0, len(images), _CHUNK):
        chunk = torch.from_numpy(np.ascontiguousarray(images[start : start + _CHUNK])).to(device)
        found[start : start + _CHUNK] = run(chunk).cpu().numpy()
    return found


def _shift(images: Tensor, seed: int, positions: np.ndarray) -> Tensor:
    """Shift each image by up to a sixteenth of its longer side, repeating its edge."""
    sides = images.shape[2:]
    most = max(1, max(sides) // 16)
    draws = rng.bits(rng.key(seed, "shifts for the judge"), positions[:, None], np.arange(2))
    offset = torch.from_numpy(rng.below(2 * most + 1, draws) - most).to(images.device)
    rows, columns = (
        (torch.arange(side, device=images.device) + offset[:, axis, None]).clamp(0, side - 1)  # (B, side)
        for axis, side in enumerate(sides)
    )
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    return images[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class Loss:
    """Cross-entropy of the known attributes: the mean over attributes of the weighted mean over images."""

    def __init__(self, schema: Schema, images: LabelledImages, device: torch.device) -> None:
        starts = schema.starts.tolist()
        parts = [(a, slice(starts[a], starts[a] + schema.attributes[a].width)) for a in judgeable_attributes(schema)]
        tags = [part for part in parts if schema.attributes[part[0]].kind == "tag"]
        self.device, self.count = device, len(parts)
        self.exclusive = [(*part, self._weights(images, *part, False)) for part in parts if part not in tags]
        # There may be thousands of tags: they are computed together.
        self.tags = torch.tensor([a for a, _ in tags], dtype=torch.int64, device=device)
        self.entries = torch.tensor([entries.start for _, entries in tags], dtype=torch.int64, device=device)
        weights = [self._weights(images, *part, True) for part in tags]
        self.absent, self.present = torch.stack(weights).T if weights else torch.zeros(2, 0, device=device)

    def _weights(self, images: LabelledImages, attribute: int, entries: slice, tag: bool) -> Tensor:
        """Return one weight per value (for a tag: absent, present)."""
        label = images.label[images.known[:, attribute], entries]
        counts = np.array([len(label) - label.sum(), label.sum()]) if tag else label.sum(0)
        weights = np.minimum(np.sqrt(counts.max(initial=1) / np.maximum(counts, 1)), _MAX_WEIGHT)
        return torch.from_numpy(weights.astype(np.float32)).to(self.device)

    def __call__(self, logits: Tensor, label: np.ndarray, known: np.ndarray) -> Tensor:
        """Return the loss, a scalar; 0 if nothing is known.

        Args:
            logits: (B, L) on the device.
            label, known: (B, L), (B, A).
        """
        target, known_mask = (torch.from_numpy(np.asarray(part, np.float32)).to(self.device) for part in (label, known))
        total = logits.sum() * 0
        for attribute, entries, weights in self.exclusive:
            expected = target[:, entries]
            each = -(F.log_softmax(logits[:, entries], 1) * expected).sum(1)
            weight = expected @ weights * known_mask[:, attribute]
            total = total + (each * weight).sum() / weight.sum().clamp(min=1e-6)
        if len(self.tags):
            expected = target[:, self.entries]
            each = F.binary_cross_entropy_with_logits(logits[:, self.entries], expected, reduction="none")
            weight = torch.lerp(self.absent, self.present, expected) * known_mask[:, self.tags]
            total = total + ((each * weight).sum(0) / weight.sum(0).clamp(min=1e-6)).sum()
        return total / self.count

    def of(self, logits: np.ndarray, images: LabelledImages) -> float:
        """Return the loss of logits (N, L) on the CPU."""
        return float(self(torch.from_numpy(logits).to(self.device), images.label, images.known))
