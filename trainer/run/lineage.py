"""``RUN/lineage.json``: every network and all images that touched the training of a run.

A metric is biased if the network or the images that it is computed with also took part in the training: images of the
training score best against themselves, features of a network that guided the generator find few of its faults, and a
classifier that learned from the same images as the training's own shares its errors. `cgan evaluate` therefore compares
the networks and images that it uses with this record.

    {"format_version": 1, "influences": [{"kind": "images", "role": "training images", "name": "faces-32",
      "identity": "1723ac68…", "sample": ["00012f…", …]}, …], "seal": …}

Code that adds a training signal (a network whose features the discriminator uses, a classifier that guides the
generator) must add an `Influence` where the trainer calls `record`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shards.core import format_version, self_hash, text_files
from shards.core.atomic_io import write_json
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from trainer.config import Config
from trainer.config.network import CLASSIFYING
from trainer.run.checkpoint import Checkpoint

FORMAT_VERSION = 1
SAMPLE = 256  # hashes of images kept of a dataset
_KINDS = ("images", "network")


@dataclass(frozen=True)
class Influence:
    """Something that touched a training.

    Attributes:
        kind: "images" or "network".
        role: what it did, in words, such as "training images".
        name: for people.
        identity: of images, the fingerprint of their dataset; of a network, the SHA-256 of its weights. "" if unknown.
        learned_from: fingerprints of the datasets whose labels a network learned.
        sample: of images, the `SAMPLE` smallest hashes (the first 16 hex digits of the SHA-256 of the source files), by
            which shared images are found in datasets packed differently; () if the dataset keeps no hashes.
    """

    kind: Literal["images", "network"]
    role: str
    name: str
    identity: str
    learned_from: tuple[str, ...] = ()
    sample: tuple[str, ...] = ()


def path_of(run: Path) -> Path:
    """Return the path of a run's record."""
    return run / "lineage.json"


def read(run: Path) -> tuple[Influence, ...] | None:
    """Return everything that touched a run's training; None if the run was made before this was recorded.

    Raises:
        UserError: the record is damaged, or has a later format.
    """
    path = path_of(run)
    try:
        content = text_files.read_json(path)
        format_version.check(content, FORMAT_VERSION, f"{path} has format")
        if not self_hash.is_intact(content):
            raise ValueError("its hash does not match")
        return tuple(_influence(entry) for entry in content["influences"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "lineage-damaged",
            f"{path} is damaged ({error}); restore it from a copy, or delete it: the run then counts as one of which "
            "nothing but its dataset is known",
        ) from None


def record(run: Path, influences: Iterable[Influence], *, starts: bool) -> None:
    """Write the record of a run that starts, or add influences to that of a resumed one; those that it has stay.

    A resumed run without a record gets none: what touched it before is unknown, and a new record would count as
    complete.

    Args:
        run: the run directory.
        influences: of `influences_of`.
        starts: whether the run starts now; a record that is there is one of a run that ended before its first
            checkpoint, and none of what touched that one touches this one.

    Raises:
        UserError: the record of a resumed run is damaged.
        Failure: it cannot be written.
    """
    before = () if starts else read(run)
    if before is None:
        return
    after = tuple(dict.fromkeys([*before, *influences]))
    if starts or after != before:
        write(run, after)


def write(run: Path, influences: Iterable[Influence]) -> None:
    """Replace the record of a run.

    Raises:
        Failure: it cannot be written.
    """
    entries = [dataclasses.asdict(influence) for influence in influences]
    content = {"format_version": FORMAT_VERSION, "influences": entries}
    write_json(path_of(run), self_hash.with_hash(content))


def influences_of(config: Config, dataset: Dataset, initial: Checkpoint | None) -> list[Influence]:
    """Return what touches a training.

    Args:
        config: the options, resolved.
        dataset: what the run trains on.
        initial: the checkpoint of another run whose weights it starts from; everything that touched that run counts.
            None if there is none, or the run is resumed and has recorded it.
    """
    fingerprint, name = dataset.fingerprint, str(dataset.manifest.get("name", ""))
    found = [Influence("images", "training images", name, fingerprint, sample=image_sample(dataset))]
    encoder = dataset.manifest.get("text_encoder")
    if isinstance(encoder, dict) and isinstance(encoder.get("sha256"), str):
        found.append(Influence("network", "text encoder", str(encoder.get("name", "")), encoder["sha256"]))
    if learns_labels(config.to_dict()):
        found.append(Influence("network", "label classifier in the discriminator", name, "", (fingerprint,)))
    if config.init_from is not None:
        found.append(Influence("network", "initial weights", config.init_from.resolve().name, ""))
    if initial is not None:
        found += _ancestors(initial)
    return found


def learns_labels(options: Mapping[str, Any]) -> bool:
    """Return whether a discriminator learns to classify labels under these options, by their flat names."""
    return options.get("conditioning") in CLASSIFYING or bool(options.get("label_loss"))


def image_sample(dataset: Dataset) -> tuple[str, ...]:
    """Return the smallest hashes of a local dataset's images; () if it is remote or keeps none."""
    if dataset.remote:
        return ()
    try:
        hashes = np.load(dataset.path / "hashes.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return ()
    if hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] < 8:
        return ()
    numbers = np.unique(np.ascontiguousarray(hashes[:, :8]).view(">u8"))
    return tuple(f"{number:016x}" for number in numbers[:SAMPLE].tolist())


def shared_images(one: Iterable[str], other: Iterable[str]) -> float:
    """Estimate the fraction of shared images from two samples: |A ∩ B| / |A ∪ B| (Broder 1997); 0 if one is empty."""
    a, b = set(one), set(other)
    if not a or not b:
        return 0.0
    smallest = sorted(a | b)[: max(len(a), len(b))]
    return sum(number in a and number in b for number in smallest) / len(smallest)


def _ancestors(initial: Checkpoint) -> list[Influence]:
    recorded = read(initial.folder)
    if recorded is not None:
        return list(recorded)
    # An older run, or an exported generator: its own dataset is all that is known.
    name, data = initial.folder.resolve().name, initial.state.data
    found = [Influence("images", "training images", name, data)]
    if learns_labels(initial.state.config):
        found.append(Influence("network", "label classifier in the discriminator", name, "", (data,)))
    return found


def _influence(entry: Any) -> Influence:
    role, name, identity = (entry[key] for key in ("role", "name", "identity"))
    learned_from, sample = (tuple(entry.get(key, [])) for key in ("learned_from", "sample"))
    texts = (role, name, identity, *learned_from, *sample)
    if entry["kind"] not in _KINDS or not all(isinstance(text, str) for text in texts):
        raise ValueError("it has an influence that is not one")
    return Influence(entry["kind"], role, name, identity, learned_from, sample)
