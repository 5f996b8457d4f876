"""The folder of a sentence-transformers model: what is in it, and what of that is loaded.

Weights come from ONNX or safetensors only; pickles and a model's own code are refused by name, since both
run what their author likes. Nothing is looked up elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from pathlib import Path
from typing import Any

from shards.core import atomic_io
from shards.core.errors import UserError

_STEPS = ("Transformer", "Pooling", "Dense", "Normalize")
_LARGEST_JSON = 1 << 20  # bytes of a configuration file
_PLACES = 512  # tokens, where a model does not say how many it reads


def needed(what: str) -> UserError:
    """The sentence for a missing extra."""
    return UserError(f'{what} needs packages that are not installed: pip install "cgan-trainer[text]"')


class Folder:
    """A model's folder, looked over.

    Attributes:
        path: the folder.
        steps: (kind, folder) of what follows the transformer: "Pooling", "Dense" or "Normalize".
        transformer: the folder of the transformer itself.
        config: its config.json.
        onnx: its ONNX file; None: safetensors.

    Raises:
        UserError: no such model, or one that is not loaded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        steps = self._steps()
        self.transformer = steps[0][1]
        self.steps = steps[1:]
        self.config = self.read(self.transformer / "config.json")
        self.onnx = self._weights()
        self._settings = self._optional(self.transformer / "sentence_bert_config.json")
        self._prompt = self._default_prompt()

    def prepared(self, text: str) -> str:
        """A text as the model was taught to see it, before its tokenizer."""
        text = self._prompt + text
        return text.lower() if self._settings.get("do_lower_case") is True else text

    def tokenizer(self) -> Any:
        """Its tokenizer, which cuts to the length that the model reads.

        Raises:
            UserError: the package for it, or its file, is missing or broken.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise needed(f"the text encoder {self.path}") from None
        file = self.transformer / "tokenizer.json"
        if not file.is_file():
            raise UserError(f"{file}: missing; save the model with its fast tokenizer (tokenizer.json)")
        try:
            tokenizer = Tokenizer.from_file(str(file))
            tokenizer.no_padding()
            tokenizer.enable_truncation(self._places(tokenizer.truncation))
        except Exception as error:  # the library raises bare Exceptions
            raise UserError(f"{file}: not a readable tokenizer ({' '.join(str(error).split())[:200]})") from None
        return tokenizer

    def sha256(self) -> str:
        """One hash over all files that decide the vectors: weights, tokenizer, settings, and their names."""
        used = {self.path / "modules.json", self.path / "config_sentence_transformers.json"}
        used |= {self.transformer / name for name in ("config.json", "tokenizer.json", "sentence_bert_config.json")}
        used |= {self.onnx} if self.onnx else set(self.transformer.glob("model*.safetensors"))
        used |= set(self.onnx.parent.glob("model.onnx?*")) if self.onnx else set()
        used |= {folder / name for _, folder in self.steps for name in ("config.json", "model.safetensors")}
        digest = hashlib.sha256()
        for file in sorted(used):
            if file.is_file():
                digest.update(f"{file.relative_to(self.path).as_posix()} {atomic_io.sha256(file)}\n".encode())
        return digest.hexdigest()

    def read(self, file: Path) -> dict[str, Any]:
        """A configuration file.

        Raises:
            UserError: it is missing, or no JSON object.
        """
        content = self._json(file)
        if not isinstance(content, dict):
            raise UserError(f"{file}: not a model's configuration (a JSON object)")
        return content

    def _json(self, file: Path) -> Any:
        try:
            if file.stat().st_size > _LARGEST_JSON:
                raise UserError(f"{file}: larger than a model's configuration can be ({_LARGEST_JSON:,} bytes)")
            return json.loads(file.read_text("utf-8"))
        except OSError as error:
            raise UserError(
                f"{file}: cannot be read ({error.strerror}); --text-encoder takes the folder of a "
                "sentence-transformers model"
            ) from None
        except (ValueError, RecursionError):
            raise UserError(f"{file}: not valid JSON") from None

    def _optional(self, file: Path) -> dict[str, Any]:
        return self.read(file) if file.is_file() else {}

    def _steps(self) -> list[tuple[str, Path]]:
        """(kind, folder) of each step that modules.json lists, the transformer first."""
        file = self.path / "modules.json"
        modules = self._json(file)
        if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
            raise UserError(f"{file}: not a list of a sentence-transformers model's modules")
        steps = []
        for module in modules:
            kind, folder = str(module.get("type", "")), module.get("path", "")
            name = kind.rpartition(".")[2]
            if not kind.startswith("sentence_transformers.") or name not in _STEPS:
                raise UserError(f"{file}: module {kind[:80]!r}; only {', '.join(_STEPS)} are known")
            place = (self.path / str(folder)).resolve()
            if not place.is_relative_to(self.path.resolve()):
                raise UserError(f"{file}: the path {str(folder)[:80]!r} leaves the model's folder")
            steps.append((name, place))
        kinds = [kind for kind, _ in steps]
        if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & set(kinds[2:]):
            raise UserError(f"{file}: {' then '.join(kinds) or 'no modules'}; a Transformer, then a Pooling are needed")
        return steps

    def _weights(self) -> Path | None:
        where = self.transformer
        for text, wrong in (
            ("brings its own code (auto_map), which is never run", "auto_map" in self.config),
            ("is an adapter of another model; merge it into that first", (where / "adapter_config.json").exists()),
            ("is an encoder with a decoder; an encoder alone is needed", self.config.get("is_encoder_decoder") is True),
        ):
            if wrong:
                raise UserError(f"--text-encoder {self.path}: the model {text}")
        if (where / "onnx" / "model.onnx").is_file():
            return where / "onnx" / "model.onnx"
        if any(where.glob("model*.safetensors")):
            return None
        pickles = sorted(file.name for file in (*where.glob("*.bin"), *where.glob("*.pt"), *where.glob("*.h5")))
        found = f"{pickles[0]} is not loaded (a pickle can run code): convert it to safetensors" if pickles else "none"
        raise UserError(f"--text-encoder {self.path}: weights must be model.safetensors or onnx/model.onnx; {found}")

    def _places(self, truncation: Any) -> int:
        """How many tokens the model reads."""
        positions = self.config.get("max_position_embeddings")
        if isinstance(positions, int) and "roberta" in str(self.config.get("model_type")):
            positions -= 2  # its positions start at 2
        own = truncation.get("max_length") if isinstance(truncation, dict) else None
        said = self._settings.get("max_seq_length") or own or _PLACES
        places = [n for n in (said, positions) if isinstance(n, int) and n >= 4]
        return min(places, default=_PLACES)

    def _default_prompt(self) -> str:
        """What the model wants before every text, such as "query: "."""
        settings = self._optional(self.path / "config_sentence_transformers.json")
        prompts, name = settings.get("prompts"), settings.get("default_prompt_name")
        prompt = prompts.get(name, "") if isinstance(prompts, dict) and isinstance(name, str) else ""
        if not isinstance(prompt, str):
            raise UserError(f"{self.path}: the prompt {name!r} is {reprlib.repr(prompt)}, and must be words")
        return prompt
