"""Run directories of generators that were never trained, with random weights everywhere: seconds faster than a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn

from shards.dataset.schema import Attribute, Schema
from trainer.config import Config
from trainer.models import fresh_networks
from trainer.networks import Architecture
from trainer.networks.conditioning import set_label_scaling
from trainer.run import checkpoint

SCHEMA = Schema(
    (Attribute("hair", "exclusive", ("blue hair", "red hair", "grey hair")), Attribute("hat", "tag", ("hat",)))
)


def make_run(folder: Path, schema: Schema = SCHEMA, config: dict[str, Any] | None = None, **architecture: Any) -> Path:
    """Write a run directory with one checkpoint at 128 images seen, whose weights are random; return it.

    Args:
        schema: its label schema; numbers get a scaling.
        config: options of the run that differ from the defaults.
        architecture: fields of `Architecture` that differ from a residual network of 8x8 pixels.
    """
    shape = {"family": "residual", "size": 8, "noise": 5, "embedding": 4, "channels": (6, 4)} | architecture
    chosen = Architecture(widths=schema.widths, **shape)  # type: ignore[arg-type]
    generator, _ = fresh_networks(chosen, 1)
    _randomize(generator, schema)
    options = Config().to_dict() | (config or {})
    state = {"images_seen": 128, "architecture": asdict(chosen), "config": options, "scaler": {}, "data": "f00d"}
    state |= {"version": "0.1.0", "commit": "abc", "torch": torch.__version__}
    checkpoint.save(folder, state, {"ema": generator.state_dict()}, 1)
    (folder / "schema.json").write_text(json.dumps(schema.to_json()))
    (folder / "labels.safetensors").write_bytes(save(_labels(schema)))
    return folder


def _randomize(generator: nn.Module, schema: Schema) -> None:
    """Draw weights of which none is zero, so that no part of the network is hidden, and keep the images unclipped."""
    torch.manual_seed(0)
    for parameter in generator.parameters():
        nn.init.normal_(parameter, 0, (2 / max(1, parameter[0].numel())) ** 0.5 if parameter.dim() > 1 else 0.1)
    for layer in generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    numbers = torch.tensor([a.kind == "vector" for a in schema.attributes for _ in range(a.width)])
    set_label_scaling(generator, torch.where(numbers, 150.0, 0.0), torch.where(numbers, 0.05, 1.0))


def _labels(schema: Schema) -> dict[str, np.ndarray]:
    """Return 32 labels, each attribute unknown in some."""
    rng = np.random.default_rng(0)
    known = rng.random((32, len(schema.attributes))) < 0.8
    columns = []
    for attribute in schema.attributes:
        if attribute.kind == "exclusive":
            columns.append(np.eye(attribute.width)[rng.integers(attribute.width, size=32)])
        elif attribute.kind == "tag":
            columns.append(rng.integers(2, size=(32, 1)))
        else:
            columns.append(rng.normal(150 if attribute.kind == "vector" else 0, 10, (32, attribute.width)))
    label = np.concatenate(columns, 1) * np.repeat(known, schema.widths, axis=1)
    return {"label": label.astype(np.float32), "known": known.astype(np.uint8)}
