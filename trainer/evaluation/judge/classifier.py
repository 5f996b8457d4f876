"""A small convolutional classifier of all attributes at once, and how it learns: one minute on two cores.

An exclusive attribute is a softmax over its values, a tag a logistic regression; what is unknown of a picture teaches
nothing. Rare values weigh more, by the square root of how much rarer they are. Pictures are shifted by a sixteenth of
their side, which changes no label; colours and left and right stay, as labels may speak of them.
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
from shards.dataset.schema import Schema
from trainer.evaluation.judge.data import Pictures
from trainer.evaluation.metrics.fidelity import judgeable

FEATURES = 128
_BATCH = 64
_PRESENTED = 50_000  # pictures shown in all, where a few passes over them are enough
_PASSES = 4, 60  # the fewest and the most
_RATE = 4e-3
_CHUNK = 256
_WIDEST = 128  # channels
_HEAVIEST = 10.0  # times the weight of a common value


class Classifier(nn.Module):
    """uint8 (B, 3, s, s) -> logits (B, L), by way of features (B, 128)."""

    def __init__(self, side: int, outputs: int) -> None:
        super().__init__()
        stride = 2 if side > 40 else 1
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, stride, padding=1), nn.ReLU()]
        channels, side = 32, -(-side // stride)
        while side > 4:
            wider = min(2 * channels, _WIDEST)
            layers += [nn.Conv2d(channels, wider, 3, 2, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            channels, side = wider, -(-side // 2)
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, outputs)

    def features(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, s, s) -> (B, 128), none below 0."""
        pictures = images.to(self.head.weight.dtype) / 127.5 - 1
        return self.trunk(pictures.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, s, s) -> (B, L)."""
        return self.head(self.features(images))


def learn(
    schema: Schema,
    pictures: Pictures,
    tune: Pictures,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> Classifier:
    """A classifier trained on ``pictures``, as it was when ``tune`` surprised it least.

    Args:
        progress: told how many pictures were shown, and of how many.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.key(seed, "initial weights of the judge"))
        net = Classifier(pictures.images.shape[-1], schema.width)
    net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = Loss(schema, pictures, device)
    count, batch = len(pictures), min(_BATCH, len(pictures))
    passes = min(max(_PRESENTED // count, _PASSES[0]), _PASSES[1])
    steps = -(-count // batch)
    optimizer = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=passes * steps, pct_start=0.2)
    best, least, waited = copy.deepcopy(net.state_dict()), math.inf, 0
    base = rng.key(seed, "what the judge sees")
    for number in range(passes):
        net.train()
        for step in range(number * steps, (number + 1) * steps):
            place = np.arange(step * batch, (step + 1) * batch)
            rows = permute(rng.bits(base, place // count), count, place % count)
            images = _shifted(torch.from_numpy(pictures.images[rows]).to(device), seed, place)
            optimizer.zero_grad(set_to_none=True)
            loss(net(images), pictures.label[rows], pictures.known[rows]).backward()
            optimizer.step()
            schedule.step()
            progress((step + 1) * batch, passes * steps * batch)
        surprise = loss.of(logits(net, tune.images), tune)
        waited = 0 if surprise < least else waited + 1
        if surprise < least:
            best, least = copy.deepcopy(net.state_dict()), surprise
        if waited > max(3, passes // 4):
            break
    net.load_state_dict(best)
    return net.eval()


@torch.inference_mode()
def logits(net: Classifier, images: np.ndarray) -> np.ndarray:
    """uint8 (N, 3, s, s) -> float32 (N, L), a few at a time, without learning from them."""
    return _in_pieces(net.eval(), net, images, net.head.out_features)


@torch.inference_mode()
def features(net: Classifier, images: np.ndarray) -> np.ndarray:
    """uint8 (N, 3, s, s) -> float32 (N, 128): what the classifier's last layer sees."""
    return _in_pieces(net.eval(), net.features, images, FEATURES)


def _in_pieces(net: Classifier, run: Callable[[Tensor], Tensor], images: np.ndarray, width: int) -> np.ndarray:
    device = net.head.weight.device
    found = np.empty((len(images), width), np.float32)
    for start in range(0, len(images), _CHUNK):
        piece = torch.from_numpy(np.ascontiguousarray(images[start : start + _CHUNK])).to(device)
        found[start : start + _CHUNK] = run(piece).cpu().numpy()
    return found


def _shifted(images: Tensor, seed: int, positions: np.ndarray) -> Tensor:
    """Each picture moved by up to a sixteenth of its side, its edge repeated."""
    side = images.shape[-1]
    most = max(1, side // 16)
    draws = rng.bits(rng.key(seed, "shifts for the judge"), positions[:, None], np.arange(2))
    by = torch.from_numpy(rng.below(2 * most + 1, draws) - most).to(images.device)
    at = (torch.arange(side, device=images.device) + by[..., None]).clamp(0, side - 1)  # (B, 2, s)
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    return images[sample, :, at[:, 0, :, None], at[:, 1, None, :]].permute(0, 3, 1, 2)


class Loss:
    """Cross-entropy of what is known: the mean over attributes of the weighted mean over pictures."""

    def __init__(self, schema: Schema, pictures: Pictures, device: torch.device) -> None:
        starts = schema.starts.tolist()
        parts = [(a, slice(starts[a], starts[a] + schema.attributes[a].width)) for a in judgeable(schema)]
        tags = [part for part in parts if schema.attributes[part[0]].kind == "tag"]
        self.device, self.count = device, len(parts)
        self.exclusive = [(*part, self._weights(pictures, *part, False)) for part in parts if part not in tags]
        # There may be thousands of tags: they are taken together.
        self.tags = torch.tensor([a for a, _ in tags], dtype=torch.int64, device=device)
        self.entries = torch.tensor([entries.start for _, entries in tags], dtype=torch.int64, device=device)
        weights = [self._weights(pictures, *part, True) for part in tags]
        self.absent, self.present = torch.stack(weights).T if weights else torch.zeros(2, 0, device=device)

    def _weights(self, pictures: Pictures, attribute: int, entries: slice, tag: bool) -> Tensor:
        """One weight a value (for a tag: absent, present)."""
        label = pictures.label[pictures.known[:, attribute], entries]
        counts = np.array([len(label) - label.sum(), label.sum()]) if tag else label.sum(0)
        weights = np.minimum(np.sqrt(counts.max(initial=1) / np.maximum(counts, 1)), _HEAVIEST)
        return torch.from_numpy(weights.astype(np.float32)).to(self.device)

    def __call__(self, logits: Tensor, label: np.ndarray, known: np.ndarray) -> Tensor:
        """A scalar; 0 where nothing is known.

        Args:
            logits: (B, L) on the device.
            label, known: (B, L) and (B, A).
        """
        target, told = (torch.from_numpy(np.asarray(part, np.float32)).to(self.device) for part in (label, known))
        total = logits.sum() * 0
        for attribute, entries, weights in self.exclusive:
            wanted = target[:, entries]
            each = -(F.log_softmax(logits[:, entries], 1) * wanted).sum(1)
            weight = wanted @ weights * told[:, attribute]
            total = total + (each * weight).sum() / weight.sum().clamp(min=1e-6)
        if len(self.tags):
            wanted = target[:, self.entries]
            each = F.binary_cross_entropy_with_logits(logits[:, self.entries], wanted, reduction="none")
            weight = torch.lerp(self.absent, self.present, wanted) * told[:, self.tags]
            total = total + ((each * weight).sum(0) / weight.sum(0).clamp(min=1e-6)).sum()
        return total / self.count

    def of(self, logits: np.ndarray, pictures: Pictures) -> float:
        """The loss of logits (N, L) that are there."""
        return float(self(torch.from_numpy(logits).to(self.device), pictures.label, pictures.known))
