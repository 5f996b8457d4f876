"""A transformer in safetensors form, run by torch through the transformers library; only this file knows them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from shards.core.errors import UserError
from shards.text_encoders.folder import Folder, needed


class TorchModel:
    """Hidden states from ``model.safetensors``: no pickle, no code of the model's own, nothing from elsewhere.

    Raises:
        UserError: transformers is missing, or the folder holds no such model.
    """

    batch = 8  # rows of one shape: one row's sums do not depend on the others

    def __init__(self, folder: Folder) -> None:
        try:
            import torch
            import transformers
        except ImportError:
            raise needed(f"the text encoder {folder.path}") from None
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
        except Exception as error:  # a folder from anywhere makes the library fail in any way
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"--text-encoder {folder.path}: the model cannot be loaded ({reason})") from None
        # The library fills what is missing with random numbers; only the pooler's are never used.
        if missing := sorted(key for key in report["missing_keys"] if "pooler" not in key):
            raise UserError(f"--text-encoder {folder.path}: its weights lack {missing[0]!r}")
        self._model.eval()

    def hidden(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens int64 (n, t) -> float32 (n, t, width)."""
        import torch

        with torch.inference_mode(), _one_thread():
            ids = torch.from_numpy(tokens)
            return self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.float().numpy()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums round alike on any number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
