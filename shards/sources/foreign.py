"""Sources that are not read, named for what they are, with the way to convert them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from shards.core.errors import UserError
from shards.sources.file_tree import FileTree
from shards.sources.first_bytes import head, spread

_AS_IMAGES = "write its samples as images with a metadata.jsonl, or as WebDataset tars"
_AS_ARRAYS = "save its arrays with numpy.savez(FILE, images=…, labels=…)"


class _Format(NamedTuple):
    name: str
    pattern: str  # of the names of its files, in lower case
    advice: str


_ARCHIVE = _Format(
    "an archive that is not read",
    r"\.(rar|7z|z01|tar\.zst|tar\.lz4)$",
    "unpack it, and give the folder as SRC",
)
_ARROW = _Format(
    "an Arrow dataset of Hugging Face",
    r"\.arrow$",
    "save it as Parquet: datasets.load_from_disk(SRC)['train'].to_parquet(FILE)",
)
_FORMATS = (
    _Format("an MDS dataset (MosaicML Streaming)", r"\.mds(\.\w+)?$", f"{_AS_IMAGES}; StreamingDataset reads it"),
    _Format("a litdata dataset", r"(^|/)chunk-\d+-\d+(\.\w+)?\.bin$", f"{_AS_IMAGES}; StreamingDataset reads it"),
    _Format("TFRecords", r"\.tfrecords?(\.gz)?(-\d+-of-\d+)?$", f"{_AS_IMAGES}; tf.data.TFRecordDataset reads them"),
    _Format("an LMDB database", r"(^|/)(data|lock)\.mdb$|\.lmdb$", f"{_AS_IMAGES}; the package lmdb reads it"),
    _Format("an FFCV dataset", r"\.beton$", "pack the images that it was made from"),
    _Format("MXNet RecordIO", r"\.rec$", f"{_AS_IMAGES}; mxnet.recordio reads it"),
    _Format("a Zarr store", r"\.zarr/", _AS_ARRAYS),
    _Format("a Safetensors file", r"\.safetensors$", _AS_ARRAYS),
    _Format("a database", r"\.(sqlite3?|db)$", "export its table as CSV next to the images"),
    _Format("a video", r"\.(mp4|avi|mkv|webm|mov)$", "extract its frames as images: ffmpeg -i FILE frames/%06d.png"),
    _Format("an unfinished download", r"\.(part|crdownload|aria2)$", "download it again"),
    _ARROW,
    _ARCHIVE,
)
_PICKLED = re.compile(
    r"\.(pkl|pickle|pt|pth|joblib|dill|p)(\.gz)?$|(^|/)(data_batch_\d|test_batch|batches\.meta)$", re.I
)
_MAGIC = {b"Rar!\x1a\x07": _ARCHIVE, b"7z\xbc\xaf'\x1c": _ARCHIVE, b"ARROW1": _ARROW}


def foreign_error(tree: FileTree) -> UserError | None:
    """Return the error for a tree without readable images that is in a format of other programs, or None."""
    names = [*tree.others, *tree.texts]
    pickled = [name for name in tree.others if _PICKLED.search(name) or _is_pickle(tree, name)]
    for format in _FORMATS:
        if found := [name for name in names if re.search(format.pattern, name.lower())]:
            return _named(tree, format, found)
    if pickled:
        return _pickled(tree, pickled)
    for name in spread(tree.others):
        first = head(tree.others[name])
        for magic, format in _MAGIC.items():
            if first.startswith(magic):
                return _named(tree, format, [name])
    return None


def url_column(columns: Iterable[str]) -> str:
    """Return the column of a table that has the addresses of images; "" if there is none."""
    return next((name for name in columns if name.lower() in ("url", "image_url", "img_url")), "")


def urls_only_error(path: Path, url: str, columns: Iterable[str]) -> UserError:
    """Return the error for a table of addresses, whose images have to be downloaded first."""
    caption = next((name for name in columns if name.lower() in ("text", "caption", "top_caption")), "")
    captions = f" --caption_col {caption}" if caption else ""
    return UserError(
        "images-not-downloaded",
        f"{path}: has addresses of images (column {url}), not the images; download them first, and pack the result: "
        f"img2dataset --url_list {path} --input_format parquet --url_col {url}{captions} --output_format webdataset "
        "--output_folder DOWNLOADED",
    )


def _named(tree: FileTree, format: _Format, found: list[str]) -> UserError:
    more = f" and {len(found) - 1:,} more files" if len(found) > 1 else ""
    first = tree.where(found[0]) if tree.root.is_dir() else str(tree.root)
    return UserError("foreign-format", f"{first}{more}: {format.name}, which is not read; {format.advice}")


def _pickled(tree: FileTree, found: list[str]) -> UserError:
    first = tree.where(found[0]) if tree.root.is_dir() else str(tree.root)
    base = os.path.basename(found[0])  # noqa: PTH119
    if base.lower().endswith((".pt", ".pth")):
        script = (
            "    import numpy as np, torch\n"
            f"    batch = torch.load({base!r})  # tensors of images and labels; look at batch first\n"
            "    np.savez('converted.npz', images=batch['images'].numpy(), labels=batch['labels'].numpy())\n"
        )
    elif re.search(r"(^|/)(data_batch_\d|test_batch|batches\.meta)$", found[0], re.IGNORECASE):
        script = (
            "    import numpy as np, pickle\n"
            "    b = [pickle.load(open(f'data_batch_{i}', 'rb'), encoding='latin1') for i in range(1, 6)]\n"
            "    np.savez('cifar.npz', images=np.concatenate([x['data'] for x in b]).reshape(-1, 3, 32, 32), "
            "labels=sum([x['labels'] for x in b], []))\n"
        )
    else:
        script = (
            "    import numpy as np, pickle\n"
            f"    data = pickle.load(open({base!r}, 'rb'), encoding='latin1')  # look at what it has\n"
            "    np.savez('converted.npz', images=np.asarray(data['images']), labels=np.asarray(data['labels']))\n"
        )
    return UserError(
        "pickled-source",
        f"{first}: a pickle, which is never read, because reading one can run any code; convert it, and give the .npz "
        f"as SRC:\n{script}(only if you trust the file)",
    )


def _is_pickle(tree: FileTree, name: str) -> bool:
    """Return True if a file without an extension begins as a pickle does."""
    if "." in os.path.basename(name) or len(tree.others) > 1000:  # noqa: PTH119
        return False
    first = head(tree.others[name])
    return len(first) > 2 and first[0] == 0x80 and 2 <= first[1] <= 5
