"""Read the name of a folder: a part of the dataset, a bucket of files, a container of images, or masks."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import NamedTuple

DEPTH = 64  # folders inside each other; deeper ones are not read
TRAIN, VALIDATION, TEST, UNLABELLED = "train", "validation", "test", "unlabelled"

_PARTS = {
    **dict.fromkeys(("train", "training", "trainset", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation", "holdout", "valset"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst", "testset"), TEST),
    **dict.fromkeys(("unlabeled", "unlabelled", "unsup", "unsupervised", "nolabel", "nolabels", "pred"), UNLABELLED),
    **dict.fromkeys(("prediction", "predict"), UNLABELLED),
    **dict.fromkeys(("labeled", "labelled", "训练", "训练集"), TRAIN),
    **dict.fromkeys(("验证", "验证集"), VALIDATION),
    **dict.fromkeys(("测试", "测试集"), TEST),
}
_NEUTRAL = frozenset(
    {"set", "sets", "data", "dataset", "split", "part", "image", "images", "img", "imgs", "picture", "pictures"}
    | {"photo", "photos", "jpg", "jpeg", "png", "px", "x", "final", "full", "original", "resized", "cropped", "seg"}
)
_CONTAINERS = frozenset({"image", "images", "img", "imgs", "pictures", "photos", "jpeg", "jpg", "png", "pics"})
_AROUND_IMAGES = _CONTAINERS | {"data", "dataset", "raw", "original", "originals", "rgb", "frames", "files", "samples"}
_MASKS = frozenset(
    {"mask", "masks", "annotation", "annotations", "anno", "annos", "segmentation", "segmentations", "trimap"}
    | {"trimaps", "label", "labels", "heatmap", "heatmaps", "depth", "depths", "gt", "ground", "truth", "groundtruth"}
    | {"matte", "mattes", "alpha", "parsing", "semantic", "edges", "normals", "keypoints", "landmarks", "bbox"}
    | {"bboxes", "saliency", "thumbnail", "thumbnails", "thumb", "thumbs"}
)
_PORTIONS = frozenset(
    {"part", "shard", "batch", "chunk", "bucket", "subset", "fold", "folder", "dir", "block", "volume", "vol", "px"}
)
_SIZE = re.compile(r"[1-9]\d{1,3}(?:x[1-9]\d{1,3}|px)?$", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+")


class PartName(NamedTuple):
    """The part of a dataset that a folder holds, as its name says.

    Attributes:
        part: "train", "validation", "test" or "unlabelled".
        rest: the words of the name that say something else.
    """

    part: str
    rest: tuple[str, ...]


@functools.lru_cache(maxsize=1 << 12)
def words(name: str) -> tuple[str, ...]:
    """Return the words and numbers of a name in lower case: "JPEGImages_2017" has jpeg, images and 2017."""
    return tuple(map(str.lower, _WORDS.findall(name)))


def part_name(name: str) -> PartName | None:
    """Return which part of a dataset a name may stand for; None if it names none, or several."""
    found = words(name)
    part = names_part(name)
    if part is None:
        return None
    rest = tuple(w for w in found if w not in _PARTS and w not in _NEUTRAL and not w.isdigit())
    return PartName(part, rest)


def names_part(name: str) -> str | None:
    """Return the one part of a dataset that words of a name stand for; None if there is none, or several."""
    parts = {_PARTS[word] for word in words(name) if word in _PARTS}
    return parts.pop() if len(parts) == 1 else None


def names_only_part(name: str) -> bool:
    """Return True if a name says nothing but that a folder is a part: "train", "test_set", "val2017"."""
    found = part_name(name)
    return found is not None and not found.rest


def read_parts(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return name → (part, domain) if all folders of one level are parts of a dataset; else nothing.

    The domain is the letter of ``trainA`` and ``testB``, which is a class; "" for other names. A folder such as "data"
    beside folders that are parts has the part "".
    """
    found = {name: part_name(name) for name in names}
    known = {name: part for name, part in found.items() if part is not None}
    if not known:
        return {}
    if all(name in known or holds_images(name) for name in found) and () in {part.rest for part in known.values()}:
        known |= {name: PartName("", ()) for name in found if name not in known}
    if len(known) < len(found):
        return {}
    rests = {part.rest for part in known.values()}
    if all(len(rest) == 1 and len(rest[0]) == 1 for rest in rests):
        return {name: (part.part, part.rest[0].upper()) for name, part in known.items()}
    if () in rests or (len(rests) == 1 and len(known) > 1):
        return {name: (part.part, "") for name, part in known.items()}
    return {}


def is_portion(name: str) -> bool:
    """Return True if a name stands for one of several portions of files, such as "part1" or "images_003"."""
    found = words(name)
    named = {word for word in found if not word.isdigit()}
    return len(named) < len(found) and bool(named & (_PORTIONS | _AROUND_IMAGES)) and names_part(name) is None


def is_container(name: str) -> bool:
    """Return True if a name says only that there are images inside: "images", "JPEGImages", "img_256"."""
    found = [word for word in words(_SIZE.sub("", name)) if word not in ("all", "hq")]
    return bool(found) and any(word in _CONTAINERS for word in found) and all(w in _AROUND_IMAGES for w in found)


def holds_images(name: str) -> bool:
    """Return True if a name suits a folder of images beside a folder of their masks; see `is_container`."""
    found = words(name)
    return any(word in _AROUND_IMAGES for word in found) and not is_mask(name)


def is_mask(name: str) -> bool:
    """Return True if a name may stand for masks, annotations or thumbnails of other images."""
    return any(word in _MASKS for word in words(name))
