"""What a packing has set out to do, kept beside its shards: any number of jobs agree on it, and merging needs no more.

.OUT.packing/plan.json
             data/NAME-000000.tar …     what OUT will be
             data/validation/…          what OUT/validation will be, if there is a split
             records/…                  one for each finished shard, laid out as data/
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.core import atomic_io
from shards.core.errors import UserError
from shards.core.problems import Noted, Problems
from shards.packing import shard_writer

_FILE = "plan.json"


@dataclass(frozen=True)
class Part:
    """The training or the validation part of a packing.

    Attributes:
        split: "train" or "validation".
        pictures: how many are to be packed, in all its shards.
    """

    split: str
    pictures: int

    def below(self, folder: Path) -> Path:
        """Where it lies below the data folder, the records, or OUT."""
        return folder if self.split == "train" else folder / self.split


@dataclass(frozen=True)
class Plan:
    """See the module.

    Attributes:
        decides: all that the bytes of the shards depend on; plans equal in it may share finished shards.
        name: beginning of the shards' file names.
        per_shard: pictures in a shard.
        parts: the training part, then the validation part if there is one.
        manifest: what else the manifests are to say.
        problems: what was amiss with the source, by kind: count and first names.
    """

    decides: dict[str, Any]
    name: str
    per_shard: int
    parts: tuple[Part, ...]
    manifest: dict[str, Any]
    problems: Noted

    def shards(self, part: Part) -> list[str]:
        """The file names of a part's shards."""
        return [f"{self.name}-{number:06d}.tar" for number in range(-(-part.pictures // self.per_shard))]

    def every(self) -> Iterator[tuple[Part, str]]:
        """All shards of all parts."""
        for part in self.parts:
            for name in self.shards(part):
                yield part, name


def build_folder(out: Path) -> Path:
    """Where shards gather until OUT gets its name."""
    return out.with_name(f".{out.name}.packing")


def begin(build: Path, plan: Plan) -> None:
    """Make the build folder, or see that the one there is of the same plan; of several jobs the first one writes it.

    Raises:
        UserError: it is of another.
        Failure: the disk refuses.
    """
    with atomic_io.explain_disk_errors(build):
        for part in plan.parts:
            part.below(build / "data").mkdir(parents=True, exist_ok=True)
            part.below(build / "records").mkdir(parents=True, exist_ok=True)
        beside = build / f".{_FILE}.{socket.gethostname()}.{os.getpid()}"
        if not (build / _FILE).exists():
            atomic_io.write_json(beside, asdict(plan))
            try:
                with contextlib.suppress(FileExistsError):
                    os.link(beside, build / _FILE)  # refuses a name that is taken, as renaming would not
            finally:
                beside.unlink(missing_ok=True)
    old, new = load(build).decides, json.loads(json.dumps(plan.decides))
    if different := [key for key in new if old.get(key) != new[key]]:
        raise UserError(
            "packing-differs",
            f"{build} contains an unfinished packing that differs in {atomic_io.join_names(different)}; resume it "
            "with its original command, or delete that folder to start over",
        )


def load(build: Path) -> Plan:
    """The plan of a build folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = build / _FILE
    try:
        content = json.loads(path.read_text("utf-8"))
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


def record(plan: Plan, build: Path, part: Part, name: str) -> dict[str, Any] | None:
    """The record of a shard that is whole on the disk, with all that belongs to it."""
    data, records = part.below(build / "data"), part.below(build / "records")
    try:
        found = json.loads(shard_writer.record_path(records, name).read_text("utf-8"))
        whole = (data / name).stat().st_size == found["bytes"] and found["file"] == name
        Problems().take(found["problems"])
        beside = [shard_writer.array_path(records, name, array) for array in shard_writer.ARRAYS]
        whole = whole and all(path.is_file() for path in [*beside, shard_writer.ids_path(records, name)])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found if whole else None


def missing(plan: Plan, build: Path) -> list[str]:
    """Names of the shards that are not finished, as paths below the data folder."""
    return [
        (part.below(Path()) / name).as_posix() for part, name in plan.every() if record(plan, build, part, name) is None
    ]


def sweep(build: Path, part: Part, names: set[str]) -> None:
    """Remove what stopped processes had half written of some shards of a part, or other files beside them."""
    for leftover in [*part.below(build / "data").glob(".*.tmp"), *part.below(build / "records").glob(".*.tmp")]:
        name = leftover.name[1:].rsplit(".", 2)[0]  # of .NAME.PID.tmp; a shard's record is NAME.tar….
        if {name, name.partition(".tar")[0] + ".tar"} & names:
            leftover.unlink(missing_ok=True)
