"""Tiny sentence-transformers models with random weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a blue red green hair eyes girl with long and the circle square".split()
WIDTH = 16


def write_tokenizer(folder: Path) -> None:
    """Write a WordPiece tokenizer of a few words, which pads and truncates as those of many published models do."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(128)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_settings(folder: Path, pooling: dict[str, Any], *, steps: tuple[str, ...] = ("Normalize",)) -> None:
    """Write modules.json and the modules after the transformer."""
    kinds = ("Transformer", "Pooling", *steps)
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})


def write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def write_bert(folder: Path, seed: int = 0, pooling: dict[str, Any] | None = None) -> Path:
    """Write a BERT of two narrow layers as safetensors."""
    import torch
    import transformers

    write_tokenizer(folder)
    write_settings(folder, pooling or {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True})
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.BertModel(config).save_pretrained(str(folder))
    return folder


def write_onnx(folder: Path, seed: int = 0) -> Path:
    """Write an ONNX model whose hidden states are a table of random numbers, one row per token."""
    write_tokenizer(folder)
    write_settings(folder, {"pooling_mode": "mean"})
    write_json(folder / "config.json", {"model_type": "bert", "max_position_embeddings": 32})
    table = np.random.default_rng(seed).standard_normal((len(WORDS), WIDTH)).astype(np.float32)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(_gather(table))
    return folder


def _gather(table: np.ndarray) -> bytes:
    """Return the ONNX file of ``last_hidden_state = table[input_ids]``, encoded as protocol buffers by hand."""

    def varint(value: int) -> bytes:
        low = value & 0x7F
        return bytes([low]) if value < 0x80 else bytes([low | 0x80]) + varint(value >> 7)

    def number(field: int, value: int) -> bytes:
        return varint(field << 3) + varint(value)

    def part(field: int, content: bytes | str) -> bytes:
        content = content.encode() if isinstance(content, str) else content
        return varint(field << 3 | 2) + varint(len(content)) + content

    def value(name: str, kind: int, *dims: str) -> bytes:
        shape = b"".join(part(1, part(2, dim)) for dim in dims)
        return part(1, name) + part(2, part(1, number(1, kind) + part(2, shape)))

    raw = struct.pack(f"<{table.size}f", *table.ravel().tolist())
    weights = b"".join(number(1, side) for side in table.shape) + number(2, 1) + part(8, "table") + part(9, raw)
    node = part(1, "table") + part(1, "input_ids") + part(2, "last_hidden_state") + part(4, "Gather")
    inputs = part(11, value("input_ids", 7, "n", "t")) + part(11, value("attention_mask", 7, "n", "t"))
    outputs = part(12, value("last_hidden_state", 1, "n", "t", "width"))
    graph = part(1, node) + part(2, "tiny") + part(5, weights) + inputs + outputs
    return number(1, 8) + part(8, part(1, "") + number(2, 13)) + part(7, graph)
