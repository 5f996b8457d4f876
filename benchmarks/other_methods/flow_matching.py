"""Class-conditional flow matching with a small U-Net (Lipman et al. 2023, arXiv 2210.02747).

The conditional flow to an image x1 is a straight line from noise x0 (their equation 22 with σ_min = 0):
x_t = (1 - t) x0 + t x1. A network learns its velocity x1 - x0 (equation 23), and images are drawn by integrating the
velocity from t = 0 to 1. Labels are dropped from one image in ten, so that the velocities with and without a label can
be combined (classifier-free guidance, Ho & Salimans 2022, arXiv 2207.12598, equation 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from other_methods.method import named, of
from trainer.averages.ema import ExponentialMovingAverage
from trainer.distributed.precision import AUTOCAST, resolve
from trainer.networks.conditioning import LabelEmbedding
from trainer.run.state_dicts import load_module, load_optimizer, module_tensors, optimizer_tensors

CODE = 64  # length of the code of time and label
CHANNELS = {32: (16, 32, 48), 64: (16, 24, 32, 40)}  # as many parameters as G of `faces32` and `faces64`
HALF_LIFE, RAMP = 10_000, 0.1  # of the average, in images, and as a fraction of the images seen


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; the code scales and shifts what the second one sees.

    Args:
        before, after: channels.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(8, before), nn.GroupNorm(8, after)])
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), _silent(nn.Conv2d(after, after, 3, padding=1))
        self.code = nn.Linear(CODE, 2 * after)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Map x (B, before, s, s) and code (B, CODE) to (B, after, s, s)."""
        h = self.first(F.silu(self.norms[0](x)))
        scale, shift = self.code(code)[:, :, None, None].chunk(2, 1)
        return self.shortcut(x) + self.second(F.silu(self.norms[1](h) * (1 + scale) + shift))


class Attention(nn.Module):
    """Self-attention between all places of an image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _silent(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, s, s) to the same shape."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, 2)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(1, 2).reshape(x.shape))


class Velocity(nn.Module):
    """The U-Net v(x, t, y): two residual blocks a level, one on the way down and one up; attention at the lowest.

    Args:
        size: side of the images; one of `CHANNELS`.
        widths: entries of each attribute of the label.
    """

    def __init__(self, size: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        channels = CHANNELS[size]
        self.label = LabelEmbedding(widths, CODE)
        self.time = nn.Sequential(nn.Linear(CODE, CODE), nn.SiLU(), nn.Linear(CODE, CODE))
        self.first = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise((channels[0], *channels)))
        self.middle = nn.ModuleList([Attention(channels[-1]), ResidualBlock(channels[-1], channels[-1])])
        above = (channels[0], *channels)
        self.up = nn.ModuleList(ResidualBlock(2 * c, out) for c, out in zip(channels[::-1], above[-2::-1], strict=True))
        self.last = nn.Sequential(
            nn.GroupNorm(8, channels[0]), nn.SiLU(), _silent(nn.Conv2d(channels[0], 3, 3, padding=1))
        )

    def forward(self, x: Tensor, t: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map x (B, 3, S, S), t (B,) in [0, 1], label (B, L) and known (B, A) to a velocity (B, 3, S, S), float32."""
        code = F.silu(self.time(_waves(t)) + self.label(label, known))
        h, kept = self.first(x), []
        for level, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if level else h, code)
            kept.append(h)
        attention, block = self.middle
        h = block(attention(h), code)
        for level, block in enumerate(self.up):
            h = F.interpolate(h, scale_factor=2.0) if level else h
            h = block(torch.cat([h, kept.pop()], 1), code)
        return self.last(h).float()


def _silent(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a layer of zeros: what it adds to begins unchanged."""
    nn.init.zeros_(layer.weight)
    return layer


def _waves(t: Tensor) -> Tensor:
    """Return sines and cosines of times (B,) at frequencies from 1 to 1,000: (B, CODE)."""
    angles = t[:, None] * torch.logspace(0, 3, CODE // 2, device=t.device)
    return torch.cat([angles.sin(), angles.cos()], 1)


class Integrator(nn.Module):
    """Draw images by Heun's method in ``steps`` equal steps, guided by the label: a generator of its noise.

    Args:
        velocity: a `Velocity`.
        size: side of the images.
        steps: each takes two evaluations of the network, and each of these two passes where labels guide.
        guidance: w, how far beyond the velocity with the label to go, away from that without; 0: not guided.
    """

    def __init__(self, velocity: nn.Module, size: int, steps: int = 10, guidance: float = 0.5) -> None:
        super().__init__()
        self.velocity, self.size, self.steps, self.guidance = velocity, size, steps, guidance

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map z (B, 3·S·S), label (B, L) and known (B, A) to images (B, 3, S, S)."""
        x = z.view(-1, 3, self.size, self.size).contiguous(memory_format=torch.channels_last)
        for step in range(self.steps):
            v = self._guided(x, step / self.steps, label, known)
            ahead = self._guided(x + v / self.steps, (step + 1) / self.steps, label, known)
            x = x + (v + ahead) / (2 * self.steps)
        return x

    def _guided(self, x: Tensor, t: float, label: Tensor, known: Tensor) -> Tensor:
        if not self.guidance:
            return self._evaluated(x, t, label, known)
        twice, without = torch.cat([x, x]), torch.zeros_like(known)
        v, free = self._evaluated(twice, t, torch.cat([label, label]), torch.cat([known, without])).chunk(2)
        return v + self.guidance * (v - free)

    def _evaluated(self, x: Tensor, t: float, label: Tensor, known: Tensor) -> Tensor:
        with _autocast(x.device):
            return self.velocity(x, x.new_full((len(x),), t), label, known)


class FlowMatching:
    """Flow matching in training; see `other_methods.method.Method`.

    Args:
        size: side of the images.
        widths: entries of each attribute of the label.
        device: of the network.
    """

    batch = 32
    learning_rate = 1e-3
    warm_up = 2_000  # images in which the learning rate rises
    dropped = 0.1  # fraction of images whose label is dropped

    def __init__(self, size: int, widths: tuple[int, ...], device: torch.device) -> None:
        self.size, self.noise_size, self.device = size, 3 * size * size, device
        self.velocity = Velocity(size, widths).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = ExponentialMovingAverage(self.velocity, HALF_LIFE, RAMP)
        self.optimizer = AdamW(self.velocity.parameters(), self.learning_rate, (0.9, 0.99), weight_decay=0, fused=True)

    def step(self, images: Tensor, label: Tensor, known: Tensor, seen: int) -> Mapping[str, float]:
        """Train one step."""
        x1 = (images.to(self.device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        x0, t = torch.randn_like(x1), torch.rand(len(x1), device=self.device)
        known = known * (torch.rand(len(x1), 1, device=self.device) >= self.dropped)
        with _autocast(self.device):
            v = self.velocity(torch.lerp(x0, x1, t[:, None, None, None]), t, label, known)
        loss = F.mse_loss(v, x1 - x0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * min(1.0, (seen + self.batch) / self.warm_up)
        self.optimizer.step()
        self.average.update(self.velocity, seen, self.batch)
        return {"loss/velocity": float(loss.detach())}

    def generator(self) -> nn.Module:
        """Return the integrator of the averaged network."""
        return Integrator(self.average.module, self.size).eval()

    def tensors(self) -> dict[str, Tensor]:
        """Return the network, its average and the optimizer's moments."""
        return {
            **named("velocity", module_tensors(self.velocity)),
            **named("average", module_tensors(self.average.module)),
            **named("optimizer", optimizer_tensors(self.velocity, self.optimizer)),
        }

    def load(self, tensors: Mapping[str, Tensor], seen: int) -> None:
        """Restore them."""
        load_module(self.velocity, of("velocity", tensors))
        load_module(self.average.module, of("average", tensors))
        load_optimizer(self.velocity, self.optimizer, of("optimizer", tensors))


def _autocast(device: torch.device) -> torch.autocast:
    """Return the precision that the trainer would choose: bf16 where the machine computes it fast."""
    dtype = AUTOCAST.get(resolve("auto", device), torch.bfloat16)
    return torch.autocast(device.type, dtype, enabled=resolve("auto", device) != "no")
