"""The article's networks and training loop as published: the baseline of the benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE, NOISE = 96, 100


class PublishedGenerator(nn.Module):
    """Generator as published: z, y -> image.

    Args:
        label: length of y.
    """

    def __init__(self, label: int) -> None:
        super().__init__()
        self.linear = nn.Linear(NOISE + label, 15 * 192 * 192)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(15),
            nn.ReLU(True),
            nn.Conv2d(15, 50, 3, padding=1),
            nn.BatchNorm2d(50),
            nn.ReLU(True),
            nn.Conv2d(50, 25, 3, padding=1),
            nn.BatchNorm2d(25),
            nn.ReLU(True),
            nn.Conv2d(25, 3, 2, stride=2),
            nn.Tanh(),
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Map z (B, 100), y (B, label) -> (B, 3, 96, 96) in [-1, 1]."""
        return self.layers(self.linear(torch.cat([z, y], 1)).view(-1, 15, 192, 192))


class PublishedDiscriminator(nn.Module):
    """Discriminator as published: image, y -> probability (a final sigmoid).

    Args:
        label: length of y.
    """

    def __init__(self, label: int) -> None:
        super().__init__()
        self.plane = nn.Linear(label, SIZE * SIZE)
        self.trunk = nn.Sequential(
            nn.Conv2d(4, 32, 5, padding=2),
            nn.LeakyReLU(0.2, True),
            nn.AvgPool2d(2, stride=2),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.LeakyReLU(0.2, True),
            nn.AvgPool2d(2, stride=3),
        )
        self.head = nn.Sequential(
            nn.Linear(64 * 16 * 16, 1024), nn.LeakyReLU(0.2, True), nn.Linear(1024, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map x (B, 3, 96, 96) in [-1, 1], y (B, label) -> (B,)."""
        plane = self.plane(y).view(-1, 1, SIZE, SIZE)
        return self.head(self.trunk(torch.cat([x, plane], 1)).flatten(1)).squeeze(1)


class PublishedLoop:
    """Both networks and the loop's body as published: no detach in D's step, separate passes, float32, plain Adam.

    Args:
        widths: entries of each attribute of the label, each of which has one value.
        device: where to compute.
    """

    def __init__(self, widths: tuple[int, ...], device: torch.device) -> None:
        self.widths, self.device = widths, device
        self.g = PublishedGenerator(sum(widths)).to(device)
        self.d = PublishedDiscriminator(sum(widths)).to(device)
        self.g_optimizer = torch.optim.Adam(self.g.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.d_optimizer = torch.optim.Adam(self.d.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.criterion = nn.BCELoss()

    def step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Update each network once.

        Args:
            x: real images (B, 3, 96, 96) in [-1, 1].
            y: their labels (B, L).

        Returns:
            The losses of D and G.
        """
        batch, device = len(x), self.device
        g, d, criterion = self.g, self.d, self.criterion
        ones, zeros = torch.ones(batch, device=device), torch.zeros(batch, device=device)

        loss_real = criterion(d(x, y), ones)
        fake = g(torch.randn(batch, NOISE, device=device), y)
        loss_fake = criterion(d(fake, y), zeros)
        random_y = random_labels(batch, self.widths).to(device)
        wrong = g(torch.randn(batch, NOISE, device=device), random_y)
        loss_wrong = criterion(d(wrong, y), zeros)
        self.d_optimizer.zero_grad()
        d_loss = loss_real + loss_fake + loss_wrong
        d_loss.backward()
        self.d_optimizer.step()

        fake = g(torch.randn(batch, NOISE, device=device), y)
        g_loss = criterion(d(fake, y), ones)
        self.g_optimizer.zero_grad()
        g_loss.backward()
        self.g_optimizer.step()
        return d_loss.detach(), g_loss.detach()


def random_labels(batch: int, widths: tuple[int, ...]) -> Tensor:
    """Return labels (B, L) with one entry of each attribute set."""
    parts = [nn.functional.one_hot(torch.randint(width, (batch,)), width) for width in widths]
    return torch.cat(parts, 1).float()
