"""The run directory: disk space for checkpoints, the file operations that a run needs, visible on all nodes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from shards.core import atomic_io, file_lock
from shards.core.errors import UserError
from shards.dataset.image_shape import ImageShape
from trainer import config
from trainer.models import architecture_of
from trainer.networks import build
from trainer.preflight.findings import (
    FINE,
    RED,
    YELLOW,
    Finding,
    Report,
    format_bytes,
    group_by,
    nodes,
    ranks,
    split_errors,
)
from trainer.run.lock import STALE_AFTER

NAME = "run"
SEEN = "run of the others"  # key of the report
_OTHER_FILES = 200e6  # bytes; an upper bound for grids, metrics, the report and files of trackers
_TEST_FILE = 1 << 20  # bytes
_TOLERANCE = 2.0  # seconds
_MIN_INODES = 1_000
_SMOKE_SIZE = 16  # pixels of the images of preset smoke


class RunDirectoryProbe:
    """Tests a run directory, or its nearest existing parent, with a temporary file that `close` removes.

    Args:
        run: the run directory, which need not exist.
        token: identifies this check, so that two checks do not share a file.
        rank: this rank.
    """

    def __init__(self, run: Path, token: str, rank: int) -> None:
        self.run, self._token, self._rank = run, token, rank

    @cached_property
    def folder(self) -> Path:
        """The run directory or its nearest existing parent."""
        return next(path for path in (self.run.absolute(), *self.run.absolute().parents) if path.exists())

    def gather(self) -> dict[str, Any]:
        """Write a file as a run does: under a lock, to a temporary file, synced and renamed.

        Returns:
            "folder", "free" and "total" bytes, "inodes" (None: the file system does not count them), "seconds" to write
            a megabyte, and "clock": how far the file server's clock is ahead of this machine's, in seconds.

        Raises:
            UserError: one of the operations fails.
        """
        if not self.folder.is_dir():
            raise UserError("not-a-directory", f"{self.run} cannot be created: {self.folder} is not a directory")
        space = os.statvfs(self.folder)
        facts = {
            "folder": str(self.folder),
            "free": space.f_bavail * space.f_frsize,
            "total": space.f_blocks * space.f_frsize,
            "inodes": space.f_favail if space.f_files else None,
        }
        path, start = self._file(self._rank), time.perf_counter()
        with atomic_io.explain_disk_errors(path), file_lock.locked(path, f"{path} is locked by another process"):
            path.write_bytes(b"\0" * _TEST_FILE)  # the rename below needs this space twice
        atomic_io.write_bytes(path, b"\1" * _TEST_FILE)
        seconds, after = time.perf_counter() - start, time.time()
        return {**facts, "seconds": seconds, "clock": path.stat().st_mtime - after}

    def unseen(self, ranks: Sequence[int]) -> dict[str, Any]:
        """Return as "unseen" the ranks whose files cannot be read on this node."""
        return {"unseen": [rank for rank in ranks if not self._sees(rank)]}

    def close(self) -> None:
        """Remove the file of this rank."""
        self._file(self._rank).unlink(missing_ok=True)

    def _file(self, rank: int) -> Path:
        return self.folder / f".check-{self._token}-{rank}"

    def _sees(self, rank: int) -> bool:
        try:
            return self._file(rank).read_bytes() == b"\1" * _TEST_FILE
        except OSError:
            return False


def checkpoint_bytes(preset: str, shape: ImageShape, widths: Sequence[int]) -> int:
    """Return the bytes of a checkpoint: both networks, the averaged generator, and Adam's moments (float32).

    Args:
        preset: name of a preset.
        shape: of the images.
        widths: label entries of each attribute.

    Raises:
        UserError: the preset's networks do not support this shape.
    """
    architecture = architecture_of(config.load(["--preset", preset]).network, shape, tuple(widths))
    try:
        with torch.device("meta"):  # shapes alone
            g, d = (_count_values(network) for network in build(architecture))
    except ValueError as error:
        raise UserError("unsupported-size", f"--preset {preset}: {error}") from None
    return 4 * (4 * g + 3 * d)


def default_shape(preset: str) -> ImageShape:
    """Return the shape of the images that a preset's name speaks of, square and in RGB."""
    return ImageShape.of(int(([str(_SMOKE_SIZE)] + re.findall(r"\d+", preset))[-1]))


def _count_values(network: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))


# ---------------------------------------------------------------- assessment


def assess(reports: Sequence[Report], preset: str | None) -> list[Finding]:
    """Assess whether a run can be written, by all nodes, and whether there is enough disk space."""
    how = "choose another --run, or fix the directory or its permissions; a run needs rename, fsync and locks (flock)"
    good, found = split_errors(reports, NAME, NAME, how, nodes)
    if not good:
        return found
    found += split_errors(reports, SEEN, NAME, how, nodes)[1]
    invisible = group_by(
        [r for r in good if r.get(SEEN, {}).get("unseen")], lambda report: tuple(report[SEEN]["unseen"])
    )
    for unseen, same in invisible.items():
        says = f"the files of {ranks(unseen)} in {same[0][NAME]['folder']} are not visible on {nodes(same)}"
        found.append(Finding(RED, NAME, says, "put the run on storage that all nodes share"))
    for report in good:
        off = report[NAME]["clock"]
        if abs(off) > _TOLERANCE:
            says = f"files in {report[NAME]['folder']} are dated {off:+.1f} s from the clock of {report['node']}"
            how = f"synchronize both clocks: another node takes a lock over after {STALE_AFTER:g} s without update"
            found.append(Finding(RED if abs(off) > STALE_AFTER / 2 else YELLOW, NAME, says, how))
    try:
        need, why = _required_space(reports, preset)
    except UserError as error:
        need, why = 0, ""
        how = "train with another --preset, or pack the images at a size that it supports"
        found.append(Finding(RED, "preset", str(error), how))
    found += _assess_space(min(good, key=lambda report: report[NAME]["free"])[NAME], need, why)
    if not any(finding.level == RED for finding in found):
        slowest = max(report[NAME]["seconds"] for report in good)
        says = f"{good[0][NAME]['folder']}: written, synced, renamed and locked in {slowest * 1e3:,.0f} ms"
        found.append(Finding(FINE, NAME, says + (f", visible on all {len(good)} nodes" if len(good) > 1 else "")))
    return found


def _required_space(reports: Sequence[Report], preset: str | None) -> tuple[float, str]:
    """Return the bytes that the run may need, and what for; raises as `checkpoint_bytes`."""
    if preset is None:
        return 0, ""
    data = next((r["data"] for r in reports if "widths" in r.get("data", {})), None)
    shape, widths = (ImageShape(*data["shape"]), data["widths"]) if data else (default_shape(preset), (32,))
    keep = config.load(["--preset", preset]).evaluation.keep + 2  # the one being written, and the best
    one = checkpoint_bytes(preset, shape, widths)
    guess = "" if data else f" (assuming {shape.describe()} pixels and 32 label entries; --shards gives exact numbers)"
    return (
        keep * one + _OTHER_FILES,
        f"{keep} checkpoints of {format_bytes(one)}{guess}, and {format_bytes(_OTHER_FILES)} for other files",
    )


def _assess_space(facts: dict[str, Any], need: float, why: str) -> list[Finding]:
    free = facts["free"]
    has = f"{format_bytes(free)} of {format_bytes(facts['total'])} are free in {facts['folder']}"
    says = f"{has}; the run needs up to {format_bytes(need)}: {why}" if need else f"{has} (quotas are not checked)"
    how = "free disk space, lower --keep, or choose another --run"
    found = []
    if need and free < need:
        found.append(Finding(RED, "disk", says, how))
    elif free < max(2 * need, _OTHER_FILES):
        found.append(Finding(YELLOW, "disk", says, how))
    else:
        found.append(Finding(FINE, "disk", says))
    if facts["inodes"] is not None and facts["inodes"] < _MIN_INODES:
        says = f"only {facts['inodes']:,} more files can be created in {facts['folder']}; a run creates hundreds"
        found.append(Finding(RED, "disk", says, "remove small files there, or choose another --run"))
    return found
