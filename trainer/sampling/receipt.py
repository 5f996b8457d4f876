"""The receipt of chosen drawings: what was asked for, how it was checked, and which drawings were kept.

It names no file or folder but the drawings' own, and no date, so that the same request gives the same receipt.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from shards.core import self_hash, text_files
from shards.core.atomic_io import sha256
from shards.core.version import __version__, revision
from trainer.run.state_dicts import weights_hash
from trainer.sampling.calibration import CONFIDENCE

if TYPE_CHECKING:
    from trainer.evaluation.judge.judge import Judge
    from trainer.sampling.candidates import Chosen
    from trainer.sampling.drawings import Choice
    from trainer.sampling.verification import Calibration

FORMAT_VERSION = 1
KIND = "cgan-trainer drawings"
_LARGEST = 1 << 26  # bytes
IN_FOLDER = "receipt.json"


def path_of(image: Path) -> Path:
    """Return where the receipt of a PNG is: blue.receipt.json of blue.png."""
    return image.with_suffix(".receipt.json")


def is_receipt(path: Path) -> bool:
    """Return whether a file is a receipt."""
    with contextlib.suppress(OSError, text_files.UnreadableText, AttributeError):
        return text_files.read_json(path, _LARGEST).get("kind") == KIND
    return False


def remove(path: Path) -> None:
    """Remove a receipt, before its drawings are replaced; a file that is none stays."""
    if is_receipt(path):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


@dataclass
class PhraseRecord:
    """Record of the images drawn for one phrase.

    Attributes:
        phrase: as it was asked for.
        calibration: None if nothing was verified.
        drawn: tries until the last image was accepted or given up.
        numbers: of the images that were kept, from 0 on.
        candidates: which candidate of its image each is.
        certainty: the judge's probability of all words in each.
        missing: numbers of the images that were given up.
    """

    phrase: str
    calibration: Calibration | None
    drawn: int = 0
    numbers: list[int] = field(default_factory=list)
    candidates: list[int] = field(default_factory=list)
    certainty: list[float] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)

    def add(self, chosen: Chosen, start: int) -> None:
        """Add the choice for further labels, of which the first has the number ``start``."""
        self.drawn += int(chosen.tries.sum())
        self.numbers += (chosen.rows + start).tolist()
        self.candidates += chosen.candidates.tolist()
        self.certainty += [round(value, 4) for value in chosen.certainty.tolist()]
        kept = set(chosen.rows.tolist())
        self.missing += [start + row for row in range(len(chosen.tries)) if row not in kept]

    def plain(self) -> dict[str, Any]:
        """Return plain JSON values."""
        kept = {"drawn": self.drawn, "kept": len(self.numbers), "numbers": self.numbers, "candidates": self.candidates}
        if self.calibration is None:
            return {"phrase": self.phrase, **kept}
        request, rung = self.calibration.request, self.calibration.rung
        asked = [request.schema.attributes[a].name for a in request.attributes]
        return {
            "phrase": self.phrase,
            "words": list(request.words),
            "attributes": asked,
            "unchecked": list(request.unchecked),
            "threshold": rung.threshold,
            "calibration": {name: asdict(evidence) for name, evidence in rung.evidence.items()},
            "acceptance_rate": round(len(self.numbers) / self.drawn, 4),
            **kept,
            "certainty": self.certainty,
            "missing": self.missing,
        }


def content(
    choice: Choice, seed: int, count: int, records: Sequence[PhraseRecord], image: Path | None = None
) -> dict[str, Any]:
    """Return the content of a receipt, with its hash.

    Args:
        choice: how images were chosen.
        seed, count: as they were asked for.
        records: one per phrase.
        image: the file with all drawings, if they are in one.
    """
    saved, verifier = choice.sampler.saved, choice.verifier
    found: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "version": __version__,
        "commit": revision(),
        "torch": torch.__version__,
        "generator": {
            "images_seen": saved.images_seen,
            "data": saved.state.data,
            "weights": weights_hash(choice.sampler.generator),
        },
        "seed": seed,
        "count": count,
        "best_of": choice.best_of,
        "discriminator": None if choice.discriminator is None else weights_hash(choice.discriminator),
    }
    if verifier is not None:
        found |= {
            "promise": choice.promise,
            "confidence": CONFIDENCE,
            "most_draws": choice.most_draws,
            "judge": _described(verifier.judge),
            "second_judge": _described(verifier.referee),
            "notes": list(verifier.notes),
        }
    if image is not None:
        found["image"] = {"name": image.name, "sha256": sha256(image)}
    return self_hash.with_hash(found | {"phrases": [record.plain() for record in records]})


def _described(judge: Judge) -> dict[str, Any]:
    """Return what identifies a judge, and its accuracy on held-out real images."""
    accuracy = {a.name: {"images": a.tally.count, "right": a.tally.right} for a in judge.accuracy.attributes}
    return {**judge.identity, "weights": weights_hash(judge.net), "held_out": accuracy}
