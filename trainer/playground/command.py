"""The command `cgan playground RUN`: one HTML file in which the run's generator draws by words, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from shards.core import cli
from shards.core.atomic_io import explain_disk_errors, write_bytes
from shards.core.cli import argument, option
from shards.core.errors import UserError
from shards.core.version import __version__
from trainer.generation.sampler import Sampler, default_output, load
from trainer.models import image_shape
from trainer.noise import normal
from trainer.playground.encoding import choose_dtype, encode, require_operators
from trainer.playground.page import page
from trainer.playground.page_data import page_data, require_words
from trainer.playground.program import trace
from trainer.reporting.run_report import PLAYGROUND, write_report

_COMPARED = 16  # images that decide how weights are stored
_LARGE = 100 << 20  # bytes, above which a phone may fail to open the page


@dataclass(frozen=True)
class PlaygroundOptions:
    """Write a page in which a generator draws by words, in any browser and without a network."""

    run: Path = argument("run directory, or an exported generator: a folder, or hf://user/name")
    out: Path | None = option(
        None, "an .html file (default: RUN/playground.html; of an exported generator: ./playground.html)"
    )
    title: str | None = option(None, "title of the page (default: the name of the run or folder)")
    checkpoint: str | None = option(None, "images seen of the checkpoint to load, or best (default: the newest)")

    def __post_init__(self) -> None:
        """Check every value against its bounds."""
        cli.validate(self)


def main(argv: Sequence[str]) -> None:
    """Run `cgan playground`.

    Raises:
        UserError: there is no such run or checkpoint, it reads sentences, or a page cannot run its generator; nothing
            has been written.
    """
    options = cli.parse(PlaygroundOptions, argv, command="cgan playground")
    if options.out and (options.out.suffix.lower() not in (".html", ".htm") or options.out.is_dir()):
        raise UserError("invalid-output-name", f"--out {options.out}: give the name of an .html file")
    sampler = load(options.run, options.checkpoint, "cpu")
    content = playground(sampler, options.title or options.run.resolve().name).encode("utf-8", "replace")
    out = options.out or default_output(sampler, options.run, PLAYGROUND)
    with explain_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, content)
    if out == options.run / PLAYGROUND and (options.run / "report.html").exists():
        write_report(options.run)  # which links the page
    print(f"{out}: {len(content) / 1e6:.1f} MB; open it in a browser")
    if len(content) > _LARGE:
        print("it is large: a phone may not open it, and a drawing may take seconds")


def playground(sampler: Sampler, title: str) -> str:
    """Return the page of a generator as HTML.

    Raises:
        UserError: the run reads sentences, or a page cannot run its generator.
    """
    require_words(sampler.vocabulary)
    program = trace(sampler.generator, sampler.noise_size, sampler.schema.widths)
    require_operators(program)
    z = normal(0, "noise to sample", torch.arange(_COMPARED), sampler.noise_size)
    labels = sampler.labels_for("anything", _COMPARED)
    encoded = encode(program, choose_dtype(program, z.numpy(), labels.label, labels.known))
    shape = image_shape(sampler.saved.state.architecture)
    facts = (
        f"{title}: {shape} pixels, after {sampler.saved.images_seen:,} training images. "
        f"Written by cgan-trainer {__version__}."
    )
    data = page_data(sampler.vocabulary, shape, sampler.noise_size, encoded.content)
    return page(title, facts, data, encoded.weights)
