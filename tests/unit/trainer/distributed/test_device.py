"""The device that is asked for is the device that trains, whatever the launcher says."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from support.errors import raises
from trainer.distributed import rendezvous
from trainer.distributed.device import choose


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU, as far as torch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments with which Accelerate was asked to join a process group of one."""
    calls: list[dict[str, Any]] = []

    def accelerator(**arguments: Any) -> SimpleNamespace:
        calls.append(arguments)
        return SimpleNamespace(num_processes=1)

    monkeypatch.setattr(rendezvous, "Accelerator", accelerator)
    return calls


@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_is_not_asked_for_under_a_launcher_that_is_configured_for_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choose("auto").type == choose("cuda").type == "cuda"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "False")
    assert choose("auto").type == choose("cuda").type == "cuda", "which the launcher exports otherwise"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert choose("auto").type == choose("cpu").type == "cpu"
    with raises("launcher-mismatch", "--device cuda", "use_cpu"):
        choose("cuda")


@pytest.mark.usefixtures("one_gpu")
def test_processes_on_the_cpu_may_outnumber_the_gpus_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, joined: list[dict[str, Any]]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    rendezvous.join(choose("cpu"), 5)
    assert joined[0]["cpu"] is True
    with raises("too-few-gpus", 3, 1):
        rendezvous.join(choose("cuda"), 5)


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:41234", True),
        ("Timed out waiting 300000ms for recv operation to complete", True),
        ("NCCL error: remote process exited or there was a network error", True),
        ("CUDA error: the launch timed out and was terminated", False),
        ("CUDA error: an illegal memory access was encountered", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_errors_of_a_gpu_are_not_taken_for_lost_ranks(message: str, lost: bool) -> None:
    assert rendezvous.is_lost_contact(RuntimeError(message)) is lost


def test_nccl_keeps_the_defaults_of_torch(monkeypatch: pytest.MonkeyPatch, joined: list[dict[str, Any]]) -> None:
    for name in [name for name in os.environ if "NCCL" in name]:
        monkeypatch.delenv(name)
    rendezvous.join(torch.device("cpu"), 5)
    assert joined and not [name for name in os.environ if name.startswith("TORCH_NCCL")]
