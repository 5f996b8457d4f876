"""The function `trainer.train` of the public API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from shards.core.errors import UserError


def train(config: str | Path | None = None, **options: Any) -> Path:
    """Train a run in this process, as `cgan train` does; repeat the call to resume.

    Ctrl-C, SIGTERM and SIGUSR1 stop the training after a checkpoint has been saved, and then have their usual effect.

    Args:
        config: YAML file of options; it overrides the preset and is overridden by ``options``.
        options: the options of `cgan train` with underscores, such as ``preset="smoke"`` or ``lr_g=2e-4``.

    Returns:
        The run directory.

    Raises:
        UserError: an option is unknown or not valid, or something that it names does not exist.
        Failure: the training had to stop early (non-finite losses, a full disk).
        KeyboardInterrupt: Ctrl-C was pressed; the training has been saved.
    """
    from trainer.process import openmp, signals

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            "launched-in-parallel",
            "trainer.train runs in one process; for several use: accelerate launch trainer/main.py --OPTION VALUE …",
        )
    openmp.limit_spinning()
    with signals.handled():
        from trainer.config import resolve

        chosen = resolve(options, file=config)
        from trainer.setup import training

        training.train(chosen)
    return chosen.run_directory
