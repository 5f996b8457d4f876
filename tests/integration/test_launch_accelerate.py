"""The files in launch/accelerate, and torchrun: each starts the processes that it describes, which train together."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from support.errors import codes
from support.launching import (
    MAIN,
    ROOT,
    TINY,
    assert_same_run,
    checkpoints,
    environment,
    free_port,
    make_dataset,
    train,
)
from trainer.config import load

FILES = {path.stem: path for path in sorted((ROOT / "launch" / "accelerate").glob("*.yaml"))}
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, "--")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("launch-accelerate")).path


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that was never interrupted."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    train(*words(data, run), processes=2)
    return run


def words(data: Path, run: Path, images: int = 96) -> list[object]:
    options = ("--total-images", images, "--checkpoint-every", 32, "--mixed-precision", "no")
    return [*TINY, "--shards", data, "--run", run, *options]


def run(*line: object, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command without anything in its environment that selects the CPU."""
    command = list(map(str, line))
    return subprocess.run(
        command, env=environment(0, extra), capture_output=True, text=True, timeout=100, check=False, cwd=ROOT
    )


def parsed_settings(name: str, *more: str) -> Any:
    """Return the settings of a file as `accelerate launch` itself parses them."""
    arguments = launch_command_parser().parse_args(["--config_file", str(FILES[name]), *more, "trainer/main.py"])
    return _validate_launch_command(arguments)[0]


def test_each_file_documents_a_command_that_works() -> None:
    assert set(FILES) == {"one_gpu", "gpus", "cpu_processes", "machines", "machines_cpu"}
    parser = launch_command_parser()
    for name, path in FILES.items():
        comment = "\n".join(line[2:] for line in path.read_text().splitlines() if line.startswith("#"))
        found = re.search(r"accelerate launch (?:.*\\\n)*.*", comment)
        assert found, name
        documented = parser.parse_args(shlex.split(found[0].replace("\\\n", " "))[2:])
        assert (ROOT / str(documented.config_file)).samefile(path) and documented.training_script == "trainer/main.py"
        options = load(documented.training_script_args)
        settings = parsed_settings(name)
        assert settings.num_processes and options.data.batch % settings.num_processes == 0
        assert (options.machine.device == "cuda") == ("cpu" not in name), "a missing GPU is an error"


@pytest.mark.parametrize(
    ("name", "more", "processes", "machines"),
    [
        ("gpus", [], 8, 1),
        ("gpus", ["--num_processes", "4"], 4, 1),
        ("cpu_processes", [], 2, 1),
        ("machines", [], 8, 2),
        ("machines", ["--num_machines", "4", "--num_processes", "32"], 8, 4),
        ("machines_cpu", [], 1, 2),
    ],
)
def test_the_launcher_starts_the_described_processes(name: str, more: list[str], processes: int, machines: int) -> None:
    address = ["--machine_rank", "1", "--main_process_ip", "10.0.0.1"] if machines > 1 else []
    settings = parsed_settings(name, *more, *address)
    assert settings.multi_gpu and not settings.cpu
    made = prepare_multi_gpu_env(settings)
    assert settings.nproc_per_node == str(processes)
    if machines > 1:
        assert (settings.nnodes, settings.node_rank) == (str(machines), 1)
        assert (settings.rdzv_backend, settings.rdzv_endpoint) == ("static", "10.0.0.1:29500")
    else:
        assert settings.master_port not in ("0", "29500"), "a free port, so that two runs do not collide"
    assert made["ACCELERATE_MIXED_PRECISION"] == "no"
    assert made.get("CUDA_VISIBLE_DEVICES") == ("-1,-1" if "cpu" in name else None)


def test_one_gpu_is_one_process_on_the_first_gpu() -> None:
    settings = parsed_settings("one_gpu")
    assert not settings.multi_gpu and settings.num_processes == 1
    command, made = prepare_simple_launcher_cmd_env(settings)
    assert command[-1] == "trainer/main.py" and made["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize("name", ["one_gpu", pytest.param("gpus", marks=pytest.mark.long)])
def test_a_machine_without_gpus_is_reported_once(name: str, data: Path, tmp_path: Path) -> None:
    count = 1 if name == "one_gpu" else 2
    launch = (*ACCELERATE, "--config_file", FILES[name], "--num_processes", count)
    done = run(*launch, MAIN, *words(data, tmp_path / "run"), "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert done.returncode != 0
    assert done.stderr.count("error: --device cuda: torch sees no CUDA GPU") == 1, done.stderr
    assert not (tmp_path / "run").exists()


def test_two_processes_on_a_cpu(data: Path, unbroken: Path, tmp_path: Path) -> None:
    launch = (*ACCELERATE, "--config_file", FILES["cpu_processes"])
    done = run(*launch, MAIN, *words(data, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("on cpu, 2 processes") == 1
    assert_same_run(tmp_path / "run", unbroken)


@pytest.mark.exhaustive
def test_the_smoke_preset_with_four_processes(tmp_path: Path) -> None:
    launch = (*ACCELERATE, "--config_file", FILES["cpu_processes"], "--num_processes", 4)
    rest = ("--total-images", 256, "--log-with", "none", "--threads", 1)
    done = run(*launch, MAIN, "--preset", "smoke", "--run", tmp_path / "run", *rest)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("4 processes") == 1 and "done: 256 images seen" in done.stdout


@pytest.mark.long
def test_two_launchers_on_one_machine_train_together(data: Path, unbroken: Path, tmp_path: Path) -> None:
    """Two launchers that act as machines 0 and 1."""
    address = ("--main_process_ip", "127.0.0.1", "--main_process_port", free_port())
    machines = []
    for number in range(2):
        launch = (*ACCELERATE, "--config_file", FILES["machines_cpu"], "--machine_rank", number, *address)
        line = list(map(str, (*launch, MAIN, *words(data, tmp_path / "run"))))
        machines.append(subprocess.Popen(line, env=environment(0, {}), stderr=subprocess.PIPE, text=True, cwd=ROOT))
    for machine in machines:
        _, errors = machine.communicate(timeout=100)
        assert machine.returncode == 0, errors
    assert_same_run(tmp_path / "run", unbroken)


@pytest.mark.long
def test_missing_gpus_are_reported_once_with_the_file_for_several_machines(data: Path, tmp_path: Path) -> None:
    launch = (*ACCELERATE, "--config_file", FILES["machines"], "--num_machines", 1, "--num_processes", 2)
    port = ("--main_process_port", free_port())
    done = run(*launch, *port, MAIN, *words(data, tmp_path / "run"), "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert done.returncode != 0
    assert done.stderr.count("error: --device cuda: torch sees no CUDA GPU") == 1, done.stderr


# ---------------------------------------------------------------- torchrun


def test_torchrun_starts_the_same_training(data: Path, unbroken: Path, tmp_path: Path) -> None:
    done = run(*TORCHRUN, MAIN, *words(data, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", unbroken)


@pytest.mark.long
def test_processes_stop_and_save_when_torchrun_is_killed(data: Path, tmp_path: Path) -> None:
    """Killed, for example, by the kernel when memory is short: the processes receive no signal."""
    folder = tmp_path / "run"
    line = list(map(str, (*TORCHRUN, MAIN, *words(data, folder, images=200_000))))
    launcher = subprocess.Popen(
        line, env=environment(2, {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    end = time.monotonic() + 60
    while not list(folder.glob("checkpoints/0*")) and time.monotonic() < end:
        time.sleep(0.05)
    launcher.kill()
    output, _ = launcher.communicate(timeout=60)
    assert "stopped (the launcher is gone) and saved" in output, output
    assert not (folder / "lock.json").exists()


@pytest.mark.long
def test_an_invalid_option_under_torchrun_is_one_error(data: Path, tmp_path: Path) -> None:
    for option, code in ((("--bach", 16), "unknown-option"), (("--batch", 15), "batch-not-divisible")):
        done = run(*TORCHRUN, MAIN, *words(data, tmp_path / "run"), *option)
        assert done.returncode == 1, "torchrun's own status, whatever those of its processes"
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert codes("\n".join(said)) == [code], done.stderr
        assert re.search(r"exitcode +: 2 ", done.stderr), "the exit status of the trainer"


DIES_ONCE = """
import os, runpy, sys, threading, time
from pathlib import Path
sys.path.insert(0, {root!r})
mark, run = Path({mark!r}), Path({run!r})

def end():
    while not (run.is_dir() and len(list(run.glob("[0-9]*"))) >= 2):
        time.sleep(0.01)
    mark.touch()
    os.kill(os.getpid(), 9)

if os.environ["RANK"] == "1" and not mark.exists():
    threading.Thread(target=end, daemon=True).start()
runpy.run_path({main!r}, run_name="__main__")
"""


@pytest.mark.long
def test_trap_torchrun_restarts_after_a_lost_process_and_the_run_resumes(
    data: Path, unbroken: Path, tmp_path: Path
) -> None:
    """The second attempt is the same command, so it resumes; the lock of the first does not block it."""
    mark, where = tmp_path / "died", tmp_path / "run"
    program = tmp_path / "main.py"
    names = {"root": str(ROOT), "mark": str(mark), "run": str(where / "checkpoints"), "main": str(MAIN)}
    program.write_text(DIES_ONCE.format(**names))
    done = run(*TORCHRUN[:-1], "--max-restarts", 1, "--", program, *words(data, where, images=1024), "--keep", 40)
    assert done.returncode == 0, done.stderr
    assert mark.exists() and "resuming at" in done.stdout
    run(*TORCHRUN, MAIN, *words(data, tmp_path / "whole", images=1024), "--keep", 40)
    assert checkpoints(where) == checkpoints(tmp_path / "whole")
    assert_same_run(where, tmp_path / "whole")


# ---------------------------------------------------------------- a lost process


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "within", "said"),
    [
        (signal.SIGKILL, 15, "has ended"),
        pytest.param(signal.SIGSTOP, 20, "is there but does not move", marks=pytest.mark.exhaustive),
    ],
)
def test_a_lost_process_is_named_once(
    data: Path, tmp_path: Path, number: signal.Signals, within: float, said: str
) -> None:
    where = tmp_path / "run"
    launch = (*ACCELERATE, "--config_file", FILES["cpu_processes"], "--num_processes", 4)
    line = list(map(str, (*launch, MAIN, *words(data, where, images=100_000), "--timeout", 8, "--workers", 1)))
    with subprocess.Popen(line, env=environment(0, {}), stderr=subprocess.PIPE, text=True, cwd=ROOT) as launcher:
        end = time.monotonic() + 100
        while not (where / "checkpoints").is_dir() or len(checkpoints(where)) < 2:
            assert time.monotonic() < end and launcher.poll() is None
            time.sleep(0.05)
        family = psutil.Process(launcher.pid).children(recursive=True)
        (lost,) = (p for p in family if p.ppid() == launcher.pid and p.environ()["RANK"] == "2")
        lost.send_signal(number)
        _, alive = psutil.wait_procs(family, timeout=within)
        assert not alive, alive
        _, errors = launcher.communicate(timeout=30)
    assert launcher.returncode == 1
    messages = re.findall(r"(?m)^error: (.*)$", errors)
    assert len(messages) == 1 and f"process 2 on {socket.gethostname()} {said}" in messages[0], errors
