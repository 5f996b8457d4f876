"""`python -m trainer COMMAND`."""

from __future__ import annotations

import sys

from shards.core.cli import dispatch
from shards.core.version import version_line
from trainer.process import openmp
from trainer.process.exit import end

COMMANDS = {
    "train": ("train a generator (several processes: accelerate launch trainer/main.py)", "trainer.main:train"),
    "sample": ("draw pictures by words from a trained run", "trainer.generation.sample:main"),
    "judge": (
        "say how well a classifier of a data set's labels sees each attribute",
        "trainer.evaluation.judge.command:main",
    ),
    "evaluate": (
        "measure how good pictures are, and whether they show their labels",
        "trainer.evaluation.evaluate:main",
    ),
    "exhibits": ("draw what labels and noise do", "trainer.evaluation.exhibits:main"),
    "compare": ("set runs side by side: options, metrics, evaluations, curves", "trainer.reporting.comparison:main"),
    "report": ("write a run's report.html anew", "trainer.reporting.run_report:main"),
    "demo": ("faces, pack, train, sample: the whole way on a small example", "trainer.demo:main"),
}


def main() -> None:
    """Run a subcommand; the exit status is 0, 2 for a mistake in what was asked, 1 for trouble on the way."""
    openmp.bound()
    end(lambda: dispatch(COMMANDS, sys.argv[1:], program="python -m trainer", version=version_line()))


if __name__ == "__main__":
    main()
