"""`python -m launch COMMAND`, an alias of `cgan COMMAND`."""

from __future__ import annotations

import sys

from shards.core import utf8_mode
from shards.core.cli import dispatch
from shards.core.errors import exit_status
from shards.core.version import version_line

COMMANDS = {
    "check": (
        "check that a machine or cluster is ready for a job: versions, GPUs, network, data, disk",
        "launch.check:main",
    ),
    "dashboard": (
        "create or update a Weights & Biases workspace for a project's runs",
        "launch.dashboard.command:main",
    ),
    "slurm": (
        "write or submit a SLURM job that trains, or a job array that packs a dataset",
        "launch.slurm.submit:main",
    ),
}


def main() -> int:
    """Run a subcommand and return the exit status: 0, 1 (failure) or 2 (invalid input)."""
    return exit_status(lambda: dispatch(COMMANDS, sys.argv[1:], program="python -m launch", version=version_line()))


if __name__ == "__main__":
    utf8_mode.ensure()
    sys.exit(main())
