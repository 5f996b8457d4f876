"""Options of `cgan check`. Imports no torch: they are validated before any rank is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.core.cli import option, validate
from shards.core.errors import UserError
from trainer.presets import PRESETS

COMMAND = "cgan check"


@dataclass(frozen=True, kw_only=True)
class Check:
    """Check that a machine or cluster is ready for a job: versions, GPUs, network, data, disk, clocks, trackers.

    Run it on a login node, on a laptop, or as a step of a job (`srun ... cgan check`): then all its tasks take part.
    Exit status 0: no red findings; 1: red findings, each with what to do.
    """

    shards: str | None = option(None, "dataset to train on: a directory or a URL (default: not checked)", literal=True)
    run: Path | None = option(None, "run directory to write (default: runs/PRESET with --preset, else not checked)")
    preset: str | None = option(
        None, "preset to train, which determines the size of the checkpoints", choices=tuple(PRESETS)
    )
    rate: float | None = option(
        None, "expected images/s of the whole job; checks that storage and CPUs can deliver them", above=0
    )
    processes: int | None = option(
        None, "ranks to start on this machine (default: 1); not inside a step of a job", minimum=1, maximum=512
    )
    device: str = option("auto", "device to train on; auto: GPUs if available", choices=("auto", "cpu", "cuda"))
    log_with: tuple[str, ...] = option(("wandb",), "trackers to use; only wandb is checked")
    timeout: float = option(
        30, "seconds to wait for a rank, and for each check, before continuing without it", minimum=1
    )
    json: Path | None = option(None, "write findings and facts to this JSON file")

    def __post_init__(self) -> None:
        """Validate the options.

        Raises:
            UserError: a value is out of bounds, or the directory of the JSON file does not exist.
        """
        validate(self)
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise UserError("directory-missing", f"--json {self.json}: directory {self.json.parent} does not exist")
        if self.json is not None and self.json.is_dir():
            raise UserError("not-a-file", f"--json {self.json} is a directory; give a file")

    @property
    def run_directory(self) -> Path | None:
        """The run directory to check, or None."""
        return self.run or (Path("runs") / self.preset if self.preset else None)
