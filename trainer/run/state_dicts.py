"""Modules and optimizers as tensors by name, and back."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer

from shards.core.errors import UserError
from trainer.networks.conditioning import LabelEmbedding, LabelMask


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers of a module by name."""
    return dict(module.state_dict())


def weights_hash(module: nn.Module) -> str:
    """Return the SHA-256 of the names and values of all parameters and buffers, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module; names and shapes must match."""
    sizes = next(((len(m.centre), m.attributes) for m in module.modules() if isinstance(m, LabelMask)), (0, 0))
    module.load_state_dict(with_identity_scaling(module, tensors, *sizes), strict=True)


def with_identity_scaling(
    module: nn.Module, tensors: Mapping[str, Tensor], entries: int, attributes: int
) -> dict[str, Tensor]:
    """Add to older weights the scaling of label entries and the weights of attributes, which were 1."""
    found: dict[str, Tensor] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, LabelMask):
            found |= {f"{name}.centre": torch.zeros(entries), f"{name}.scale": torch.ones(entries)}
        elif isinstance(layer, LabelEmbedding) and layer.weights is not None:
            found[f"{name}.weights"] = torch.ones(attributes)
    return found | dict(tensors)


def optimizer_tensors(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state by ``parameter name/entry``."""
    return {
        f"{name}/{entry}": torch.as_tensor(value)
        for name, parameter in module.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(module: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the optimizer's state, each moment in the memory format of its parameter.

    A contiguous moment of a channels_last weight would make a fused optimizer silently wrong.
    """
    parameters = dict(module.named_parameters())
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        parameter = parameters[name]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        else:  # Adam's step counter
            value = value.to(parameter.device)
        optimizer.state[parameter][entry] = value


@contextlib.contextmanager
def explain_load_errors(checkpoint: Path) -> Iterator[None]:
    """Turn errors of reading and loading tensors into sentences.

    Raises:
        UserError: this machine cannot read the checkpoint, or its tensors do not match the networks.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(
            "file-unreadable",
            f"{checkpoint} cannot be read on {socket.gethostname()} ({getattr(error, 'strerror', None) or error}); "
            "every machine of a job needs access to the run directory",
        ) from None
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError("wrong-weights", f"the weights in {checkpoint} do not match these networks: {reason}") from None
