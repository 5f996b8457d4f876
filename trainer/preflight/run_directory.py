"""The place where a run will be written: room for its checkpoints, what the run relies on there, seen by all nodes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from shards.core import atomic_io
from shards.core.errors import UserError
from trainer import config
from trainer.models import architecture_of
from trainer.networks import build
from trainer.preflight.findings import FINE, RED, YELLOW, Finding, Report, amount, errors, groups, nodes, ranks
from trainer.run.lock import SILENCE

NAME = "run"
SEEN = "run of the others"
_BESIDE = 200e6  # bytes for all that is no checkpoint: grids, metrics, the report, a tracker's files; a bound
_PIECE = 1 << 20  # bytes
_APART = 2.0  # seconds
_INODES = 1_000
_SMOKE = 16  # pixels of the pictures that preset smoke draws for itself


class RunPlace:
    """Tries a run's directory, or the folder above it that is there; what was written for that goes when it is closed.

    Args:
        run: the run's directory, which need not be there.
        token: of this check, so that two do not meet in one file.
        rank: of the one who looks.
    """

    def __init__(self, run: Path, token: str, rank: int) -> None:
        self.run, self._token, self._rank = run, token, rank

    @cached_property
    def folder(self) -> Path:
        """The run's directory, or the nearest folder above it that is there."""
        return next(place for place in (self.run.absolute(), *self.run.absolute().parents) if place.exists())

    def look(self) -> dict[str, Any]:
        """Write as a run does: beside, synced, renamed, under a lock.

        Returns:
            "folder", "free" and "total" bytes, "inodes" (None: the file system does not count them), "seconds" that a
            megabyte took, "clock": how far the file server's clock is ahead of this machine's, in seconds.

        Raises:
            UserError: something of that is refused.
        """
        if not self.folder.is_dir():
            raise UserError(f"{self.run} cannot be made: {self.folder} is no folder")
        room = os.statvfs(self.folder)
        facts = {
            "folder": str(self.folder),
            "free": room.f_bavail * room.f_frsize,
            "total": room.f_blocks * room.f_frsize,
            "inodes": room.f_favail if room.f_files else None,
        }
        mine, begun = self._file(self._rank), time.perf_counter()
        with atomic_io.explain_disk_errors(mine), atomic_io.file_lock(mine, f"{mine} is locked, by nobody who should"):
            mine.write_bytes(b"\0" * _PIECE)  # takes the room that the rename below must have twice
        atomic_io.write_bytes(mine, b"\1" * _PIECE)
        seconds, after = time.perf_counter() - begun, time.time()
        return {**facts, "seconds": seconds, "clock": mine.stat().st_mtime - after}

    def others(self, ranks: Sequence[int]) -> dict[str, Any]:
        """ "unseen": which of the ranks have written files that cannot be read from here."""
        return {"unseen": [rank for rank in ranks if not self._sees(rank)]}

    def close(self) -> None:
        """Remove what this rank has written."""
        self._file(self._rank).unlink(missing_ok=True)

    def _file(self, rank: int) -> Path:
        return self.folder / f".check-{self._token}-{rank}"

    def _sees(self, rank: int) -> bool:
        try:
            return self._file(rank).read_bytes() == b"\1" * _PIECE
        except OSError:
            return False


def checkpoint_bytes(preset: str, size: int, widths: Sequence[int]) -> int:
    """Bytes of one checkpoint of a preset: both networks, G's average, and two moments of each (float32).

    Args:
        size: side of the pictures.
        widths: of the label's attributes.

    Raises:
        UserError: the preset's networks do not draw this size.
    """
    architecture = architecture_of(config.load(["--preset", preset]).network, size, tuple(widths))
    try:
        with torch.device("meta"):  # shapes alone
            g, d = (_floats(network) for network in build(architecture))
    except ValueError as error:
        raise UserError(f"--preset {preset}: {error}") from None
    return 4 * (4 * g + 3 * d)


def usual_size(preset: str) -> int:
    """The side of the pictures that a preset is named for."""
    return int(([str(_SMOKE)] + re.findall(r"\d+", preset))[-1])


def _floats(network: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))


# ---------------------------------------------------------------- judged


def judge(reports: Sequence[Report], preset: str | None) -> list[Finding]:
    """Whether a run can be kept there, and how long the room lasts."""
    how = "choose another --run, or have the folder or its rights mended; a run needs renames, fsync and locks (flock)"
    good, found = errors(reports, NAME, NAME, how, nodes)
    if not good:
        return found
    found += errors(reports, SEEN, NAME, how, nodes)[1]
    alone = groups([r for r in good if r.get(SEEN, {}).get("unseen")], lambda report: tuple(report[SEEN]["unseen"]))
    for unseen, there in alone.items():
        says = f"what {ranks(unseen)} wrote in {there[0][NAME]['folder']} is not seen on {nodes(there)}"
        found.append(Finding(RED, NAME, says, "put the run on storage that all nodes share"))
    for report in good:
        off = report[NAME]["clock"]
        if abs(off) > _APART:
            says = f"the files of {report[NAME]['folder']} are dated {off:+.1f} s from the clock of {report['node']}"
            how = f"have both clocks set: a run's lock is taken over by another node after {SILENCE:g} s of silence"
            found.append(Finding(RED if abs(off) > SILENCE / 2 else YELLOW, NAME, f"{says}", how))
    try:
        need, why = _need(reports, preset)
    except UserError as error:
        need, why = 0, ""
        how = "train with another --preset, or pack the pictures at a size that it draws"
        found.append(Finding(RED, "preset", str(error), how))
    found += _room(min(good, key=lambda report: report[NAME]["free"])[NAME], need, why)
    if not any(finding.level == RED for finding in found):
        slowest = max(report[NAME]["seconds"] for report in good)
        says = f"{good[0][NAME]['folder']}: written, synced, renamed and locked in {slowest * 1e3:,.0f} ms"
        found.append(Finding(FINE, NAME, says + (f", seen by all {len(good)} nodes" if len(good) > 1 else "")))
    return found


def _need(reports: Sequence[Report], preset: str | None) -> tuple[float, str]:
    """Bytes that the run may take, and what of; raises as `checkpoint_bytes`."""
    if preset is None:
        return 0, ""
    data = next((r["data"] for r in reports if "widths" in r.get("data", {})), None)
    size, widths = (data["size"], data["widths"]) if data else (usual_size(preset), (32,))
    keep = config.load(["--preset", preset]).evaluation.keep + 2  # one that is being written, and the best
    one = checkpoint_bytes(preset, size, widths)
    guess = "" if data else f" (for {size}x{size} and 32 label entries; --shards says it exactly)"
    return keep * one + _BESIDE, f"{keep} checkpoints of {amount(one)}{guess}, and {amount(_BESIDE)} beside"


def _room(facts: dict[str, Any], need: float, why: str) -> list[Finding]:
    free = facts["free"]
    has = f"{amount(free)} of {amount(facts['total'])} are free for {facts['folder']}"
    says = f"{has}; the run takes up to {amount(need)}: {why}" if need else f"{has} (a quota is not seen here)"
    how = "make room, lower --keep, or choose another --run"
    found = []
    if need and free < need:
        found.append(Finding(RED, "disk", says, how))
    elif free < max(2 * need, _BESIDE):
        found.append(Finding(YELLOW, "disk", says, how))
    else:
        found.append(Finding(FINE, "disk", says))
    if facts["inodes"] is not None and facts["inodes"] < _INODES:
        says = f"{facts['inodes']:,} more files can be made in {facts['folder']}, and a run makes hundreds"
        found.append(Finding(RED, "disk", says, "remove small files there, or choose another --run"))
    return found
