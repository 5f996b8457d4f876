"""A transformer in ONNX form, run by onnxruntime."""

from __future__ import annotations

import numpy as np

from shards.core.errors import UserError
from shards.text_encoders.folder import Folder, needed


class OnnxModel:
    """Hidden states from ``onnx/model.onnx``.

    Raises:
        UserError: onnxruntime is missing, or the file is no such model.
    """

    batch = 1  # dynamically quantised models scale by the largest number in the batch

    def __init__(self, folder: Folder) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise needed(f"the text encoder {folder.path}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # sums round alike on any number of cores
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(folder.onnx), options, providers=["CPUExecutionProvider"])
            self._inputs = [entry.name for entry in self._session.get_inputs()]
        except Exception as error:  # onnxruntime's errors share no base class
            raise UserError(f"{folder.onnx}: not a readable model ({' '.join(str(error).split())[:200]})") from None
        if strange := set(self._inputs) - {"input_ids", "attention_mask", "token_type_ids"}:
            raise UserError(f"{folder.onnx}: wants {sorted(strange)[0][:80]!r}, which no text encoder's model takes")

    def hidden(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens int64 (n, t) -> float32 (n, t, width).

        Raises:
            ValueError: the model answers with something else.
        """
        given = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)}
        try:
            hidden = np.asarray(self._session.run(None, {name: given[name] for name in self._inputs})[0])
        except Exception as error:  # as above
            raise ValueError(error) from None
        if hidden.ndim != 3 or hidden.shape[:2] != tokens.shape:
            raise ValueError(f"its first output is {hidden.shape}, not the hidden states of {tokens.shape} tokens")
        return hidden.astype(np.float32, copy=False)
