"""A device without enough memory is one sentence that names the options that need less."""

from __future__ import annotations

import pytest
import torch

from shards.core import errors
from shards.core.errors import Failure
from trainer.distributed.out_of_memory import explain_out_of_memory

CUDA = "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 23.64 GiB."


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(CUDA),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_sentence_names_the_next_accumulation_and_the_batch(error: RuntimeError) -> None:
    with pytest.raises(Failure) as caught, explain_out_of_memory(batch=24, accumulate=2):
        raise error
    assert caught.value.code == "out-of-memory"
    said = str(caught.value)
    assert "12 images at a time" in said
    assert "--accumulate 3 (the same update, in 8 images at a time)" in said
    assert "--batch" in said
    assert ("tried to allocate 1.50 GiB" in said) == (str(error) == CUDA)
    assert "\n" not in said


def test_no_accumulation_is_named_if_there_is_no_smaller_one() -> None:
    with pytest.raises(Failure) as caught, explain_out_of_memory(batch=4, accumulate=4):
        raise torch.OutOfMemoryError(CUDA)
    assert "--accumulate" not in str(caught.value)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), explain_out_of_memory(batch=4, accumulate=1):
        raise RuntimeError("shape mismatch")


def test_out_of_memory_elsewhere_is_a_sentence_too(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise torch.OutOfMemoryError(CUDA + "\nSee documentation")

    assert errors.exit_status(command) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the GPU has not enough free memory (CUDA out of memory. Tried to allocate 1.50 GiB.")
    assert said.endswith("[out-of-memory]\n")
    assert said.count("\n") == 1


def test_other_runtime_errors_keep_their_traceback() -> None:
    def command() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        errors.exit_status(command)
