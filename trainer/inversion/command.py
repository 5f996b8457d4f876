"""The command `cgan invert RUN IMAGE`: draw one's own image with a generator, then change words and keep the rest."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from shards.core import cli
from shards.core.atomic_io import explain_disk_errors, sha256, write_json
from shards.core.cli import argument, option, section, seed_option
from shards.core.errors import UserError
from shards.dataset.image_shape import ImageShape
from shards.dataset.images import FITS, colour
from shards.dataset.label_rows import Labels
from trainer.generation import image_grid
from trainer.generation.generate import generate_images
from trainer.generation.load_options import LoadOptions
from trainer.generation.phrase import ANYTHING, split_phrases
from trainer.generation.sampler import Sampler
from trainer.inversion.features import FEATURES, FeatureDistance, open_features
from trainer.inversion.labels import Candidates, with_entries
from trainer.inversion.reading import read_label
from trainer.inversion.record import record, require_free
from trainer.inversion.references import dataset_images, open_held_out, own_drawings
from trainer.inversion.search import Inversion, Settings, invert
from trainer.inversion.target import read_target
from trainer.inversion.verdict import cut_short, verdict
from trainer.models import image_shape
from trainer.run import hub
from trainer.run.exported import ExportedGenerator

_RECORDED = ("as_", "seed", "steps", "restarts", "draws", "references", "features", "fit", "background")  # options
_NAMED = 5  # words in a sentence


@dataclass(frozen=True)
class InvertOptions:
    """Find the noise with which a generator draws your own image, then change words and keep the rest."""

    run: Path = argument("run directory, or an exported generator: a folder, or hf://user/name")
    image: Path = argument("the image, of any format, size and mode; it is cropped and resized as `cgan pack` does")
    as_: str | None = option(
        None, 'words that describe it, such as "green hair"; the rest is read off the image, or tried', literal=True
    )
    change: str | None = option(
        None, 'words to change, such as "blue hair"; several changes are separated by ";"', literal=True
    )
    out: Path | None = option(
        None,
        "a .png file for the panel; noise, labels and distances are written next to it as .json (default: "
        "RUN/inverted/IMAGE.png, and IMAGE-inverted.png here for an exported generator)",
    )
    seed: int = seed_option("determines all random numbers")
    steps: int = option(300, "steps of gradient descent", minimum=1, maximum=100_000)
    restarts: int = option(4, "drawings that are improved, of which the best is kept", minimum=1, maximum=256)
    draws: int = option(512, "random drawings that those are chosen from", minimum=1, maximum=100_000)
    references: int = option(
        2, "drawings of the generator that are inverted too, to compare with", minimum=0, maximum=100
    )
    held_out: str | None = option(
        None, "packed dataset of images to compare with that the generator has not seen", literal=True
    )
    features: str = option(
        "auto",
        "network whose features are compared besides pixels: the run's discriminator, EfficientNet-Lite0 (extra "
        "evaluation), or none (default: the first that there is)",
        choices=FEATURES,
    )
    minutes: float | None = option(None, "time limit, after which the best so far is kept (default: none)", above=0)
    fit: str = option("crop", "how an image of another shape is fitted", choices=FITS)
    background: str = option("white", "colour behind a transparent or padded image")
    load: LoadOptions = section(LoadOptions)

    def __post_init__(self) -> None:
        """Check every value against its bounds."""
        cli.validate(self)
        colour(self.background)
        if self.out is not None and (self.out.suffix.lower() != ".png" or self.out.is_dir()):
            raise UserError("invalid-output-name", f"--out {self.out}: give the name of a .png file")
        if self.held_out is not None and not self.references:
            raise UserError(
                "option-conflict", "--held-out: --references 0 compares with no image; give the number of images"
            )


def main(argv: Sequence[str]) -> None:
    """Run `cgan invert`.

    Raises:
        UserError: there is no such run or image, or words cannot be read; nothing has been written.
    """
    options = cli.parse(InvertOptions, argv, command="cgan invert")
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    run = hub.located(options.run)
    sampler = options.load.open(run)
    panel = options.out or _default_output(sampler, run, options.image)
    require_free(panel, options.image)
    shape = image_shape(sampler.saved.state.architecture)
    target = read_target(options.image, shape, options.fit, options.background)
    candidates, reader = _candidates(sampler, run, target, options.as_)
    changes = {phrase: sampler.vocabulary.read(phrase) for phrase in split_phrases("--change", options.change)}
    notes: list[str] = []
    compared = _compared(sampler, options, shape, notes)
    features = open_features(sampler, options.features, notes)

    with explain_disk_errors(panel):
        panel.parent.mkdir(parents=True, exist_ok=True)
    settings = Settings(options.steps, options.restarts, options.draws, options.seed)
    found, reached = _search(sampler, target, candidates, compared, features, settings, deadline)
    if words := candidates.misread(found.label):
        more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
        notes.append(f"the {reader} read {', '.join(words[:_NAMED])}{more}, but other words draw the image better")
    if note := cut_short(found, reached, settings):
        notes.append(note)
    sentence = verdict(found, reached, settings, features.name if features else None)

    changed = {phrase: with_entries(sampler.schema, found.label, *named) for phrase, named in changes.items()}
    content = {
        "image": options.image.name,
        "image_sha256": sha256(options.image),
        "images_seen": sampler.saved.images_seen,
        "options": {name.rstrip("_"): getattr(options, name) for name in _RECORDED},
        "labels_read_by": reader,
        **record(sampler.schema, found, reached, changed),
        "features": features.name if features else None,
        "verdict": sentence,
        "notes": notes,
    }
    _save_panel(panel, sampler, target, found, changed)
    write_json(panel.with_suffix(".json"), content)
    words = ", ".join(sampler.schema.words(found.label.label[0], found.label.known[0])) or ANYTHING
    print(f"{panel}: drawn as {words}" + (f" (read by the {reader})" if reader else ""))
    print("\n".join([sentence, *notes]))


def _search(
    sampler: Sampler,
    target: np.ndarray,
    candidates: Candidates,
    compared: dict[str, list[tuple[np.ndarray, Labels]]],
    features: FeatureDistance | None,
    settings: Settings,
    deadline: float | None,
) -> tuple[Inversion, dict[str, list[Inversion]]]:
    """Invert the image, then those to compare with, by kind; the time left is shared equally among those to come."""
    count = 1 + sum(map(len, compared.values()))
    remaining = iter(range(count, 0, -1))
    with _progress(settings.steps * count) as advance:

        def search(image: np.ndarray, labels: Candidates) -> Inversion:
            shared = replace(settings, deadline=_share(deadline, next(remaining)))
            return invert(sampler.generator, image, labels, features, sampler.noise_size, shared, advance)

        found = search(target, candidates)
        reached = {
            kind: [search(image, candidates.of(label.label[0], label.known[0])) for image, label in images]
            for kind, images in compared.items()
        }
    return found, reached


def _save_panel(path: Path, sampler: Sampler, target: np.ndarray, found: Inversion, changed: dict[str, Labels]) -> None:
    """Save the image, its drawing, and its drawing with each change."""
    z = found.z[None].to(sampler.device)
    drawn = [generate_images(sampler.generator, z, label)[0] for label in changed.values()]
    images = np.stack([target, found.image, *drawn])
    image_grid.save(image_grid.grid(images, len(images), column_titles=["original", "drawing", *changed]), path)


def _default_output(sampler: Sampler, run: Path, image: Path) -> Path:
    if isinstance(sampler.saved, ExportedGenerator):
        return Path(f"{image.stem}-inverted.png")
    return run / "inverted" / f"{image.stem}.png"


def _candidates(sampler: Sampler, run: Path, image: np.ndarray, words: str | None) -> tuple[Candidates, str | None]:
    """Return the labels that an image may have, and who read what the words leave open; None if nobody did.

    Raises:
        UserError: the words cannot be read.
    """
    vocabulary = sampler.vocabulary
    label, named = vocabulary.read(ANYTHING if words is None else words)
    reading = None if named.all() else read_label(sampler, run, image)
    if reading is None or not (reading.read & ~named).any():
        return Candidates(vocabulary, label, named, np.zeros_like(named)), None
    entries = np.repeat(named, vocabulary.schema.widths)
    return Candidates(vocabulary, np.where(entries, label, reading.label), named, reading.read & ~named), reading.reader


def _compared(
    sampler: Sampler, options: InvertOptions, shape: ImageShape, notes: list[str]
) -> dict[str, list[tuple[np.ndarray, Labels]]]:
    """Return the images, with their labels, on which the same search is run to compare with."""
    compared = {"own": list(own_drawings(sampler, options.references, options.seed))} if options.references else {}
    if options.held_out is not None:
        dataset = open_held_out(options.held_out, sampler, shape)
        if dataset.fingerprint == sampler.saved.state.data:
            notes.append("--held-out is the dataset that the generator was trained on: it has seen these images")
        compared["held_out"] = list(dataset_images(dataset, options.references, options.seed))
    return compared


def _share(deadline: float | None, searches: int) -> float | None:
    """Return the deadline of the next of some searches that share the time until a deadline equally."""
    if deadline is None:
        return None
    now = time.monotonic()
    return now + (deadline - now) / searches


@contextlib.contextmanager
def _progress(steps: int) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal; yield what advances it."""
    hidden = not sys.stderr.isatty()
    with tqdm(total=steps, desc="search", unit="step", dynamic_ncols=True, disable=hidden) as bar:
        yield bar.update
