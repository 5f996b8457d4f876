"""From a transformer's hidden states to one vector of unit length: pooling, and dense layers where a model has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.core.errors import UserError
from shards.text_encoders.folder import Folder

# Hidden states (n, tokens, width) -> (n, width). All tokens count: texts are never padded.
_MODES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cls": lambda hidden: hidden[:, 0],
    "max": lambda hidden: hidden.max(1),
    "mean": lambda hidden: hidden.mean(1, dtype=np.float64).astype(np.float32),
    "mean_sqrt_len": lambda hidden: hidden.sum(1) / np.float32(hidden.shape[1] ** 0.5),
}
_OLD_NAMES = {
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
    """activation(W x + b)."""

    weight: np.ndarray  # float32 (out, in)
    bias: np.ndarray  # float32 (out,)
    activation: str

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        # Summed row by row: a product of matrices may round otherwise for another number of rows.
        return np.stack([_ACTIVATIONS[self.activation](self.weight @ row + self.bias) for row in vectors])


@dataclass(frozen=True)
class Pooling:
    """What follows the transformer."""

    modes: tuple[str, ...]
    dense: tuple[Dense, ...] = ()

    @staticmethod
    def of(folder: Folder) -> Pooling:
        """The pooling of a model's folder.

        Raises:
            UserError: one that is not known, or files that do not fit.
        """
        modes: tuple[str, ...] = ()
        dense: list[Dense] = []
        for kind, place in folder.steps:
            if kind == "Pooling":
                modes = _modes(folder, place / "config.json")
            elif kind == "Dense":
                dense.append(_dense(folder, place))
        return Pooling(modes, tuple(dense))

    def vectors(self, hidden: np.ndarray) -> np.ndarray:
        """Hidden states float32 (n, tokens, width) -> float32 (n, size) of unit length (not finite without a length).

        Raises:
            ValueError: the dense layers do not fit the model.
        """
        vectors = np.concatenate([_MODES[mode](hidden) for mode in self.modes], axis=1)
        for layer in self.dense:
            vectors = layer(vectors)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _modes(folder: Folder, file: Path) -> tuple[str, ...]:
    config = folder.read(file)
    said = config.get("pooling_mode", [])
    asked = [said] if isinstance(said, str) else list(said) if isinstance(said, list) else []
    asked += [_OLD_NAMES.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    if unknown := [mode for mode in asked if mode not in _MODES]:
        raise UserError(f"{file}: pooling by {str(unknown[0])[:80]!r}; only {', '.join(_MODES)} are known")
    return tuple(mode for mode in _MODES if mode in asked) or ("mean",)


def _dense(folder: Folder, place: Path) -> Dense:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    config, weights = folder.read(place / "config.json"), place / "model.safetensors"
    activation = str(config.get("activation_function", "Identity")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise UserError(f"{place / 'config.json'}: activation {activation[:80]!r}; {', '.join(_ACTIVATIONS)} are known")
    try:
        tensors = load_file(weights)
        weight = tensors["linear.weight"].astype(np.float32)
        bias = tensors.get("linear.bias", np.zeros(len(weight))).astype(np.float32)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{weights}: not a dense layer's weights ({error})") from None
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise UserError(f"{weights}: a weight {weight.shape} and a bias {bias.shape} do not fit together")
    return Dense(weight, bias, activation)
