"""Small networks, batches and training states for tests of the step and of what surrounds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shards.dataset.schema import Attribute, Schema
from shards.stream.batch import Batch
from shards.stream.stream import Stream
from support.launching import make_dataset
from trainer import config
from trainer.augment import Policy, augment, numbers_of
from trainer.augment.draws import Draws, normal_sizes, uniform_sizes
from trainer.augment.transform import Transform
from trainer.distributed.process_group import Distributed
from trainer.finetuning.carried_labels import CarriedLabels, match
from trainer.fresh_state import build_state
from trainer.losses import LOSSES
from trainer.networks import Architecture, build
from trainer.noise import draw
from trainer.state import TrainingState
from trainer.step import Method, Player

WIDTHS = (3, 1)  # an exclusive attribute of three values, and a tag
KINDS = ("exclusive", "tag")
SIZE, NOISE, BATCH = 8, 5, 8


def make_env(precision: str = "no") -> Distributed:
    """Return the environment of a single process on the CPU."""
    return Distributed(device="cpu", precision=precision, threads=1)


def make_state(folder: Path, *words: str) -> tuple[TrainingState, Stream]:
    """Return the training state of preset smoke with more options, and the stream of a dataset made in ``folder``."""
    dataset = make_dataset(folder)
    options = config.load(["--preset", "smoke", "--batch", "8", *words])
    kinds = [attribute.kind for attribute in dataset.schema.attributes]
    state = build_state(options, make_env(), dataset.shape, dataset.schema.widths, kinds)
    return state, Stream(dataset, options.data.batch, options.seed)


def same_labels(widths: Sequence[int]) -> CarriedLabels:
    """Return what carries labels over between networks of one vocabulary."""
    attributes = [Attribute(f"a{n}", "exclusive", tuple(f"{n} {v}" for v in range(w))) for n, w in enumerate(widths)]
    schema = Schema(tuple(attributes))
    return match(schema, schema, same_texts=True)


def plain_values(images_seen: int) -> dict[str, Any]:
    """Return the least that a checkpoint holds besides tensors."""
    architecture = Architecture(family="residual", size=SIZE, widths=WIDTHS, noise=NOISE, embedding=4)
    return {
        "images_seen": images_seen,
        "architecture": dataclasses.asdict(architecture),
        "config": {},
        "scaler": {},
    }


def make_players(
    dtype: torch.dtype = torch.float64, lr: float = 0.0, conditioning: str = "auto"
) -> tuple[Player, Player]:
    """Return D and G of family residual, with random weights everywhere."""
    torch.manual_seed(0)
    shape = {"size": SIZE, "widths": WIDTHS, "noise": NOISE, "embedding": 4, "channels": (6, 4)}
    architecture = Architecture(family="residual", conditioning=conditioning, **shape)  # type: ignore[arg-type]
    g, d = (module.to(dtype) for module in build(architecture))
    for p in (*g.parameters(), *d.parameters()):  # zero-initialized layers would hide half of the network
        nn.init.normal_(p, 0, 0.3)
    return tuple(Player(m, m, torch.optim.Adam(m.parameters(), lr)) for m in (d, g))  # type: ignore[return-value]


def make_batch(dtype: torch.dtype = torch.float64) -> Batch:
    """Return a batch as the step takes it; sample 1 is partly labelled, sample 5 not at all."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.zeros(BATCH, 4, dtype=dtype)
    labels[torch.arange(BATCH), torch.arange(BATCH) % 3] = 1
    labels[::2, 3] = 1
    known = torch.ones(BATCH, 2, dtype=dtype)
    known[1, 0] = known[5] = 0
    has_wrong = torch.ones(BATCH, dtype=dtype)
    has_wrong[5] = 0
    return Batch(
        images=torch.randn(BATCH, 3, SIZE, SIZE, generator=generator, dtype=dtype),
        labels=labels,
        known=known,
        wrong_labels=labels.roll(1, 0),
        wrong_known=known.roll(1, 0),
        has_wrong=has_wrong,
        positions=torch.arange(100, 100 + BATCH),
        wrong_count=BATCH - 1,
    )


def make_method(loss: str, mismatch: str = "real", gamma: float = 0.5) -> Method:
    """Return a method with weights that are not 1."""
    return Method(LOSSES[loss], mismatch, 0.7, gamma, penalty_every=4, noise=NOISE, seed=3)


ADA = Transform("ada", flip=True, p=0.7)


def augmented(
    images: Tensor, policy: Policy, first: int = 0, *, seed: int = 0, purpose: str = "test", **options: Any
) -> Tensor:
    """Return images augmented, with the positions from ``first`` on."""
    positions = torch.arange(first, first + len(images))
    even, bell = numbers_of(policy)
    sizes = {"uniform": uniform_sizes([purpose], even), "normal": normal_sizes([purpose], bell)}
    draws = Draws([purpose], draw(seed, positions, images.dtype, **sizes))
    return augment(images, draws, policy=policy, **options)
