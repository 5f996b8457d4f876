"""Pooling of hidden states, and dense layers if a model has them: one vector of unit length per text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.core.errors import UserError
from shards.text_encoders.model_folder import ModelFolder

# Hidden states (n, tokens, width) -> (n, width). No mask is needed, because texts are never padded.
_MODES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cls": lambda hidden: hidden[:, 0],
    "max": lambda hidden: hidden.max(1),
    "mean": lambda hidden: hidden.mean(1, dtype=np.float64).astype(np.float32),
    "mean_sqrt_len": lambda hidden: hidden.sum(1) / np.float32(hidden.shape[1] ** 0.5),
}
_OLD_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
}
_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Tanh": np.tanh,
    "Identity": lambda x: x,
    "ReLU": lambda x: np.maximum(x, 0),
}


@dataclass(frozen=True)
class Dense:
    """A dense layer: activation(W x + b)."""

    weight: np.ndarray  # float32 (out, in)
    bias: np.ndarray  # float32 (out,)
    activation: str

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        # Row by row: the rounding of a matrix product may depend on the number of rows.
        return np.stack([_ACTIVATIONS[self.activation](self.weight @ row + self.bias) for row in vectors])


@dataclass(frozen=True)
class Pooling:
    """The modules after the transformer."""

    modes: tuple[str, ...]
    dense: tuple[Dense, ...] = ()

    @staticmethod
    def from_folder(folder: ModelFolder) -> Pooling:
        """Load the pooling of a model.

        Raises:
            UserError: it is of an unsupported kind, or files are missing or damaged.
        """
        modes: tuple[str, ...] = ()
        dense: list[Dense] = []
        for kind, path in folder.modules:
            if kind == "Pooling":
                modes = _pooling_modes(folder, path / "config.json")
            elif kind == "Dense":
                dense.append(_load_dense(folder, path))
        return Pooling(modes, tuple(dense))

    def vectors(self, hidden: np.ndarray) -> np.ndarray:
        """Return vectors of unit length, float32 (n, size), of hidden states, float32 (n, tokens, width).

        A vector of length zero yields numbers that are not finite.

        Raises:
            ValueError: the sizes of dense layers and hidden states differ.
        """
        vectors = np.concatenate([_MODES[mode](hidden) for mode in self.modes], axis=1)
        for layer in self.dense:
            vectors = layer(vectors)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _pooling_modes(folder: ModelFolder, file: Path) -> tuple[str, ...]:
    config = folder.read_config(file)
    mode = config.get("pooling_mode", [])
    modes = [mode] if isinstance(mode, str) else list(mode) if isinstance(mode, list) else []
    modes += [_OLD_KEYS.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    if unknown := [mode for mode in modes if mode not in _MODES]:
        supported = ", ".join(_MODES)
        raise UserError(
            "model-unsupported", f"{file}: pooling mode {str(unknown[0])[:80]!r}; only {supported} are supported"
        )
    return tuple(mode for mode in _MODES if mode in modes) or ("mean",)


def _load_dense(folder: ModelFolder, path: Path) -> Dense:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file, weights = path / "config.json", path / "model.safetensors"
    activation = str(folder.read_config(file).get("activation_function", "Identity")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        supported = ", ".join(_ACTIVATIONS)
        raise UserError("model-unsupported", f"{file}: activation {activation[:80]!r}; only {supported} are supported")
    try:
        tensors = load_file(weights)
        weight = tensors["linear.weight"].astype(np.float32)
        bias = tensors.get("linear.bias", np.zeros(len(weight))).astype(np.float32)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError("model-damaged", f"{weights}: not the weights of a dense layer ({error})") from None
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise UserError("model-damaged", f"{weights}: weight {weight.shape} and bias {bias.shape} do not match")
    return Dense(weight, bias, activation)
