"""The films of `cgan exhibits RUN --film FILE`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from PIL import Image

from shards.core.cli import flag, option
from shards.core.errors import UserError
from trainer.exhibits.film_file import check_film, write_film
from trainer.exhibits.training_film import saved_grids, training_frames
from trainer.exhibits.walks import Walk, default_words, noise_walk, walk_frames, words_walk
from trainer.generation.phrase import split_phrases
from trainer.generation.sampler import Sampler
from trainer.run.exported import ExportedGenerator

_MOST_FRAMES = 3_000
_LARGEST_GRID = 64  # tiles
_FRAMES_PER_SECOND, _GRIDS_PER_SECOND = 20.0, 4.0
_SECONDS_PER_STOP = 2.0
_MOST_GRIDS = 120  # of a training, unless --seconds asks for more
_HELD = 2.0  # seconds for which the last grid of a training is shown


@dataclass(frozen=True)
class FilmOptions:
    """A film in place of image grids."""

    film: Path | None = option(
        None, "write a film instead of grids: a .webp or .gif file, or .mp4, which needs the extra film"
    )
    film_of: str | None = option(
        None,
        "what changes: noise, words, or the run's saved grids during its training (default: words if --words names "
        "several, else noise)",
        choices=("noise", "words", "training"),
    )
    words: str | None = option(
        None,
        'phrases separated by ";": of noise, one row of images each (default: anything); of words, where the walk '
        "leads (default: the values of the attribute with the most)",
        literal=True,
    )
    tiles: int = option(4, "images in a row of the film", minimum=1, maximum=_LARGEST_GRID)
    stops: int = option(4, "noises that a film of noise leads through", minimum=2, maximum=1_000)
    seconds: float | None = option(
        None, "length of the film (default: 2 per stop; of a training, 1/4 per grid)", above=0
    )
    fps: float | None = option(None, "frames per second (default: 20; of a training, 4 grids)", minimum=0.1, maximum=60)
    loop: bool = option(True, "end a walk where it began, to be played again and again; --no-loop: at the last stop")

    def require_film(self) -> None:
        """Check that there is no option of films without a film.

        Raises:
            UserError: there is one.
        """
        for field in fields(self):
            if getattr(self, field.name) != field.default:
                raise UserError("option-conflict", f"{flag(field.name)} is for films; give --film FILE.webp as well")


def make_film(sampler: Sampler, run: Path, options: FilmOptions, seed: int) -> str:
    """Write a film and return a sentence about it.

    Raises:
        UserError: an option does not fit, or a phrase cannot be read; nothing has been written.
        Failure: the film cannot be encoded or written.
    """
    assert options.film is not None
    phrases = split_phrases("--words", options.words)
    subject = options.film_of or ("words" if len(phrases) > 1 else "noise")
    fps = options.fps or (_GRIDS_PER_SECOND if subject == "training" else _FRAMES_PER_SECOND)
    check_film(options.film, fps)
    if subject == "training":
        frames, count = _training(sampler, run, options, fps)
    else:
        frames, count = _walk(sampler, options, subject, phrases, fps, seed)
    write_film(options.film, frames, count, fps)
    return f"{options.film}: {count:,} frames, {count / fps:.1f} seconds, {options.film.stat().st_size / 1e6:.1f} MB"


def _walk(
    sampler: Sampler, options: FilmOptions, subject: str, phrases: list[str], fps: float, seed: int
) -> tuple[Iterator[Image.Image], int]:
    """Return the frames of a walk, and their number."""
    if subject == "words" and len(phrases) == 1:
        raise UserError("option-conflict", '--film-of words: give several in --words "PHRASE; PHRASE", or none')
    if options.tiles * max(1, len(phrases)) > _LARGEST_GRID and subject == "noise":
        raise UserError(
            "film-too-large", f"--tiles {options.tiles}, a row per phrase: more than {_LARGEST_GRID} images in a frame"
        )
    walk: Walk
    if subject == "words":
        walk = words_walk(sampler, phrases or default_words(sampler.vocabulary), options.tiles, seed)
    else:
        walk = noise_walk(sampler, phrases or ["anything"], options.stops, options.tiles, seed)
    legs = walk.stops if options.loop else walk.stops - 1
    count = _frames(options.seconds or _SECONDS_PER_STOP * legs, fps)
    return walk_frames(sampler, walk, count, options.loop), count


def _training(sampler: Sampler, run: Path, options: FilmOptions, fps: float) -> tuple[Iterator[Image.Image], int]:
    """Return the frames of a training, and their number."""
    if isinstance(sampler.saved, ExportedGenerator):
        raise UserError("samples-missing", f"{run} is an exported generator, without grids of its training; give a run")
    for name in ("words", "tiles", "stops", "loop"):
        if getattr(options, name) != getattr(FilmOptions(), name):
            raise UserError("option-conflict", f"--film-of training shows saved grids; omit {flag(name)}")
    most = _MOST_GRIDS if options.seconds is None else _frames(options.seconds, fps)
    saved, held = saved_grids(run, most), round(_HELD * fps)
    return training_frames(saved, held), len(saved.grids) + held


def _frames(seconds: float, fps: float) -> int:
    count = max(2, round(seconds * fps))
    if count > _MOST_FRAMES:
        raise UserError(
            "film-too-large", f"{count:,} frames are above the limit of {_MOST_FRAMES:,}; give fewer --seconds or --fps"
        )
    return count
