"""Verification: the judges of a run's dataset, and how certain the first must be to keep a promise for a phrase.

Two sets of images calibrate its threshold, and each must keep the promise:

- held-out real images, whose labels are the truth: is what the judge reads with such certainty right?
- images that the generator draws of the phrase, which have no truth. The second judge, of another architecture, trained
  from another seed on another split, takes its place: does it see all words in what the first accepts?

The drawn ones are like those that will be drawn (other noise of the same generator), so the bound of what the second
judge sees holds for them. The real ones guard against two judges that err alike.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from shards.core.errors import UserError
from shards.dataset.label_rows import Labels
from trainer.evaluation.apartness import influences_of, is_taught, judged_dataset
from trainer.evaluation.judge.judge import SECOND, Judge, judge_of, read_held_out
from trainer.evaluation.metrics.combinations import label_values
from trainer.evaluation.metrics.label_accuracy import reason_to_doubt
from trainer.evaluation.run_and_dataset import open_dataset_of
from trainer.generation.sampler import Sampler
from trainer.networks.discriminator import Discriminator
from trainer.run.exported import ExportedGenerator
from trainer.sampling.calibration import Outcomes, Rung, best, climb, lowest
from trainer.sampling.candidates import Candidates, in_blocks
from trainer.sampling.reading import Request, read

REAL, DRAWN = "real", "drawn"  # the calibration sets
_SEED = 1 << 63  # of the drawings that calibrate: no seed that a person gives, and the same threshold for all seeds
_AT_ONCE = 128  # calibration drawings, before the number of accepted ones is looked at
_WRONG = 30  # calibration drawings are as many as have so many wrong ones if the promise is just kept
_FEWEST_ACCEPTED, _MOST_ACCEPTED = 300, 5_000
_MOST_TRIES = 4  # calibration drawings, as a multiple of those that the judge should accept


@dataclass(frozen=True)
class Calibration:
    """The threshold for a phrase.

    Attributes:
        request: what the phrase asks for.
        rung: the threshold, and the evidence for it.
        drawings: drawings that calibrated it, accepted or not.
    """

    request: Request
    rung: Rung
    drawings: int


@dataclass(frozen=True)
class Verifier:
    """Two judges of a run's dataset, with what the first reads in held-out real images.

    Attributes:
        sampler: the run's generator.
        judge: accepts images.
        referee: the second judge.
        logits: of the judge for the held-out images, float32 (n, L).
        labels: of these images.
        notes: what a reader of a receipt must know.
        progress: show bars, on a terminal.
    """

    sampler: Sampler
    judge: Judge
    referee: Judge
    logits: np.ndarray
    labels: Labels
    notes: tuple[str, ...]
    progress: bool

    @classmethod
    def open(cls, sampler: Sampler, run: Path, shards: str | None, *, progress: bool = True) -> Verifier:
        """Load the judges that `cgan evaluate` uses, or train and cache them.

        Args:
            sampler: what `load` returned for ``run``.
            shards: directory or URL of the run's dataset; None for where it was during training.
            progress: show bars, on a terminal.

        Raises:
            UserError: there is no such dataset, or its labels cannot be judged.
            Failure: its images cannot be read.
        """
        if isinstance(sampler.saved, ExportedGenerator) and shards is None:
            raise UserError(
                "dataset-missing",
                f"{run} is an exported generator, without the images that a judge learns from; give the dataset that "
                "it was trained on with --shards",
            )
        dataset = open_dataset_of(sampler, run, shards)
        influences = influences_of(run, sampler.saved, [])
        learned, notes = judged_dataset(dataset, influences), []
        if is_taught(learned, influences):
            notes.append(
                "the judges learned from the images whose labels a classifier in the discriminator learned, too, so "
                "that generator and judges may err alike; `cgan pack --validation` keeps images for the judges"
            )
        device = str(sampler.device)
        judge = judge_of(learned, device=device, progress=progress)
        referee = judge_of(learned, device=device, progress=progress, **SECOND)
        logits, labels = read_held_out(judge, learned, progress=progress)
        return cls(sampler, judge, referee, logits, labels, tuple(notes), progress)

    def certainty(self, request: Request, images: np.ndarray) -> np.ndarray:
        """Return the judge's probability of all words in images uint8 (n, C, H, W); 0 where it does not see one."""
        return request.certainty(in_blocks(self.judge.logits, images))

    def calibrate(
        self, phrase: str, promise: float, ranked: int = 1, discriminator: Discriminator | None = None
    ) -> Calibration:
        """Return the threshold that keeps a promise for a phrase.

        Args:
            promise: fraction of the accepted images that show every word.
            ranked, discriminator: how each try is drawn, see `Candidates`.

        Raises:
            UserError: the phrase cannot be read or verified, or no threshold keeps the promise.
        """
        request = self._request(phrase)
        real = self._real(phrase, request)
        drawn = self._drawn(phrase, request, promise, ranked, discriminator)
        rungs = climb({REAL: real, DRAWN: drawn})
        rung = lowest(rungs, promise)
        if rung is None:
            raise self._unreachable(phrase, request, promise, best(rungs))
        return Calibration(request, rung, len(drawn))

    def _request(self, phrase: str) -> Request:
        request = Request.of(self.sampler.schema, *self.sampler.vocabulary.read(phrase))
        if not request.values:
            raise UserError(
                "nothing-to-verify",
                f"--verified: {phrase!r} names no tag that a judge can see; name one, or leave --verified out",
            )
        for a, word in zip(request.attributes, request.words, strict=True):
            name = request.schema.attributes[a].name
            for judge in (self.judge, self.referee):
                accuracy = judge.accuracy[name]
                doubt = reason_to_doubt(accuracy)
                if not doubt and not accuracy.by_value[word].count:
                    doubt = f"no held-out image shows {word}"
                if doubt:
                    raise UserError(
                        "not-verifiable",
                        f"--verified: {phrase!r}: no judge can be trusted on {name!r} ({doubt}); leave it out of the "
                        "phrase, or see `cgan judge`",
                    )
        return request

    def _real(self, phrase: str, request: Request) -> Outcomes:
        """Return how certain the judge is of what it reads in held-out images, whichever values these show."""
        rows = np.flatnonzero(self.labels.known[:, request.attributes].all(1))
        if not len(rows):
            raise UserError(
                "not-verifiable",
                f"--verified: {phrase!r}: no held-out image is labelled with all of {', '.join(request.words)}; ask "
                "for fewer words",
            )
        label, known = self.labels.label[rows], self.labels.known[rows]
        truth = np.stack([label_values(request.schema, a, label, known) for a in request.attributes], 1)
        found = read(request.schema, request.attributes, self.logits[rows])
        return Outcomes(found.certainty, (found.values == truth).all(1))

    def _drawn(
        self, phrase: str, request: Request, promise: float, ranked: int, discriminator: Discriminator | None
    ) -> Outcomes:
        """Return how certain the judge is of drawings of the phrase, and whether the second judge sees all words.

        Their number depends on which the judge accepts and not on which are right, as the bound requires.
        """
        wanted = min(max(math.ceil(_WRONG / (1 - promise)), _FEWEST_ACCEPTED), _MOST_ACCEPTED)
        labels = self.sampler.labels_for(phrase, _MOST_TRIES * wanted, _SEED)
        candidates = Candidates(self.sampler, labels, _SEED, 0, ranked, discriminator)
        certainty, right = np.empty(0), np.empty(0, bool)
        hidden = not (self.progress and sys.stderr.isatty())
        with tqdm(total=wanted, desc="calibrating", unit="img", dynamic_ncols=True, disable=hidden) as bar:
            for start in range(0, len(labels.label), _AT_ONCE):
                rows = np.arange(start, min(start + _AT_ONCE, len(labels.label)))
                images, _ = candidates.draw(rows, np.zeros_like(rows))
                found = self.certainty(request, images)
                seen = read(request.schema, request.attributes, in_blocks(self.referee.logits, images))
                certainty, right = np.append(certainty, found), np.append(right, request.shown(seen))
                bar.update(int((found > 0).sum()))
                if (certainty > 0).sum() >= wanted:
                    break
        return Outcomes(certainty, right)

    def _unreachable(self, phrase: str, request: Request, promise: float, rung: Rung) -> UserError:
        real, drawn = rung.evidence[REAL], rung.evidence[DRAWN]
        if not drawn.accepted or not real.accepted:
            why = f"the judge accepts {drawn.accepted:,} of {drawn.images:,} drawings and {real.accepted:,} real images"
        elif real.at_least < drawn.at_least:
            why = f"it reads {real.wrong:,} of {real.accepted:,} held-out real images wrongly"
        else:
            referee = " and ".join(
                f"{name} in {self.referee.accuracy[name].tally.fraction:.0%}"
                for name in (request.schema.attributes[a].name for a in request.attributes)
            )
            why = (
                f"of {drawn.accepted:,} drawings that it accepts, a second judge does not see all words in "
                f"{drawn.wrong:,} (it recognises {referee} of real images)"
            )
        lowered = math.floor(rung.at_least * 100) / 100
        advice = f"give --promise {lowered:.2f}, or train longer" if lowered >= 0.5 else "train longer, or ask for less"
        return UserError(
            "promise-unreachable",
            f"--promise {promise:g}: for {phrase!r} no threshold of the judge keeps it; the best promises "
            f"{rung.at_least:.2f}: {why}; {advice}",
        )
