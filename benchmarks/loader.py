"""Compare the reading speed of our stream, WebDataset, litdata and MosaicML streaming on the same JPEG images.

One worker, uint8 batches (B, 3, S, S) in a shuffled order, everything on local disk. The sides run in alternation in
this process; each loader is used as its own guide shows. Our stream is measured without its cache of decoded images
("ours"), in the epoch that fills it and in a later one. A loader that is not installed is skipped with a message
(`pip install "cgan-trainer[bench]"`). The last lines are the ratios of the medians.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import io
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image, ImageFilter

from shards.dataset.dataset import Dataset
from shards.packing.pack import Pack, pack
from shards.stream.decoded_cache import plan_cache
from shards.stream.loader import batches
from shards.stream.stream import Stream

COLOURS = ("blue", "red", "green", "yellow")
OURS, FIRST, LATER, RAW = "ours", "ours, first epoch", "ours, later epochs", "ours, raw"
Batches = Iterator[torch.Tensor]


def draw(folder: Path, count: int, size: int) -> list[Path]:
    """Write images with the detail of photographs: smooth noise over finer noise, as JPEG of quality 95."""
    folder.mkdir(parents=True)
    paths, rows = [], ["id,tags"]
    for number in range(count):
        drawn = np.random.default_rng(number)
        coarse = Image.fromarray(drawn.integers(0, 256, (8, 8, 3), np.uint8)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        fine = Image.fromarray(drawn.integers(0, 256, (size, size, 3), np.uint8)).filter(ImageFilter.GaussianBlur(1))
        paths.append(folder / f"{number:06d}.jpg")
        Image.blend(coarse, fine, 0.3).save(paths[-1], "JPEG", quality=95, subsampling=0)
        rows.append(f'{number:06d},"{COLOURS[number % len(COLOURS)]} hair"')
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    return paths


def as_tensor(image: Any) -> torch.Tensor:
    """Return a Pillow image or decoded tensor as uint8 (3, S, S)."""
    if isinstance(image, torch.Tensor):
        return image
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


# ---------------------------------------------------------------- sides: each gives endless batches of images


def ours(data: Path, batch: int, cache: str = "off") -> Batches:
    """Our stream, which also yields labels and wrong labels; ``cache`` is --decoded-cache."""
    dataset = Dataset.open(data)
    rows, _ = plan_cache(dataset, cache).open()
    for found in batches(Stream(dataset, batch, 0, decoded=rows), 0, workers=1):
        yield found.images


def first_epoch(data: Path, batch: int, folder: Path) -> Batches:
    """Our stream with a new cache of decoded images."""
    yield from ours(data, batch, tempfile.mkdtemp(dir=folder))


def later_epochs(data: Path, batch: int, folder: Path) -> Batches:
    """Our stream with a cache that holds all images."""
    dataset = Dataset.open(data)
    rows, _ = plan_cache(dataset, str(folder)).open()
    stream = Stream(dataset, batch, 0, decoded=rows)
    for number in range(len(dataset) // batch if rows is not None and rows.filled < len(dataset) else 0):
        stream[number]
    yield from ours(data, batch, str(folder))


def webdataset(data: Path, batch: int) -> Batches:
    """WebDataset on our own shards, decoded by Pillow."""
    import webdataset as wds

    urls = [str(path) for path in sorted(data.glob("*.tar"))]
    dataset = wds.WebDataset(urls, shardshuffle=len(urls), seed=0)  # type: ignore[attr-defined]
    dataset = dataset.shuffle(1000).decode("pil").to_tuple("jpg", "npy").map_tuple(as_tensor)
    loader = wds.WebLoader(dataset.batched(batch), batch_size=None, num_workers=1)  # type: ignore[attr-defined]
    while True:
        for images, _ in loader:
            yield images


def litdata(folder: Path, paths: list[Path], batch: int) -> Batches:
    """litdata: chunks of JPEG bytes."""
    import litdata  # pyright: ignore[reportMissingImports]

    if not folder.exists():
        method = multiprocessing.get_start_method()
        litdata.optimize(litdata_sample, [str(p) for p in paths], str(folder), chunk_bytes="64MB", num_workers=1)
        multiprocessing.set_start_method(method, force=True)  # it chooses another one, for all of this process
    dataset = litdata.StreamingDataset(str(folder), shuffle=True, transform=litdata_image)
    loader = litdata.StreamingDataLoader(dataset, batch_size=batch, num_workers=1, shuffle=True)
    while True:
        yield from loader


def litdata_sample(path: str) -> dict[str, Any]:
    """Return what litdata stores of an image: the bytes of its file. (Its own decoding of JPEG needs torchvision.)"""
    return {"image": Path(path).read_bytes(), "label": int(Path(path).stem) % len(COLOURS)}


def litdata_image(sample: dict[str, Any]) -> torch.Tensor:
    """Decode with Pillow what litdata returns."""
    return as_tensor(Image.open(io.BytesIO(sample["image"])))


def mosaic(folder: Path, paths: list[Path], batch: int) -> Batches:
    """mosaicml-streaming: MDS shards of JPEG bytes."""
    _without_torchvision()
    import streaming  # pyright: ignore[reportMissingImports]

    if not folder.exists():
        columns = {"image": "jpeg", "label": "int"}
        with streaming.MDSWriter(out=str(folder), columns=columns) as out:
            for number, path in enumerate(paths):
                out.write({"image": Image.open(path), "label": number % len(COLOURS)})

    class Images(streaming.StreamingDataset):
        def __getitem__(self, index: Any) -> torch.Tensor:
            return as_tensor(super().__getitem__(index)["image"])

    dataset = Images(local=str(folder), shuffle=True, batch_size=batch)
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch, num_workers=1)
    while True:
        yield from loader


def _without_torchvision() -> None:
    """Stub torchvision, which streaming imports for datasets not used here; the CPU build of torch has none."""
    try:
        import torchvision  # noqa: F401  # type: ignore[import-not-found]
    except Exception:
        for name in ("", ".datasets", ".transforms", ".transforms.functional"):
            module: Any = types.ModuleType(f"torchvision{name}")
            module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
            module.VisionDataset, module.to_tensor = object, None
            sys.modules[module.__name__] = module


# ---------------------------------------------------------------- measuring


def images_per_second(side: Batches, count: int, batch: int) -> float:
    """Return the images/s of ``count`` batches, touching each."""
    start = time.perf_counter()
    for _ in range(count):
        images = next(side)
        assert images.shape[0] == batch and images.dtype == torch.uint8
    return count * batch / (time.perf_counter() - start)


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--batches", type=int, default=90, help="batches per side and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        speeds = measure(Path(folder), options)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, value in medians.items():
        print(f"{name}: median {value:,.0f} images/s over {len(speeds[name])} rounds")
    ratios = {name: medians[OURS] / value for name, value in medians.items() if not name.startswith(OURS)}
    ratios |= {f"{name}, over JPEG, ours": medians[name] / medians[OURS] for name in (FIRST, LATER, RAW)}
    if "WebLoader" in medians:
        ratios[f"{LATER}, over WebLoader"] = medians[LATER] / medians["WebLoader"]
    for name, value in ratios.items():
        print(f"ratio: {value:.2f} ({name})")
    if options.json:
        options.json.write_text(json.dumps({"images_per_second": speeds, "ratios": ratios}, indent=1))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return images/s of each side, by round."""
    paths = draw(folder / "source", options.images - options.images % options.batch, options.size)
    jpeg, raw, kept = folder / "jpeg", folder / "raw", folder / "kept"
    kept.mkdir()
    pack(Pack(src=folder / "source", out=jpeg, size=options.size, workers=1, format="jpg"))
    pack(Pack(src=folder / "source", out=raw, size=options.size, workers=1, format="raw"))
    makers: dict[str, Callable[[], Batches]] = {
        OURS: partial(ours, jpeg, options.batch),
        FIRST: partial(first_epoch, jpeg, options.batch, kept),
        LATER: partial(later_epochs, jpeg, options.batch, kept / "full"),
        "WebLoader": partial(webdataset, jpeg, options.batch),
        "litdata": partial(litdata, folder / "litdata", paths, options.batch),
        "mosaicml-streaming": partial(mosaic, folder / "mosaic", paths, options.batch),
        RAW: partial(ours, raw, options.batch),
    }
    speeds: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for name, make in list(makers.items()):
            try:
                side = make()
                next(side)  # its workers are up
            except ImportError as error:
                print(f"{name}: skipped ({error}); pip install 'cgan-trainer[bench]'")
                del makers[name]
                continue
            speeds.setdefault(name, []).append(images_per_second(side, options.batches, options.batch))
            del side  # and down
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return speeds


if __name__ == "__main__":
    main()
