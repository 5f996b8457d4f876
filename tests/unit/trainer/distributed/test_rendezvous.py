"""What the launcher asks for and this trainer does not do."""

from __future__ import annotations

import pytest
import torch

from support.errors import raises
from trainer.distributed.rendezvous import join


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
    ],
)
def test_launcher_configured_for_a_sharded_model_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, named: str
) -> None:
    monkeypatch.setenv(variable, "true")
    with raises("launcher-strategy", named, "accelerate config", "default_config.yaml"):
        join(torch.device("cpu"), 5)
