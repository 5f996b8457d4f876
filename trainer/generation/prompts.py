"""Turn phrases, captions and numbers into labels; what they do not name is sampled from labels that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from shards import text_encoders
from shards.core import text_files
from shards.core.errors import UserError
from shards.dataset.label_rows import Labels, sample_rows
from shards.dataset.schema import Schema
from shards.vocabulary.spelling import normalise
from trainer.generation import phrase
from trainer.generation.co_occurrence import compatible

_NEAREST = 64  # labels with the captions most similar to a phrase, from which unnamed attributes are sampled
_PURPOSE = "labels to sample"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Vocabulary:
    """The label schema of a run with what phrases need: labels of the dataset, text encoder and synonyms.

    Attributes:
        schema: the label schema.
        labels: labels of the dataset.
        text_encoder: identity of the encoder of the captions (`TextEncoder.identity`).
        synonyms: additional words -> words of the schema.
    """

    schema: Schema
    labels: Labels
    text_encoder: dict[str, Any] | None = None
    synonyms: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> int | None:
        """The index of the caption attribute, if there is one."""
        return self._attribute("text")

    def encoded_by(self, spec: str) -> Vocabulary:
        """Return a copy that loads the text encoder from another folder."""
        return replace(self, text_encoder={**(self.text_encoder or {}), "spec": spec})

    def labels_for(self, phrase: str, count: int, seed: int = 0) -> Labels:
        """Return ``count`` labels of a phrase; the other attributes are sampled jointly from the dataset's labels.

        Tags are parsed by `trainer.generation.phrase`. If labels contain captions, the whole phrase is encoded as a
        caption as well; then it need not parse as tags, and the other attributes are sampled from the labels with
        the most similar captions. If labels contain a vector, a phrase of numbers ("0.1, -2, 0") is that vector.
        "anything" names nothing.

        Raises:
            UserError: the phrase cannot be read, or the text encoder is missing or a different one.
        """
        return self.completed(*self.read(phrase), count, seed)

    def completed(self, label: np.ndarray, named: np.ndarray, count: int, seed: int = 0) -> Labels:
        """Return ``count`` labels that have the entries of the named attributes; the others are sampled.

        A seed keeps its labels of the dataset whatever is named; only those that do not go with it are sampled again
        (`trainer.generation.co_occurrence`).

        Args:
            label, named: as `read` returns them.
        """
        rows = self._like(label, named)
        drawn = rows[sample_rows(len(rows), count, seed, _PURPOSE)]
        fits = compatible(self.schema, self.labels, label, named)
        if not fits[drawn].all() and (fitting := rows[fits[rows]]).size:
            again = fitting[sample_rows(len(fitting), count, seed, _PURPOSE)]
            drawn = np.where(fits[drawn], drawn, again)
        entries = np.repeat(named, self.schema.widths)
        completed = np.where(entries, label, self.labels.label[drawn])
        return Labels(completed.astype(np.float32), self.labels.known[drawn] | named)

    def read(self, words: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (label float32 (L,), named bool (A,)) of a phrase: what it names, and nothing else.

        Raises:
            UserError: as `labels_for`.
        """
        if not normalise(words):
            raise UserError("empty-phrase", f"the phrase is empty; name a value, or use {phrase.ANYTHING!r}")
        if (numbers := self._numbers(words)) is not None:
            return self._filled(self._attribute("vector"), numbers)
        if normalise(words) == phrase.ANYTHING and phrase.ANYTHING not in self.schema.places:
            return self._filled(None, np.zeros(0))
        if self.text is None:
            if not self.schema.values:
                raise self._wordless(words)
            return phrase.vector(phrase.parse(words, self.schema, self.synonyms), self.schema)
        label, named = self._filled(self.text, self._encoder().encode([words])[0])
        try:
            tags, said = phrase.vector(phrase.parse(words, self.schema, self.synonyms), self.schema)
        except UserError:
            return label, named  # a sentence, not tags
        return label + tags, named | said

    def _filled(self, attribute: int | None, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a label with the entries of one attribute only."""
        label, named = np.zeros(self.schema.width, np.float32), np.zeros(len(self.schema.attributes), bool)
        if attribute is not None:
            start = int(self.schema.starts[attribute])
            label[start : start + len(numbers)], named[attribute] = numbers, True
        return label, named

    def _like(self, label: np.ndarray, named: np.ndarray) -> np.ndarray:
        """Return the rows of the dataset's labels from which unnamed attributes are sampled, int64 (n,)."""
        everything = np.arange(len(self.labels.label))
        text = self.text
        if text is None or not named[text]:
            return everything
        captioned = np.flatnonzero(self.labels.known[:, text])
        if not captioned.size:
            return everything
        start = int(self.schema.starts[text])
        entries = slice(start, start + self.schema.attributes[text].size)
        cosine = self.labels.label[captioned, entries] @ label[entries]
        return captioned[np.argsort(-cosine, kind="stable")[:_NEAREST]]

    def _encoder(self) -> text_encoders.TextEncoder:
        recorded = self.text_encoder or {}
        if not isinstance(spec := recorded.get("spec"), str):
            raise UserError(
                "text-encoder-unknown", "the run does not name the text encoder of its captions; give --text-encoder"
            )
        encoder = text_encoders.load(spec)
        if recorded.get("sha256") and not text_encoders.same_vectors(encoder.identity, recorded):
            raise UserError(
                "text-encoder-differs",
                f"--text-encoder {spec}: not the model that encoded the captions of the dataset "
                f"(sha256 {encoder.identity['sha256'][:12]}…, recorded: {str(recorded['sha256'])[:12]}…); "
                "give the same model",
            )
        if self.text is None or encoder.size != self.schema.attributes[self.text].size:
            raise UserError(
                "text-encoder-differs",
                f"--text-encoder {spec}: its vectors have {encoder.size} numbers, not the run's",
            )
        return encoder

    def _numbers(self, words: str) -> np.ndarray | None:
        """Return the vector of a phrase of numbers; None for other phrases and for labels without a vector."""
        attribute = self._attribute("vector")
        if attribute is None or normalise(words) in self.schema.places:
            return None
        try:
            numbers = [float(part) for part in words.split(",")]
        except ValueError:
            return None
        size = self.schema.attributes[attribute].size
        if len(numbers) != size or not all(abs(n) <= _LARGEST for n in numbers):
            raise UserError(
                "invalid-vector", f"{words[:80]!r}: {len(numbers)} numbers; a label's vector has {size}, all finite"
            )
        return np.array(numbers, np.float32)

    def _wordless(self, words: str) -> UserError:
        size = sum(self.schema.widths)
        return UserError(
            "labels-without-words",
            f"{words[:80]!r}: this run's labels are vectors of {size} numbers and have no words; give the numbers, "
            f"separated by commas, or {phrase.ANYTHING!r}",
        )

    def _attribute(self, kind: str) -> int | None:
        return next((i for i, a in enumerate(self.schema.attributes) if a.kind == kind), None)


def read_vocabulary(run: Path) -> Vocabulary:
    """Read a run's label schema, the labels that it kept, and its text encoder and synonyms.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    try:
        content = text_files.read_json(run / "schema.json")
        schema = Schema.from_json(content, str(run / "schema.json"))
        encoder, synonyms = content.get("text_encoder"), content.get("aliases")
        kept = load_file(run / "labels.safetensors")
        labels = Labels(kept["label"], kept["known"].astype(bool))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError("run-damaged", f"{run} is not a complete run: {error}") from None
    pairs = synonyms.items() if isinstance(synonyms, dict) else ()
    synonyms = {synonym: tag for synonym, tag in pairs if isinstance(tag, str)}
    return Vocabulary(schema, labels, encoder if isinstance(encoder, dict) else None, synonyms)
