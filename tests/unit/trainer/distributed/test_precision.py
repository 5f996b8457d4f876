"""The precision that "auto" means, and what float32 means on a GPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from support.errors import raises
from trainer.distributed import process_group
from trainer.distributed.precision import resolve
from trainer.distributed.process_group import Distributed
from trainer.networks.resampling import double_size


@contextlib.contextmanager
def flags_restored() -> Iterator[None]:
    """Restore torch's flags of precision and determinism."""
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    deterministic = torch.backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.deterministic = deterministic[0]
        torch.use_deterministic_algorithms(deterministic[1])
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]


def on_gpu(monkeypatch: pytest.MonkeyPatch, precision: str, deterministic: bool = False) -> Distributed:
    """Return the environment of a process on a GPU that is not there."""
    accelerator = SimpleNamespace(device="cuda:0", process_index=0, num_processes=1)
    monkeypatch.setattr(process_group, "choose", torch.device)
    monkeypatch.setattr(process_group, "join", lambda device, timeout: accelerator)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    return Distributed("cuda", precision, threads=1, deterministic=deterministic)


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


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_float32_on_a_gpu_is_never_tf32_and_the_start_line_says_so(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    with flags_restored():
        torch.backends.cudnn.allow_tf32 = True  # torch's default
        torch.backends.cuda.matmul.allow_tf32 = True  # as TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 sets it
        env = on_gpu(monkeypatch, precision)
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert env.describe() == f"a GPU, 1 process of 1 thread, precision {precision}, float32 without TF32"


def test_deterministic_runs_set_all_that_torch_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with flags_restored():
        on_gpu(monkeypatch, "no")
        assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
        env = on_gpu(monkeypatch, "no", deterministic=True)
        assert torch.is_deterministic_algorithms_warn_only_enabled(), "ADA's warp has no deterministic gradient"
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert env.describe().endswith("deterministic")


def test_doubling_does_not_scatter_where_results_must_repeat() -> None:
    """On a GPU, gradients that are scattered are added in any order."""
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    scattered = double_size(x)
    assert "Upsample" in type(scattered.grad_fn).__name__
    with flags_restored():
        torch.use_deterministic_algorithms(True)
        gathered = double_size(x)
    assert "Upsample" not in type(gathered.grad_fn).__name__
    assert torch.allclose(gathered, scattered, rtol=0, atol=1e-12)
