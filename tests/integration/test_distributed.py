"""Collectives and error handling of a job's processes, and the loss scaler of fp16."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from support.errors import codes
from support.launching import MAIN, environment, free_port
from trainer.distributed import rendezvous
from trainer.distributed.process_group import Distributed
from trainer.distributed.rendezvous import cores_per_process

AGREE = """
import contextlib, sys, time
from shards.core.errors import Failure, UserError
from trainer.distributed.process_group import Distributed
from trainer.process.exit import end

def fail(kind, code):
    raise kind(code, "a message")

@contextlib.contextmanager
def slow_to_close(env):
    try:
        yield
    finally:
        time.sleep(0 if env.rank else 1)

def main():
    with Distributed("cpu", "no", 1, timeout=60) as env, env.coordinate_errors(), slow_to_close(env):
        assert env.world_size == 2
        sums = [env.sum_async(env.rank == 1 and step == 2, env.rank + 1) for step in range(5)]
        assert sums == [[0, 0], [0, 3], [0, 3], [1, 3], [0, 3]], sums
        assert env.flush(2) == [0, 3], "sums in flight"
        assert env.flush(2) == [0, 0], "nothing in flight"
        assert env.sum_async(1, 1) == [0, 0] and env.sum_async(0, 0) == [2, 2]
        assert env.all_gather(env.rank) == [0, 1]
        case = sys.argv[1]
        if case == "one":
            env.on_all_ranks(lambda: fail(UserError, "on-one-rank") if env.rank == 1 else None)
        elif case == "all":
            env.on_all_ranks(lambda: fail(UserError, "on-all-ranks"))
        elif case == "first":
            env.on_rank0(lambda: fail(Failure, "on-rank-0"))
        elif case == "bug":
            env.on_rank0(lambda: 1 / 0)

end(main)
"""


@pytest.mark.parametrize(
    ("case", "printed", "statuses"),
    [
        ("one", "error: rank 1: a message [on-one-rank]", [2, 1]),
        ("all", "error: a message [on-all-ranks]", [2, 2]),
        pytest.param("first", "error: a message [on-rank-0]", [1, 1], marks=pytest.mark.long),
        pytest.param("bug", "ZeroDivisionError", [1, 1], marks=pytest.mark.long),
    ],
)
def test_an_error_of_all_processes_is_printed_once_whoever_exits_first(
    tmp_path: Path, case: str, printed: str, statuses: list[int]
) -> None:
    """Process 1 exits first. No launcher is there, which would end the other."""
    processes = by_hand(tmp_path, AGREE, case)
    errors = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == statuses, errors
    assert "".join(errors).count(printed) == 1 and "AssertionError" not in "".join(errors), errors
    assert sum(text.count("error:") for text in errors) == (case != "bug"), errors


def by_hand(tmp_path: Path, program: str, case: str) -> list[subprocess.Popen[str]]:
    """Start a program as the two processes of a job, without a launcher."""
    (tmp_path / "program.py").write_text(program)
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    line = [sys.executable, str(tmp_path / "program.py"), case]
    ranks = [environment(2, job | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]
    return [subprocess.Popen(line, env=rank, stderr=subprocess.PIPE, text=True) for rank in ranks]


WAIT = """
import os, signal, sys, time
from trainer.distributed import device_wait
from trainer.distributed.process_group import Distributed
from trainer.process.exit import end

class NeverReached:
    "As an event after NCCL's part of an all-reduce that a lost rank will never join."

    def query(self):
        return False

    def synchronize(self):
        time.sleep(1000)

pending = sys.argv[1] == "in a pending exchange of counts"
device_wait._ASK_EVERY = 1000 if pending else 0.3

def main():
    with Distributed("cpu", "no", 1, timeout=60) as env, env.coordinate_errors():
        env.sum_async(1)
        assert env.flush(1) == [2]
        if env.rank == 1:
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGKILL)
        if pending:
            env.sum_async(1)
        env.wait_for(NeverReached())

end(main)
"""


@pytest.mark.long
@pytest.mark.parametrize("found", ["in a pending exchange of counts", "by a question"])
def test_a_killed_rank_is_named_while_this_one_waits_for_its_gpu(tmp_path: Path, found: str) -> None:
    """No launcher is there, which would end the one that waits."""
    waiting, killed = by_hand(tmp_path, WAIT, found)
    _, errors = waiting.communicate(timeout=50)
    killed.communicate()
    assert waiting.returncode == 1
    assert "lost contact: process 1 on " in errors and codes(errors) == ["rank-lost"], errors


def with_scaler(scale: float) -> Distributed:
    env = Distributed(device="cpu", precision="no", threads=1)
    env.scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=True)
    env.scaler.scale(torch.zeros(()))
    return env


def test_trap_the_scaler_skips_an_overflowed_step_and_lowers_its_scale() -> None:
    env = with_scaler(2.0**16)
    module = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(2))])
    weight = module[0]
    optimizer = torch.optim.Adam([weight], 0.1)
    env.backward((weight * float("inf")).sum())
    assert not env.step(module, optimizer).isfinite()
    assert weight.tolist() == [1, 1]
    assert env.scaler.get_scale() == 2.0**15
    optimizer.zero_grad()
    env.backward(weight.sum())
    assert env.step(module, optimizer).item() == pytest.approx(2**0.5)
    assert weight.tolist() == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_whose_gradients_are_not_finite_changes_nothing(fused: bool, bad: float) -> None:
    env = Distributed(device="cpu", precision="no", threads=1)
    module = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))])
    optimizer = torch.optim.Adam(module.parameters(), 0.1, fused=fused)

    def step(factor: float) -> list[torch.Tensor]:
        optimizer.zero_grad()
        (module[0].sum() * factor + module[1].sum()).backward()
        env.step(module, optimizer)
        moments = [value for state in optimizer.state.values() for value in state.values()]
        return [tensor.detach().clone() for tensor in (*module, *moments)]

    before = step(1.0)
    assert all(map(torch.equal, step(bad), before)), "weights, moments and Adam's step counts"
    after = step(1.0)
    assert not any(map(torch.equal, after, before))


def test_trap_the_launchers_single_thread_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch` sets OMP_NUM_THREADS=1 if it is unset, so torch starts with one thread."""
    monkeypatch.setattr("trainer.distributed.rendezvous.process_pool.available_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert Distributed("cpu", "no", threads=0).threads == torch.get_num_threads() == 3
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        assert Distributed("cpu", "no", threads=0).threads == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("slurm", "visible", "local", "cores"),
    [
        ({}, 16, 4, 4),
        ({}, 2, 4, 1),
        (
            {"SLURM_CPUS_PER_TASK": "8", "SLURM_NTASKS": "16", "WORLD_SIZE": "16"},
            8,
            8,
            8,
        ),  # each task is bound to its cores
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_NTASKS": "16", "WORLD_SIZE": "16"}, 64, 8, 8),  # no task is bound
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_NTASKS": "16", "WORLD_SIZE": "16"}, 2, 8, 2),
        ({"SLURM_CPUS_PER_TASK": "64", "SLURM_NTASKS": "2", "WORLD_SIZE": "16"}, 64, 8, 8),  # one launcher per node
        ({"SLURM_CPUS_PER_TASK": "64", "SLURM_NTASKS": "1"}, 64, 1, 64),  # a shell within a job
    ],
)
def test_cores_are_divided_among_local_ranks_once(
    monkeypatch: pytest.MonkeyPatch, slurm: dict[str, str], visible: int, local: int, cores: int
) -> None:
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rendezvous.process_pool, "available_cores", lambda: visible)
    assert cores_per_process(local) == cores


def test_a_port_in_use_is_one_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
        line = [sys.executable, str(MAIN), "--preset", "smoke", "--timeout", "10"]
        done = subprocess.run(line, env=environment(2, job), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "port-in-use" in codes(done.stderr) and f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
