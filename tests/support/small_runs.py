"""Run directories with a checkpoint of random weights, without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from shards.core.atomic_io import write_json
from shards.dataset.label_rows import Labels
from shards.dataset.schema import Attribute, Schema
from trainer.networks import Architecture, build
from trainer.run import checkpoint


def random_labels(schema: Schema, rows: int = 40, known: float = 0.8) -> Labels:
    """Return labels of a schema; each attribute is known with probability ``known``."""
    random = np.random.default_rng(0)
    label = np.zeros((rows, schema.width), np.float32)
    mask = random.random((rows, len(schema.attributes))) < known
    for row, a in np.argwhere(mask):
        attribute, start = schema.attributes[a], int(schema.starts[a])
        if attribute.kind == "exclusive":
            label[row, start + random.integers(attribute.width)] = 1
        elif attribute.kind == "tag":
            label[row, start] = random.integers(2)
        else:
            label[row, start : start + attribute.width] = random.normal(size=attribute.width)
    return Labels(label, mask)


def random_generator(
    family: str, widths: tuple[int, ...], size: int = 16, **shape: Any
) -> tuple[nn.Module, Architecture]:
    """Return a generator in eval mode, all of whose weights and statistics are random, with its architecture."""
    torch.manual_seed(0)
    architecture = Architecture(family=family, size=size, widths=widths, noise=12, embedding=8, **shape)
    generator, _ = build(architecture)
    with torch.no_grad():
        for name, tensor in (*generator.named_parameters(), *generator.named_buffers()):
            if tensor.is_floating_point() and not name.endswith((".centre", ".scale", ".kernel")):
                noise = 0.05 * torch.randn_like(tensor)
                tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    return generator.requires_grad_(False).eval(), architecture


def write_run(run: Path, attributes: Sequence[Attribute], family: str = "r3gan", **shape: Any) -> Path:
    """Write what `trainer.load` reads of a run, and return its path."""
    schema = Schema(tuple(attributes))
    generator, architecture = random_generator(family, schema.widths, **shape)
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("preset: smoke\n")
    write_json(run / "schema.json", schema.to_json())
    labels = random_labels(schema)
    save_file({"label": labels.label, "known": labels.known.astype(np.uint8)}, run / "labels.safetensors")
    state = {"images_seen": 640, "architecture": dataclasses.asdict(architecture), "config": {}, "scaler": {}}
    checkpoint.save(run, state, {"ema": dict(generator.state_dict())}, keep=1)
    return run
