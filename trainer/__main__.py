"""`python -m trainer COMMAND`, an alias of `cgan COMMAND`."""

from __future__ import annotations

import sys

from shards.core import utf8_mode
from shards.core.cli import dispatch
from shards.core.version import version_line
from trainer.process import openmp
from trainer.process.exit import end

COMMANDS = {
    "train": ("train a generator (several processes: accelerate launch trainer/main.py)", "trainer.main:train"),
    "sample": ("generate images with given labels from a trained run", "trainer.sampling.command:main"),
    "export": (
        "export a generator for use elsewhere: safetensors, ONNX, torch.export",
        "trainer.export.command:main",
    ),
    "push": ("send a generator with a model card to the Hugging Face Hub", "trainer.export.push:main"),
    "judge": (
        "train a label classifier on a dataset, and report its accuracy for each attribute",
        "trainer.evaluation.judge.command:main",
    ),
    "evaluate": (
        "measure image quality and label accuracy of a run",
        "trainer.evaluation.evaluate:main",
    ),
    "ema": ("rebuild averages of any length of a run's generator, and keep the best", "trainer.averages.command:main"),
    "exhibits": ("draw grids and films that show the effect of labels and noise", "trainer.exhibits.command:main"),
    "invert": (
        "draw one's own image with a run's generator, then change words",
        "trainer.inversion.command:main",
    ),
    "playground": (
        "write a page in which a run's generator draws by words, in any browser",
        "trainer.playground.command:main",
    ),
    "serve": (
        "draw images by words over HTTP, with the playground as its page",
        "trainer.serving.command:main",
    ),
    "compare": ("compare runs: options, metrics, evaluations, curves", "trainer.reporting.comparison:main"),
    "report": ("regenerate the report.html of a run", "trainer.reporting.run_report:main"),
    "demo": ("run a small example end to end: draw faces, pack, train, sample, playground", "trainer.demo:main"),
}


def main() -> None:
    """Run a subcommand; exits with status 0, 1 (failure) or 2 (invalid input)."""
    utf8_mode.ensure()
    openmp.limit_spinning()
    end(lambda: dispatch(COMMANDS, sys.argv[1:], program="python -m trainer", version=version_line()))


if __name__ == "__main__":
    main()
