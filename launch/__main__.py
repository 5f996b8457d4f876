"""`python -m launch COMMAND`."""

from __future__ import annotations

import sys

from shards.core.cli import dispatch
from shards.core.errors import exit_status
from shards.core.version import version_line

COMMANDS = {
    "check": ("look whether a place is fit for a job: versions, GPUs, network, data, disk", "launch.check:main"),
    "dashboard": ("make or update a Weights & Biases workspace for a project's runs", "launch.dashboard.command:main"),
    "slurm": ("write or submit a SLURM job that trains, or an array of jobs that packs", "launch.slurm.submit:main"),
}


def main() -> int:
    """Run a subcommand; the exit status is 0, 2 for a mistake in what was asked, 1 for trouble on the way."""
    return exit_status(lambda: dispatch(COMMANDS, sys.argv[1:], program="python -m launch", version=version_line()))


if __name__ == "__main__":
    sys.exit(main())
