"""Verification: the judges of a run's dataset, and how certain the first must be to keep a promise for a phrase.

Two sets of images calibrate its threshold, and each must keep the promise:

- held-out real images, whose labels are the truth: is what the judge reads with such certainty right?
- images that the generator draws of the phrase, which have no truth. The second judge, of another architecture, trained
  from another seed on another split, takes its place: does it see all words in what the first accepts?

The drawn ones are chosen just as those that will be drawn (with other noise of the same generator): each label has its
tries until one is accepted, so that labels that the generator draws badly count as often as later. The bound of what
the second judge sees therefore holds for those. The real ones guard against two judges that err alike.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
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
from trainer.sampling.calibration import Evidence, Outcomes, Rung, best, climb, evidence, levels, lower_bound, lowest
from trainer.sampling.candidates import BLOCK, Candidates, in_blocks, until_accepted
from trainer.sampling.reading import Request, read

REAL, DRAWN = "real", "drawn"  # the calibration sets
_SEED = 1 << 63  # of the drawings that calibrate: no seed that a person gives, and the same threshold for all seeds
_WRONG = 30  # calibration labels are as many as have so many wrong drawings if the promise is just kept
_FEWEST_LABELS, _MOST_LABELS = 300, 5_000
_MOST_TRIES, _MOST_DRAWN = 20, 20_000  # calibration drawings: as a multiple of the labels, and altogether


@dataclass(frozen=True)
class Calibration:
    """The threshold for a phrase.

    Attributes:
        request: what the phrase asks for.
        rung: the threshold, and the evidence for it.
        drawings: drawings that it took, accepted or not.
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
        self,
        phrase: str,
        promise: float,
        most_draws: int,
        ranked: int = 1,
        discriminator: Discriminator | None = None,
    ) -> Calibration:
        """Return the lowest threshold that keeps a promise for a phrase.

        Args:
            promise: fraction of the accepted images that show every word.
            most_draws: tries for an image, before it is given up.
            ranked, discriminator: how each try is drawn, see `Candidates`.

        Raises:
            UserError: the phrase cannot be read or verified, or no threshold keeps the promise.
        """
        request = self._request(phrase)
        rungs = climb({REAL: self._real(phrase, request)})
        if lowest(rungs, promise) is None:  # before anything is drawn
            raise self._unreachable(phrase, request, promise, best(rungs))
        count = _labels_for(promise)
        labels = self.sampler.labels_for(phrase, count, _SEED)
        candidates = Candidates(self.sampler, labels, _SEED, 0, ranked, discriminator)
        most, drawn, climbed = min(_MOST_TRIES * count, _MOST_DRAWN), 0, list[Rung]()
        for rung, level in zip(rungs, levels(), strict=True):
            if rung.at_least < promise:
                continue
            found = self._drawn(request, candidates, rung.threshold, level, promise, most_draws, most - drawn)
            climbed.append(replace(rung, evidence={**rung.evidence, DRAWN: found}))
            drawn += found.images
            if drawn > most:  # it may have been cut short, and higher rungs take more
                break
            if climbed[-1].at_least >= promise:
                return Calibration(request, climbed[-1], drawn)
        raise self._unreachable(phrase, request, promise, best(climbed))

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
        self,
        request: Request,
        candidates: Candidates,
        threshold: float,
        level: float,
        promise: float,
        most_draws: int,
        most: int,
    ) -> Evidence:
        """Return in how many drawings that a threshold accepts, one per label, the second judge sees all words.

        The bound holds for the number of labels that was fixed before. Only what cannot keep the promise any more, or
        has taken more than ``most`` drawings, ends earlier, and is not used.
        """
        everything = candidates.labels
        count, tried, kept, wrong = len(everything.label), 0, 0, 0
        hidden = not (self.progress and sys.stderr.isatty())
        with tqdm(total=count, desc="calibrating", unit="img", dynamic_ncols=True, disable=hidden) as bar:
            for start in range(0, count, BLOCK):
                part = slice(start, start + BLOCK)
                labels = Labels(everything.label[part], everything.known[part])
                chosen = until_accepted(
                    replace(candidates, labels=labels, start=start),
                    lambda images: self.certainty(request, images),
                    threshold,
                    most_draws,
                )
                tried, kept = tried + int(chosen.tries.sum()), kept + len(chosen.rows)
                if len(chosen.rows):
                    seen = read(request.schema, request.attributes, in_blocks(self.referee.logits, chosen.images))
                    wrong += int((~request.shown(seen)).sum())
                bar.update(len(labels.label))
                if tried > most or lower_bound(count - wrong, count, level) < promise:
                    break
        return evidence(tried, kept, wrong, level)

    def _unreachable(self, phrase: str, request: Request, promise: float, rung: Rung) -> UserError:
        real, drawn = rung.evidence[REAL], rung.evidence.get(DRAWN)
        if not real.accepted or (drawn and drawn.at_least >= promise) or (drawn and not drawn.accepted):
            of_drawings = f"{drawn.accepted:,} of {drawn.images:,} drawings and " if drawn else ""
            why = f"the judge accepts too few: {of_drawings}{real.accepted:,} real images"
        elif drawn is None or real.at_least < drawn.at_least:
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
        bound = math.floor(min(rung.at_least, promise) * 100) / 100
        advice = (
            f"try a --promise below {bound:.2f}, or train longer" if bound > 0.5 else "train longer, or ask for less"
        )
        return UserError(
            "promise-unreachable",
            f"--promise {promise:g}: for {phrase!r} no threshold of the judge keeps it; the best promises "
            f"{bound:.2f}: {why}; {advice}",
        )


def _labels_for(promise: float) -> int:
    """Return the number of calibration labels; 300 for promises up to 0.9."""
    wanted = math.ceil(round(_WRONG / (1 - promise), 6))  # 1 - 0.9 is a little less than 0.1
    return min(max(wanted, _FEWEST_LABELS), _MOST_LABELS)
