"""Draw images until a judge accepts each, or the discriminator's choice of several; `trainer.sample`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.core.errors import UserError
from shards.core.rng import LARGEST_SEED
from shards.dataset.label_rows import Labels
from trainer.generation.sampler import Sampler, load
from trainer.models import load_discriminator
from trainer.networks.discriminator import Discriminator
from trainer.run import hub
from trainer.sampling import receipt
from trainer.sampling.candidates import MAX_CANDIDATES, Candidates, Chosen, until_accepted

if TYPE_CHECKING:  # judges take more imports than an image does
    from trainer.sampling.verification import Calibration, Verifier

PROMISE, MOST_DRAWS = 0.9, 100  # defaults
LOWEST_PROMISE, HIGHEST_PROMISE = 0.5, 0.99
MOST_RANKED = 1000
LARGEST_MOST_DRAWS = MAX_CANDIDATES // MOST_RANKED


@dataclass(frozen=True)
class Choice:
    """How images are chosen among candidates.

    Attributes:
        sampler: draws them.
        verifier: accepts them; None accepts everything.
        promise: fraction of the accepted images that show every word asked for, in [0.5, 0.99].
        best_of: candidates of each try, of which the discriminator chooses one, from 1 on.
        most_draws: tries for an image, before it is given up.
    """

    sampler: Sampler
    verifier: Verifier | None = None
    promise: float = PROMISE
    best_of: int = 1
    most_draws: int = MOST_DRAWS

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: a value is out of its bounds.
        """
        bounds: dict[str, tuple[float, float, float]] = {
            "--promise": (self.promise, LOWEST_PROMISE, HIGHEST_PROMISE),
            "--best-of": (self.best_of, 1, MOST_RANKED),
            "--most-draws": (self.most_draws, 1, LARGEST_MOST_DRAWS),
        }
        for name, (value, least, most) in bounds.items():
            if not least <= value <= most:
                raise UserError("invalid-value", f"{name} {value:g}: give a number from {least:g} to {most:g}")

    @property
    def is_made(self) -> bool:
        """Whether there is anything to choose among; otherwise images are drawn as `Sampler.generate` does."""
        return self.verifier is not None or self.best_of > 1

    @cached_property
    def discriminator(self) -> Discriminator | None:
        """The network that ranks candidates; None if there is nothing to rank."""
        if self.best_of == 1:
            return None
        try:
            return load_discriminator(self.sampler.saved, self.sampler.device)
        except UserError as error:
            raise type(error)(error.code, f"--best-of {self.best_of}: {error}") from None

    def calibrate(self, phrase: str) -> Calibration | None:
        """Return the threshold for a phrase; None if nothing is verified.

        Raises:
            UserError: see `Verifier.calibrate`; or there is no discriminator to rank candidates.
        """
        discriminator = self.discriminator
        if self.verifier is None:
            return None
        return self.verifier.calibrate(phrase, self.promise, self.most_draws, self.best_of, discriminator)

    def choose(self, labels: Labels, seed: int, calibration: Calibration | None, start: int = 0) -> Chosen:
        """Choose an image for each label; the same for any number of labels at once.

        Args:
            labels: n labels of one phrase.
            seed: determines the noise.
            calibration: of the phrase, see `calibrate`.
            start: number of the first label's image.
        """
        candidates = Candidates(self.sampler, labels, seed, start, self.best_of, self.discriminator)
        verifier = self.verifier
        if calibration is None or verifier is None:
            rows = np.arange(len(labels.label))
            first = np.zeros_like(rows)
            images, chosen = (
                candidates.draw(rows, first) if self.is_made else (self.sampler.generate(labels, seed, start), first)
            )
            return Chosen(rows, images, chosen, np.full(len(rows), np.nan), np.ones_like(rows))
        threshold = calibration.rung.threshold
        return until_accepted(
            candidates, lambda images: verifier.certainty(calibration.request, images), threshold, self.most_draws
        )


def verified_choice(choice: Choice, run: Path, shards: str | None, *, progress: bool = True) -> Choice:
    """Return a choice that judges of the run's dataset verify; training them may take minutes.

    Args:
        choice: without a verifier.
        run, shards, progress: see `Verifier.open`.

    Raises:
        UserError: there is no discriminator to rank candidates, or see `Verifier.open`.
        Failure: the dataset's images cannot be read.
    """
    from trainer.sampling.verification import Verifier

    _ = choice.discriminator  # what it lacks is told before judges are trained
    return replace(choice, verifier=Verifier.open(choice.sampler, run, shards, progress=progress))


@dataclass(frozen=True)
class Drawings:
    """Result of `trainer.sample`.

    Attributes:
        images: uint8 (n, C, H, W), those that were accepted, in order.
        missing: numbers, from 0 on, of the requested images of which no try was accepted.
        receipt: what was asked for and how it was checked; the content of the file that `cgan sample` writes.
    """

    images: np.ndarray
    missing: tuple[int, ...]
    receipt: Mapping[str, Any]


def sample(
    run: str | Path,
    phrase: str,
    *,
    count: int = 16,
    seed: int = 0,
    verified: bool = False,
    promise: float = PROMISE,
    best_of: int = 1,
    most_draws: int = MOST_DRAWS,
    checkpoint: str | int | None = None,
    shards: str | Path | None = None,
    text_encoder: str | None = None,
    device: str = "auto",
    verbose: bool = False,
) -> Drawings:
    """Generate images of a phrase, and choose among them: by a judge, by the discriminator, or both.

    The same arguments give the same images, and image i does not depend on ``count``.

        >>> drawings = trainer.sample("runs/first", "blue hair, long hair", count=4, verified=True)
        >>> drawings.images.shape, drawings.receipt["phrases"][0]["drawn"]

    Args:
        run: run directory. An exported generator has no discriminator, and needs ``shards`` to be verified.
        phrase: such as "blue hair, long hair"; see `Sampler.sample`.
        count: number of images.
        seed: determines the noise and the attributes that the phrase does not name, in [0, 2**63).
        verified: draw each image until a judge sees every word of the phrase. The first call on a dataset trains two
            judges of its labels (about a minute each), those of `trainer.evaluate`; they are cached.
        promise: fraction of the verified images that show every word, in [0.5, 0.99]; docs/evaluation.md says what
            it means. Attributes that the phrase does not name are not checked.
        best_of: candidates of each try, of which the discriminator chooses one.
        most_draws: tries for an image, before it is given up.
        checkpoint: images seen of the checkpoint, or "best"; None for the newest.
        shards: directory or URL of the run's dataset; None for where it was during training.
        text_encoder: folder of the text encoder of the captions, if it has moved.
        device: "auto", "cpu", "cuda" or "mps".
        verbose: show progress bars on a terminal.

    Raises:
        UserError: the phrase cannot be read or verified, no threshold keeps the promise, or a network or the dataset
            is missing.
        Failure: images cannot be read.
    """
    if count < 1:
        raise UserError("invalid-value", f"count {count}: give a number from 1 on")
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError("invalid-value", f"seed {seed}: give a number from 0 to {LARGEST_SEED}")
    folder = hub.located(run)
    sampler = load(folder, checkpoint, device, text_encoder)
    choice = Choice(sampler, None, promise, best_of, most_draws)
    if verified:
        choice = verified_choice(choice, folder, None if shards is None else str(shards), progress=verbose)
    calibration = choice.calibrate(phrase)
    chosen = choice.choose(sampler.labels_for(phrase, count, seed), seed, calibration)
    record = receipt.PhraseRecord(phrase, calibration)
    record.add(chosen, 0)
    content = receipt.content(choice, seed, count, [record])
    return Drawings(chosen.images, tuple(record.missing), content)
