"""What can be asked of a check. Knows no torch: `python -m launch check` reads it before any rank is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.core.cli import option, validate
from shards.core.errors import UserError
from trainer.presets import PRESETS

COMMAND = "python -m launch check"


@dataclass(frozen=True, kw_only=True)
class Check:
    """Look whether a place is fit for a job: versions, GPUs, network, data, disk, clocks, trackers.

    On a login node, a laptop, or as a job's own step (`srun ... python -m launch check`): then all its tasks take part.
    Exit status 0: nothing red. 1: something is red; each such line says what to do.
    """

    shards: str | None = option(None, "data set that will be trained on, a folder or a URL")
    run: Path | None = option(
        None, "directory of the run that will be written; with --preset, runs/PRESET if not given"
    )
    preset: str | None = option(
        None, "preset that will be trained, for the size of its checkpoints", choices=tuple(PRESETS)
    )
    rate: float | None = option(
        None, "images/s that the whole job is to train on: do storage and CPUs keep up?", above=0
    )
    processes: int | None = option(
        None, "ranks to start on this machine; 1 if not given, and not for a job's step", minimum=1, maximum=512
    )
    device: str = option("auto", "what will be trained on", choices=("auto", "cpu", "cuda"))
    log_with: tuple[str, ...] = option(("wandb",), "trackers that will be used; of these, wandb is looked at")
    timeout: float = option(30, "seconds to wait for a rank, and for any one look, before going on without", minimum=1)
    json: Path | None = option(None, "file to write everything to, findings and the facts behind them")

    def __post_init__(self) -> None:
        """Hold the values against their bounds.

        Raises:
            UserError: a value makes no sense, or the JSON file cannot be written where it is asked for.
        """
        validate(self)
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise UserError(f"--json {self.json}: there is no folder {self.json.parent}; make it first")
        if self.json is not None and self.json.is_dir():
            raise UserError(f"--json {self.json} is a folder; name a file")

    @property
    def run_directory(self) -> Path | None:
        """Where the run will be; None: nobody said."""
        return self.run or (Path("runs") / self.preset if self.preset else None)
