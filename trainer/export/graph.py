"""A generator as a graph of fixed operations: what formats other than ours share."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from shards.core.atomic_io import explain_disk_errors
from shards.core.errors import Failure, UserError
from shards.dataset.schema import WORDLESS
from trainer.export.folder import public_encoder
from trainer.generation.sampler import Sampler
from trainer.models import image_shape
from trainer.noise import normal

INPUTS, OUTPUT = ("noise", "label", "known"), "image"
_EXAMPLES = 16
_COLORS = {1: "grey", 3: "RGB", 4: "RGBA with straight alpha"}
_TOLERANCE = 1 / 127.5  # of images in [-1, 1]: one step of 255


class Example(NamedTuple):
    """Inputs to translate a graph with, and to compare it on: noise (n, noise_size), label (n, L), known (n, A)."""

    noise: Tensor
    label: Tensor
    known: Tensor

    @classmethod
    def of(cls, sampler: Sampler) -> Example:
        """Return labels of the dataset, the last of them with nothing known, with the noise of seed 0."""
        kept = sampler.vocabulary.labels
        rows = np.arange(_EXAMPLES) % len(kept.label)
        label = torch.from_numpy(np.asarray(kept.label[rows], np.float32))
        known = torch.from_numpy(np.asarray(kept.known[rows], np.float32))
        label[-1], known[-1] = 0, 0
        return cls(normal(0, "noise to sample", torch.arange(_EXAMPLES), sampler.noise_size), label, known)

    def rows(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the last ``count`` examples."""
        return self.noise[-count:], self.label[-count:], self.known[-count:]


class Graph(nn.Module):
    """A copy of a generator for translation: in contiguous memory, and with images in [-1, 1]."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = copy.deepcopy(generator).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.eval()

    def forward(self, noise: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map noise (B, noise_size), label (B, L) and known (B, A), all float32, to images (B, C, H, W) in [-1, 1]."""
        return self.generator(noise, label, known).clamp(-1, 1)

    @staticmethod
    def dynamic_shapes() -> tuple[dict[int, Any], ...]:
        """Return that the first size of every input is the batch's, which may be any."""
        return ({0: torch.export.Dim("batch")},) * len(INPUTS)

    @torch.no_grad()
    def check(self, runtime: str, images: np.ndarray, inputs: tuple[Tensor, ...]) -> None:
        """Check that a runtime drew the images of these inputs.

        Raises:
            Failure: a pixel differs by more than 1/255, or is not a number.
        """
        expected = self(*inputs).numpy()
        same_shape = images.shape == expected.shape
        difference = float(np.abs(images - expected).max()) if same_shape else np.nan
        if not difference <= _TOLERANCE:
            raise Failure(
                "export-differs",
                f"{runtime} does not draw the generator's images: {images.shape} with a difference of "
                f"{difference * 127.5:.1f}/255, expected {expected.shape} within 1/255; nothing was written",
            )


def described_label(sampler: Sampler) -> dict[str, Any]:
    """Return what the inputs and the output are, for somebody who has nothing but the file.

    ``label`` names each entry of a label vector, ``known`` each entry of the mask, both in order.
    """
    attributes = sampler.schema.attributes
    entries = [
        name
        for a in attributes
        for name in ([f"{a.name}[{i}]" for i in range(a.size)] if a.kind in WORDLESS else a.values)
    ]
    shape = image_shape(sampler.saved.state.architecture)
    return {
        "noise": f"float32 (batch, {sampler.noise_size}), standard normal",
        "label": entries,
        "known": [a.name for a in attributes],
        "label_rule": "float32. A value or tag: 1 if the image shows it, else 0. Numbers: as in the dataset, unscaled. "
        "A text: its vector by text_encoder. known is 1 for each attribute that the label speaks of, else 0.",
        "text_encoder": public_encoder(sampler.vocabulary.text_encoder),
        "image": f"float32 (batch, {shape.channels}, {shape.height}, {shape.width}), {_COLORS[shape.channels]} in "
        "[-1, 1]; uint8 = round((image + 1) * 127.5)",
        "schema": sampler.schema.to_json(),
    }


def require_unused_file(out: Path, suffix: str, force: bool) -> None:
    """Check that a file may be written, and make its folder, before time is spent on it.

    Raises:
        UserError: it has another suffix, exists and is not to be replaced, or is a directory.
        Failure: its folder cannot be made.
    """
    if out.suffix.lower() != suffix:
        raise UserError("invalid-output-name", f"{out}: give a file whose name ends in {suffix}")
    if out.is_dir() or (out.exists() and not force):
        hint = "choose another path" if out.is_dir() else "add --force to replace it, or choose another path"
        raise UserError("output-exists", f"{out} exists; {hint}")
    with explain_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
