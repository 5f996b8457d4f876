"""Changes of the size of feature maps, by a factor of two in either direction."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def double_size(x: Tensor) -> Tensor:
    """Double the size by bilinear interpolation, (B, C, s, s) -> (B, C, 2s, 2s).

    Under torch.compile and where results must repeat the interpolation is written out: a new row is a quarter of the
    way from an old row to its neighbor, and so are columns. The backward of `F.interpolate` scatters: torch 2.13
    compiles what follows a scatter into wrong gradients, and a GPU adds in any order.
    """
    if not torch.compiler.is_dynamo_compiling() and not torch.are_deterministic_algorithms_enabled():
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    for side in (2, 3):
        rows = x.shape[side]
        first, last = x.narrow(side, 0, 1), x.narrow(side, rows - 1, 1)
        before = torch.cat([first, x.narrow(side, 0, rows - 1)], side)
        after = torch.cat([x.narrow(side, 1, rows - 1), last], side)
        pair = [torch.lerp(x, before, 0.25), torch.lerp(x, after, 0.25)]
        x = torch.stack(pair, side + 1).flatten(side, side + 1)
    return x


class Filter(nn.Module):
    """The separable filter [1, 2, 1] / 4 of each channel, with zeros beyond the border.

    A low-pass before halving keeps fine detail from aliasing (Zhang 2019, arXiv 1904.11486, section 3).

    `Downsample` and `Upsample` are each other's gradient. On a CPU both filter in float32: for one of the two, oneDNN
    has only a half-precision loop that is twenty times slower.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (line[:, None] * line)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, s, s) to (B, C, s/2, s/2) or (B, C, 2s, 2s), in autocast's dtype where autocast is on."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        within = torch.float32 if device == "cpu" and dtype.itemsize < 4 else dtype
        kernel = self.kernel.expand(x.shape[1], 1, 3, 3).to(within)
        with torch.autocast(device, enabled=False):
            return self.resample(x.to(within), kernel).to(dtype)

    def resample(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Filter x and change its size; x and kernel (C, 1, 3, 3) have the same dtype."""
        raise NotImplementedError


class Downsample(Filter):
    """Filter, then keep every second row and column."""

    def resample(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Map (B, C, s, s) to (B, C, s/2, s/2)."""
        return F.conv2d(x, kernel, stride=2, padding=1, groups=len(kernel))


class Upsample(Filter):
    """Insert zeros between rows and columns, then filter with gain 4: the transpose of `Downsample`, times 4."""

    def resample(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Map (B, C, s, s) to (B, C, 2s, 2s)."""
        return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=1, output_padding=1, groups=len(kernel))
