"""The folder of a sentence-transformers model: its files, and which of them are loaded.

Weights are loaded from ONNX or safetensors only. Pickles and a model's own code are refused with an error that names
them, because both can run arbitrary code. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import reprlib
from pathlib import Path
from typing import Any

from shards.core import atomic_io, text_files
from shards.core.errors import UserError

_MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
_MAX_JSON = 1 << 20  # bytes of a configuration file
_DEFAULT_MAX_TOKENS = 512  # for a model that does not define its maximum


def missing_extra(what: str) -> UserError:
    """Return the error for packages of the extra `text` that are not installed."""
    return UserError(
        "package-missing", f'{what} needs packages that are not installed: pip install "cgan-trainer[text]"'
    )


class ModelFolder:
    """The folder of a sentence-transformers model.

    Attributes:
        path: the folder, without symbolic links.
        transformer: the folder of the transformer.
        modules: (kind, folder) of the modules after the transformer: "Pooling", "Dense" or "Normalize".
        config: the transformer's config.json.
        onnx: the ONNX file; None if the weights are in safetensors.

    Raises:
        UserError: the folder is not that of a model, or the model is of a kind that is not loaded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        modules = self._read_modules()
        self.transformer = modules[0][1]
        self.modules = modules[1:]
        self.config = self.read_config(self.transformer / "config.json")
        self.onnx = self._weights()
        self._settings = self._optional_config(self.transformer / "sentence_bert_config.json")
        self._prompt = self._default_prompt()

    def prepare(self, text: str) -> str:
        """Return a text as the tokenizer expects it: with the model's prompt, and in lower case if it wants that."""
        text = self._prompt + text
        return text.lower() if self._settings.get("do_lower_case") is True else text

    def tokenizer(self) -> Any:
        """Return the model's tokenizer, which truncates to the model's maximum number of tokens.

        Raises:
            UserError: the package tokenizers is not installed, or the file is missing or damaged.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise missing_extra(f"the text encoder {self.path}") from None
        file = self.transformer / "tokenizer.json"
        if not file.is_file():
            raise UserError("file-missing", f"{file}: missing; save the model with its fast tokenizer (tokenizer.json)")
        try:
            tokenizer = Tokenizer.from_file(str(file))
            tokenizer.no_padding()
            tokenizer.enable_truncation(self._max_tokens(tokenizer.truncation))
        except Exception as error:  # the library raises bare Exceptions
            reason = " ".join(str(error).split())[:200]
            raise UserError("model-damaged", f"{file}: not a readable tokenizer ({reason})") from None
        return tokenizer

    def sha256(self) -> str:
        """Return one hash over the names and content of all files that determine the vectors."""
        used = {self.path / "modules.json", self.path / "config_sentence_transformers.json"}
        used |= {self.transformer / name for name in ("config.json", "tokenizer.json", "sentence_bert_config.json")}
        used |= {self.onnx} if self.onnx else set(self.transformer.glob("model*.safetensors"))
        used |= set(self.onnx.parent.glob("model.onnx?*")) if self.onnx else set()
        used |= {folder / name for _, folder in self.modules for name in ("config.json", "model.safetensors")}
        digest = hashlib.sha256()
        for file in sorted(used):
            if file.is_file():
                digest.update(f"{file.relative_to(self.path).as_posix()} {atomic_io.sha256(file)}\n".encode())
        return digest.hexdigest()

    def read_config(self, file: Path) -> dict[str, Any]:
        """Return the content of a configuration file.

        Raises:
            UserError: the file is missing or not a JSON object.
        """
        content = self._read_json(file)
        if not isinstance(content, dict):
            raise UserError("model-damaged", f"{file}: not a model's configuration (a JSON object)")
        return content

    def _read_json(self, file: Path) -> Any:
        try:
            return text_files.read_json(file, _MAX_JSON)
        except OSError as error:
            raise UserError(
                "file-unreadable",
                f"{file}: cannot be read ({error.strerror}); --text-encoder takes the folder of a "
                "sentence-transformers model",
            ) from None
        except text_files.UnreadableText as error:
            raise UserError("invalid-json", f"{file} {error}") from None

    def _optional_config(self, file: Path) -> dict[str, Any]:
        return self.read_config(file) if file.is_file() else {}

    def _read_modules(self) -> list[tuple[str, Path]]:
        """Return (kind, folder) of each module in modules.json, the transformer first."""
        file = self.path / "modules.json"
        entries = self._read_json(file)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UserError("model-damaged", f"{file}: not a list of a sentence-transformers model's modules")
        modules = []
        for entry in entries:
            kind, path = str(entry.get("type", "")), str(entry.get("path", ""))
            name = kind.rpartition(".")[2]
            if not kind.startswith("sentence_transformers.") or name not in _MODULES:
                supported = ", ".join(_MODULES)
                raise UserError("model-unsupported", f"{file}: module {kind[:80]!r}; only {supported} are supported")
            folder = (self.path / path).resolve()
            if not folder.is_relative_to(self.path):
                raise UserError("path-outside", f"{file}: the path {path[:80]!r} leaves the model's folder")
            modules.append((name, folder))
        kinds = [kind for kind, _ in modules]
        if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & set(kinds[2:]):
            found = ", ".join(kinds) or "no modules"
            raise UserError("model-unsupported", f"{file}: has {found}; it must begin with Transformer and Pooling")
        return modules

    def _weights(self) -> Path | None:
        """Return the ONNX file, or None for safetensors; raise UserError for anything else."""
        folder = self.transformer
        for reason, found in (
            ("has its own code (auto_map), which is never run", "auto_map" in self.config),
            ("is an adapter of another model; merge it into that model", (folder / "adapter_config.json").exists()),
            ("is an encoder-decoder; only encoders are supported", self.config.get("is_encoder_decoder") is True),
        ):
            if found:
                raise UserError("model-unsupported", f"--text-encoder {self.path}: the model {reason}")
        if (folder / "onnx" / "model.onnx").is_file():
            return folder / "onnx" / "model.onnx"
        if any(folder.glob("model*.safetensors")):
            return None
        pickles = sorted(file.name for file in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.h5")))
        if pickles:
            raise UserError(
                "model-pickled",
                f"--text-encoder {self.path}: {pickles[0]} is not loaded, because a pickle can run code; convert it to "
                "safetensors",
            )
        raise UserError(
            "weights-missing", f"--text-encoder {self.path}: no model.safetensors and no onnx/model.onnx in the folder"
        )

    def _max_tokens(self, truncation: Any) -> int:
        """Return how many tokens the model reads at most."""
        positions = self.config.get("max_position_embeddings")
        if isinstance(positions, int) and "roberta" in str(self.config.get("model_type")):
            positions -= 2  # its positions start at 2
        of_tokenizer = truncation.get("max_length") if isinstance(truncation, dict) else None
        configured = self._settings.get("max_seq_length") or of_tokenizer or _DEFAULT_MAX_TOKENS
        limits = [n for n in (configured, positions) if isinstance(n, int) and n >= 4]
        return min(limits, default=_DEFAULT_MAX_TOKENS)

    def _default_prompt(self) -> str:
        """Return the text that the model expects before every text, such as "query: "; "" if there is none."""
        file = self.path / "config_sentence_transformers.json"
        settings = self._optional_config(file)
        prompts, name = settings.get("prompts"), settings.get("default_prompt_name")
        prompt = prompts.get(name, "") if isinstance(prompts, dict) and isinstance(name, str) else ""
        if not isinstance(prompt, str):
            raise UserError("model-damaged", f"{file}: the prompt {name!r} is {reprlib.repr(prompt)}, not a text")
        return prompt
