"""What a run can be asked for: words, sentences or numbers become labels; what they leave open is as in the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from shards import text_encoders
from shards.core.errors import UserError
from shards.dataset.label_rows import Labels, sample_labels
from shards.dataset.schema import Schema, normalise
from trainer.generation import phrase

_NEAR = 64  # labels of the data with captions like the words, from which the rest of a label is drawn
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Vocabulary:
    """The schema of a run, and what was known when its data were packed.

    Attributes:
        schema: what labels are made of.
        labels: labels as the data has them.
        text_encoder: identity of the encoder that made vectors of the captions (`TextEncoder.identity`).
        synonyms: further words -> words of the schema.
    """

    schema: Schema
    labels: Labels
    text_encoder: dict[str, Any] | None = None
    synonyms: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> int | None:
        """The index of the attribute that is a text, if there is one."""
        return self._attribute("text")

    def encoded_by(self, spec: str) -> Vocabulary:
        """The same with the text encoder in another place."""
        return replace(self, text_encoder={**(self.text_encoder or {}), "spec": spec})

    def labels_for(self, words: str, count: int, seed: int = 0) -> Labels:
        """``count`` labels that say ``words``; attributes that are not named are drawn from the data, together.

        Tags are read by the grammar of `trainer.generation.phrase`. Where the labels hold captions, the whole phrase
        is one too; it need not be readable as tags then, and the rest of the label is drawn from pictures with the
        nearest captions. Where they hold a vector, a phrase of numbers ("0.1, -2, 0") is that vector.
        "anything" names nothing.

        Raises:
            UserError: a phrase that cannot be read, or a text encoder that is not there or not the same.
        """
        label, named = self._read(words)
        drawn = sample_labels(*self._like(label, named), count, seed, "labels to sample")
        entries = np.repeat(named, self.schema.widths)
        return Labels(np.where(entries, label, drawn.label).astype(np.float32), drawn.known | named)

    def _read(self, words: str) -> tuple[np.ndarray, np.ndarray]:
        """(label float32 (L,), named bool (A,)) of a phrase."""
        if not normalise(words):
            raise UserError(
                f"the phrase is empty; name something, or {phrase.ANYTHING!r} for labels as the data has them"
            )
        if (numbers := self._numbers(words)) is not None:
            return self._filled(self._attribute("vector"), numbers)
        if normalise(words) == phrase.ANYTHING and phrase.ANYTHING not in self.schema.places:
            return self._filled(None, np.zeros(0))
        if self.text is None:
            if not self.schema.values:
                raise UserError(self._wordless(words))
            return phrase.vector(phrase.parse(words, self.schema, self.synonyms), self.schema)
        label, named = self._filled(self.text, self._encoder().encode([words])[0])
        try:
            tags, said = phrase.vector(phrase.parse(words, self.schema, self.synonyms), self.schema)
        except UserError:
            return label, named  # a sentence, not tags
        return label + tags, named | said

    def _filled(self, attribute: int | None, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The label of one attribute's numbers alone."""
        label, named = np.zeros(self.schema.width, np.float32), np.zeros(len(self.schema.attributes), bool)
        if attribute is not None:
            start = int(self.schema.starts[attribute])
            label[start : start + len(numbers)], named[attribute] = numbers, True
        return label, named

    def _like(self, label: np.ndarray, named: np.ndarray) -> Labels:
        """The labels of the data that the rest of a label is drawn from."""
        text = self.text
        if text is None or not named[text]:
            return self.labels
        captioned = np.flatnonzero(self.labels.known[:, text])
        if not captioned.size:
            return self.labels
        start = int(self.schema.starts[text])
        entries = slice(start, start + self.schema.attributes[text].size)
        cosine = self.labels.label[captioned, entries] @ label[entries]
        near = captioned[np.argsort(-cosine, kind="stable")[:_NEAR]]
        return Labels(self.labels.label[near], self.labels.known[near])

    def _encoder(self) -> text_encoders.TextEncoder:
        recorded = self.text_encoder or {}
        if not isinstance(spec := recorded.get("spec"), str):
            raise UserError("the run does not say which text encoder made its captions' vectors; give --text-encoder")
        encoder = text_encoders.load(spec)
        if recorded.get("sha256") and not text_encoders.same_vectors(encoder.identity, recorded):
            raise UserError(
                f"--text-encoder {spec}: its files are not those that encoded the captions of the data "
                f"({encoder.identity['sha256'][:12]}…, recorded: {str(recorded['sha256'])[:12]}…); give the same model"
            )
        if self.text is None or encoder.size != self.schema.attributes[self.text].size:
            raise UserError(f"--text-encoder {spec}: its vectors have {encoder.size} numbers, other than the run's")
        return encoder

    def _numbers(self, words: str) -> np.ndarray | None:
        """The vector that a phrase of numbers is; None for any other phrase, and where labels hold no vector."""
        attribute = self._attribute("vector")
        if attribute is None or normalise(words) in self.schema.places:
            return None
        try:
            numbers = [float(part) for part in words.split(",")]
        except ValueError:
            return None
        size = self.schema.attributes[attribute].size
        if len(numbers) != size or not all(abs(n) <= _LARGEST for n in numbers):
            raise UserError(f"{words[:80]!r}: {len(numbers)} numbers; the labels' vectors are {size} finite ones")
        return np.array(numbers, np.float32)

    def _wordless(self, words: str) -> str:
        size = sum(self.schema.widths)
        return (
            f"{words[:80]!r}: this run's labels are vectors of {size} numbers, which words cannot name; give the "
            f"numbers with commas between, or {phrase.ANYTHING!r} for labels as the data has them"
        )

    def _attribute(self, kind: str) -> int | None:
        return next((i for i, a in enumerate(self.schema.attributes) if a.kind == kind), None)


def read_vocabulary(run: Path) -> Vocabulary:
    """Read a run's label schema, the labels that it kept, and its text encoder and synonyms.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    try:
        content = json.loads((run / "schema.json").read_text())
        schema = Schema.from_json(content, str(run / "schema.json"))
        encoder, synonyms = content.get("text_encoder"), content.get("aliases")
        kept = load_file(run / "labels.safetensors")
        labels = Labels(kept["label"], kept["known"].astype(bool))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError("run-damaged", f"{run} is not a complete run: {error}") from None
    pairs = synonyms.items() if isinstance(synonyms, dict) else ()
    synonyms = {synonym: tag for synonym, tag in pairs if isinstance(tag, str)}
    return Vocabulary(schema, labels, encoder if isinstance(encoder, dict) else None, synonyms)
