"""`python -m trainer COMMAND`."""

from __future__ import annotations

import sys

from shards import version_line
from shards.options import dispatch
from trainer import spinning
from trainer.ending import end

COMMANDS = {
    "train": ("train a generator (several processes: accelerate launch trainer/main.py)", "trainer.main:train"),
    "sample": ("draw pictures by words from a trained run", "trainer.sample:main"),
    "judge": ("say how well a classifier of a data set's labels sees each attribute", "trainer.judge_table:main"),
    "evaluate": ("measure how good pictures are, and whether they show their labels", "trainer.evaluate:main"),
    "exhibits": ("draw what labels and noise do", "trainer.exhibits:main"),
    "compare": ("set runs side by side: options, metrics, evaluations, curves", "trainer.compare:main"),
    "report": ("write a run's report.html anew", "trainer.report:main"),
    "demo": ("faces, pack, train, sample: the whole way on a small example", "trainer.demo:main"),
}


def main() -> None:
    """Run a subcommand; the exit status is 0, 2 for a mistake in what was asked, 1 for trouble on the way."""
    spinning.bound()
    end(lambda: dispatch(COMMANDS, sys.argv[1:], program="python -m trainer", version=version_line()))


if __name__ == "__main__":
    main()
