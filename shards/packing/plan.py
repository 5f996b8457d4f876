"""The plan of a packing, stored in the build folder: all jobs agree on it, and merging needs nothing else.

.OUT.packing/plan.json
             data/NAME-000000.tar …     becomes OUT
             data/validation/…          becomes OUT/validation, if there is a split
             records/…                  one record per finished shard, laid out as data/
             left-out-tags.csv          the tags that are too rare, if there are any
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shards.core import atomic_io, text_files
from shards.core.errors import UserError
from shards.core.problems import Noted, Problems
from shards.packing import shard_writer

_FILE = "plan.json"
LEFT_OUT = "left-out-tags.csv"
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass(frozen=True)
class Part:
    """The training or the validation part of a packing.

    Attributes:
        split: "train" or "validation".
        pictures: number of images to pack in all its shards.
    """

    split: str
    pictures: int

    def below(self, folder: Path) -> Path:
        """Return its folder inside the data folder, the records, or OUT."""
        return folder if self.split == "train" else folder / self.split


@dataclass(frozen=True)
class Plan:
    """The plan of a packing.

    Attributes:
        decides: everything that the bytes of the shards depend on; plans with equal values share finished shards.
        name: prefix of the shards' file names.
        per_shard: images per shard.
        parts: the training part, then the validation part if there is one.
        manifest: further content of the manifests.
        problems: problems of the source, by code: count and first names.
        reasons: attribute → why it is what it is, for schema.yaml.
    """

    decides: dict[str, Any]
    name: str
    per_shard: int
    parts: tuple[Part, ...]
    manifest: dict[str, Any]
    problems: Noted
    reasons: dict[str, str] = field(default_factory=dict)

    def shards(self, part: Part) -> list[str]:
        """Return the file names of a part's shards."""
        return [f"{self.name}-{number:06d}.tar" for number in range(-(-part.pictures // self.per_shard))]

    def every(self) -> Iterator[tuple[Part, str]]:
        """Yield all shards of all parts."""
        for part in self.parts:
            for name in self.shards(part):
                yield part, name


def build_folder(out: Path) -> Path:
    """Return the folder that collects shards until OUT is complete."""
    return out.with_name(f".{out.name}.packing")


def begin(build: Path, plan: Plan) -> None:
    """Create the build folder, or check that an existing one has the same plan. The first of several jobs writes it.

    Raises:
        UserError: the existing plan differs.
        Failure: a disk error.
    """
    with atomic_io.explain_disk_errors(build):
        for part in plan.parts:
            part.below(build / "data").mkdir(parents=True, exist_ok=True)
            part.below(build / "records").mkdir(parents=True, exist_ok=True)
        staged = build / f".{_FILE}.{socket.gethostname()}.{os.getpid()}"
        if not (build / _FILE).exists():
            atomic_io.write_json(staged, asdict(plan))
            try:
                _publish(staged, build / _FILE)
            finally:
                staged.unlink(missing_ok=True)
    old, new = load(build).decides, json.loads(json.dumps(plan.decides))
    if different := [key for key in new if old.get(key) != new[key]]:
        raise UserError(
            "packing-differs",
            f"{build} contains an unfinished packing that differs in {atomic_io.join_names(different)}; resume it "
            "with its original command, or delete that folder to start over",
        )


def _publish(staged: Path, path: Path) -> None:
    """Give a file its name, unless another job has been first."""
    try:
        os.link(staged, path)  # fails if the name exists, unlike a rename
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # exFAT and some network mounts. Of jobs that begin in the same instant, the last one's plan counts.
        staged.replace(path)


def write_left_out(build: Path, tags: Mapping[str, int]) -> None:
    """Write the list of tags that are left out, the most frequent first, with the number of their images."""
    if not tags:
        return
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("tag", "images"))
    rows.writerows((tag, tags[tag]) for tag in sorted(tags, key=lambda tag: (-tags[tag], tag)))
    atomic_io.write_bytes(build / LEFT_OUT, text.getvalue().encode("utf-8", "replace"))


def load(build: Path) -> Plan:
    """Return the plan of a build folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = build / _FILE
    try:
        content = text_files.read_json(path)
        parts = tuple(Part(**part) for part in content["parts"])
        problems = {str(kind): (int(count), list(names)) for kind, (count, names) in content["problems"].items()}
        plan = Plan(**{**content, "parts": parts, "problems": problems})
        list(plan.shards(parts[0]))
        return plan
    except FileNotFoundError:
        raise UserError(
            "nothing-to-merge", f"{build}: contains no unfinished packing; start one with: cgan pack"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError):
        raise UserError("plan-damaged", f"{path}: damaged; delete {build} and pack again") from None


def record(build: Path, part: Part, name: str) -> dict[str, Any] | None:
    """Return the record of a shard if the shard and everything that belongs to it is complete on disk, else None."""
    data, records = part.below(build / "data"), part.below(build / "records")
    try:
        found = text_files.read_json(shard_writer.record_path(records, name))
        whole = (data / name).stat().st_size == found["bytes"] and found["file"] == name
        Problems().take(found["problems"])
        arrays = [shard_writer.array_path(records, name, array) for array in shard_writer.ARRAYS]
        whole = whole and all(path.is_file() for path in [*arrays, shard_writer.ids_path(records, name)])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found if whole else None


def missing(plan: Plan, build: Path) -> list[str]:
    """Return the unfinished shards, as paths inside the data folder."""
    return [(part.below(Path()) / name).as_posix() for part, name in plan.every() if record(build, part, name) is None]


def sweep(build: Path, part: Part, names: set[str]) -> None:
    """Remove temporary files that killed processes left for these shards of a part, or for files with these names."""
    for leftover in [*part.below(build / "data").glob(".*.tmp"), *part.below(build / "records").glob(".*.tmp")]:
        name = leftover.name[1:].rsplit(".", 2)[0]  # of .NAME.PID.tmp; a shard's record is NAME.tar….
        if {name, name.partition(".tar")[0] + ".tar"} & names:
            leftover.unlink(missing_ok=True)
