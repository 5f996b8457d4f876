"""A transformer in ONNX form, run by onnxruntime."""

from __future__ import annotations

import numpy as np

from shards.core.errors import UserError
from shards.text_encoders.model_folder import ModelFolder, missing_extra


class OnnxModel:
    """Hidden states from ``onnx/model.onnx``.

    Raises:
        UserError: onnxruntime is not installed, or the file is not a supported model.
    """

    batch = 1  # dynamically quantised models scale by the largest number in the batch

    def __init__(self, folder: ModelFolder) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise missing_extra(f"the text encoder {folder.path}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # same sums on any number of cores
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(folder.onnx), options, providers=["CPUExecutionProvider"])
            self._inputs = [entry.name for entry in self._session.get_inputs()]
        except Exception as error:  # onnxruntime's errors have no common base class
            reason = " ".join(str(error).split())[:200]
            raise UserError("model-damaged", f"{folder.onnx}: not a readable model ({reason})") from None
        if unknown := set(self._inputs) - {"input_ids", "attention_mask", "token_type_ids"}:
            raise UserError(
                "model-unsupported",
                f"{folder.onnx}: needs the input {sorted(unknown)[0][:80]!r}, which text encoders do not have",
            )

    def hidden_states(self, tokens: np.ndarray) -> np.ndarray:
        """Return the hidden states, float32 (n, t, width), of tokens, int64 (n, t).

        Raises:
            ValueError: the model fails or its first output has another shape.
        """
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)}
        try:
            hidden = np.asarray(self._session.run(None, {name: inputs[name] for name in self._inputs})[0])
        except Exception as error:  # as above
            raise ValueError(error) from None
        if hidden.ndim != 3 or hidden.shape[:2] != tokens.shape:
            raise ValueError(f"its first output is {hidden.shape}, not the hidden states of {tokens.shape} tokens")
        return hidden.astype(np.float32, copy=False)
