"""A small classifier, trained on real pictures, that says whether a picture shows what its label says."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shards.decode import decode
from shards.index import Dataset
from shards.schema import Schema


class Judge:
    """Trained on nine tenths of a data set of exclusive attributes; the rest is for `accuracy_on_real`."""

    def __init__(self, dataset: Dataset, epochs: int = 8) -> None:
        torch.manual_seed(0)
        self.schema: Schema = dataset.schema
        self.labels = torch.from_numpy(np.array(dataset.labels))
        self.images = torch.from_numpy(np.stack([decode(dataset.read(i), dataset.size) for i in range(len(dataset))]))
        self.train = len(dataset) * 9 // 10
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]
        channels, size = 32, dataset.size
        while size > 4:
            wider = min(2 * channels, 128)
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.BatchNorm2d(wider), nn.ReLU()]
            channels, size = wider, size // 2
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size * size, self.schema.width))
        optimizer = torch.optim.AdamW(self.net.parameters(), 2e-3)
        for _ in range(epochs):
            for rows in torch.randperm(self.train).split(64):
                optimizer.zero_grad()
                logits = self.net(scale(self.images[rows]))
                F.binary_cross_entropy_with_logits(logits, self.labels[rows]).backward()
                optimizer.step()
        self.net.eval()

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Share of pictures uint8 (N, 3, S, S) that show their label (N, L), by attribute."""
        logits = self.net(scale(images))
        found = {}
        for attribute, start in zip(self.schema.attributes, self.schema.starts.tolist(), strict=True):
            entries = slice(start, start + attribute.width)
            right = logits[:, entries].argmax(1) == labels[:, entries].argmax(1)
            found[attribute.name] = right.float().mean().item()
        return found

    def accuracy_on_real(self) -> dict[str, float]:
        """The judge's own accuracy, on real pictures that it has not seen."""
        return self.accuracy(self.images[self.train :], self.labels[self.train :])


def scale(images: Tensor) -> Tensor:
    """uint8 -> [-1, 1]."""
    return images.float() / 127.5 - 1
