"""The precision that "auto" means."""

from __future__ import annotations

import pytest
import torch

from support.errors import raises
from trainer.distributed.precision import resolve


def test_trap_precision_is_chosen_by_what_the_hardware_does_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for flags, expected in (({"avx2"}, "no"), ({"avx2", "avx512_bf16"}, "bf16"), ({"amx_bf16"}, "bf16"), (set(), "no")):
        monkeypatch.setattr("trainer.distributed.precision._cpu_flags", lambda flags=flags: flags)
        assert resolve("auto", cpu) == expected
        assert resolve("no", cpu) == "no"
    monkeypatch.setattr("trainer.distributed.precision._cpu_flags", lambda: {"amx_bf16"})
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # which the launcher exports where nothing was said
    assert resolve("auto", cpu) == "bf16"
    monkeypatch.setattr("trainer.distributed.precision._cpu_flags", set)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert resolve("auto", cpu) == "bf16", "what the launcher was told counts where the option is auto"
    with raises("precision-unsupported", "fp16"):
        resolve("fp16", cpu)
