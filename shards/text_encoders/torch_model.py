"""A transformer in safetensors form, run by torch and the transformers library; no other file imports them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np

from shards.core.errors import UserError
from shards.text_encoders.model_folder import ModelFolder, missing_extra

_COUNTING = threading.Lock()  # held while the number of torch's threads is changed: it is the process's


class TorchModel:
    """Hidden states from ``model.safetensors``. Loads no pickles and no code of the model, and downloads nothing.

    Raises:
        UserError: transformers is not installed, or the model cannot be loaded.
    """

    batch = 8  # rows of one fixed shape: the sums of a row do not depend on the other rows

    def __init__(self, folder: ModelFolder) -> None:
        try:
            import torch
            import transformers
        except ImportError:
            raise missing_extra(f"the text encoder {folder.path}") from None
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        try:
            self._model, report = transformers.AutoModel.from_pretrained(
                str(folder.transformer),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as error:  # the library fails in many ways on damaged files
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                "model-damaged", f"--text-encoder {folder.path}: the model cannot be loaded ({reason})"
            ) from None
        # The library initialises missing weights at random; only those of the pooler are never used.
        if missing := sorted(key for key in report["missing_keys"] if "pooler" not in key):
            raise UserError("weights-missing", f"--text-encoder {folder.path}: the weight {missing[0]!r} is missing")
        self._model.eval()

    def hidden_states(self, tokens: np.ndarray) -> np.ndarray:
        """Return the hidden states, float32 (n, t, width), of tokens, int64 (n, t)."""
        import torch

        with torch.inference_mode(), _one_thread():
            ids = torch.from_numpy(tokens)
            return self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.float().numpy()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread, so that sums are the same on any number of cores."""
    import torch

    with _COUNTING:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
