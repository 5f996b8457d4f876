"""The SLURM scripts without a cluster: a task's variables; the batch script against stand-ins for srun and scontrol."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

SLURM = ROOT / "launch" / "slurm"
SCRIPTS = [SLURM / "train.sbatch", SLURM / "task.sh", ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_parse_and_can_be_started(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)


# ---------------------------------------------------------------- one task, one rank


def rank_of(per_node: str, node: int, local: int, rank: int, tasks: int) -> dict[str, str]:
    """The variables that task.sh hands on."""
    given = {"SLURM_PROCID": rank, "SLURM_NTASKS": tasks, "SLURM_LOCALID": local, "SLURM_NODEID": node}
    env = {**os.environ, **{k: str(v) for k, v in given.items()}, "SLURM_STEP_TASKS_PER_NODE": per_node}
    printed = subprocess.run([SLURM / "task.sh", "env"], env=env, text=True, capture_output=True, check=True).stdout
    return dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)


@pytest.mark.parametrize(
    ("per_node", "node", "local", "rank", "tasks", "on_this_node"),
    [
        ("2(x3)", 0, 0, 0, 6, "2"),
        ("2(x3)", 2, 1, 5, 6, "2"),
        ("2,1", 0, 1, 1, 3, "2"),
        ("2,1", 1, 0, 2, 3, "1"),
        ("4(x2),1,12(x2)", 2, 0, 8, 33, "1"),
        ("4(x2),1,12(x2)", 4, 11, 32, 33, "12"),
        ("1", 0, 0, 0, 1, "1"),
    ],
)
def test_a_task_becomes_a_rank(per_node: str, node: int, local: int, rank: int, tasks: int, on_this_node: str) -> None:
    env = rank_of(per_node, node, local, rank, tasks)
    expected = {"RANK": rank, "WORLD_SIZE": tasks, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": on_this_node}
    assert {k: env[k] for k in expected} == {k: str(v) for k, v in expected.items()}


@given(st.lists(st.integers(1, 16), min_size=1, max_size=6), st.data())
@pytest.mark.filterwarnings("ignore")
def test_any_layout_of_nodes(tasks: list[int], data: st.DataObject) -> None:
    groups: list[list[int]] = []
    for count in tasks:  # as SLURM shortens it
        if groups and groups[-1][0] == count:
            groups[-1][1] += 1
        else:
            groups.append([count, 1])
    short = ",".join(f"{count}(x{nodes})" if nodes > 1 else str(count) for count, nodes in groups)
    node = data.draw(st.integers(0, len(tasks) - 1))
    assert rank_of(short, node, 0, 0, sum(tasks))["LOCAL_WORLD_SIZE"] == str(tasks[node])


def test_the_task_becomes_the_command() -> None:
    """A signal to the task must reach Python: no shell may stay in between."""
    env = {**os.environ, "SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_NODEID": "0", "SLURM_PROCID": "0"}
    env |= {"SLURM_NTASKS": "1", "SLURM_LOCALID": "0"}
    task = subprocess.Popen([SLURM / "task.sh", "bash", "-c", "echo $$"], env=env, text=True, stdout=subprocess.PIPE)
    printed, _ = task.communicate(timeout=30)
    assert int(printed) == task.pid


# ---------------------------------------------------------------- the batch script

SRUN = """#!/bin/bash
echo "srun $*" >>calls
env | grep -E '^(MASTER_|SRUN_|OMP_|REQUEUE_FILE)' | sort >env
{body}
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >>calls
if [[ $1 == show ]]; then printf '%s\\n' node7 node8; fi
"""


class Cluster:
    """A folder that looks like a checkout, with an srun that does what the test says."""

    def __init__(self, folder: Path, srun: str) -> None:
        self.folder = folder
        tools = folder / "tools"
        tools.mkdir()
        for name, text in {"srun": SRUN.format(body=srun), "scontrol": SCONTROL, "sleep": "#!/bin/bash\n"}.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        (folder / "trainer").mkdir()
        (folder / "trainer" / "main.py").touch()
        self.env = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHON": "python3",
            "SLURM_SUBMIT_DIR": str(folder),
            "SLURM_JOB_ID": "4242",
            "SLURM_JOB_NODELIST": "node[7-8]",
            "SLURM_CLUSTER_NAME": "here",
            "SLURM_CPUS_PER_TASK": "3",
        }

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        command = ["bash", str(SLURM / "train.sbatch"), *words]
        env = {**self.env, **env}
        return subprocess.Popen(command, env=env, text=True, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, *words: str, **env: str) -> tuple[int, str]:
        job = self.start(*words, **env)
        output, _ = job.communicate(timeout=60)
        return job.returncode, output

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


def test_a_job_that_ends_well(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "exit 0")
    status, _ = cluster.run("--preset", "smoke", "--run", "runs/a b", SLURM_RESTART_COUNT="2")
    assert status == 0
    srun = next(c for c in cluster.calls if c.startswith("srun"))
    expected = "launch/slurm/task.sh python3 trainer/main.py --preset smoke --run runs/a b"
    assert srun.endswith(expected) and "--kill-on-bad-exit=1" in srun
    assert not [c for c in cluster.calls if "requeue" in c]
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert env["MASTER_ADDR"] == "node7" and env["MASTER_PORT"] == str(20000 + 4244)
    assert env["SRUN_CPUS_PER_TASK"] == env["OMP_NUM_THREADS"] == "3"


def test_a_failed_job_fails_and_is_not_requeued(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "exit 7")
    assert cluster.run()[0] == 7
    assert not [c for c in cluster.calls if "requeue" in c]


@pytest.mark.parametrize("status", [0, 143])
def test_a_job_that_saved_is_requeued_whatever_srun_says(tmp_path: Path, status: int) -> None:
    cluster = Cluster(tmp_path, f'touch "$REQUEUE_FILE"; exit {status}')
    _, output = cluster.run()
    assert "scontrol requeue 4242" in cluster.calls, output
    assert not list(tmp_path.glob(".requeue-*"))


def test_a_marker_from_before_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".requeue-4242").touch()
    cluster = Cluster(tmp_path, "exit 1")
    assert cluster.run()[0] == 1
    assert not [c for c in cluster.calls if "requeue" in c]


def test_a_cancelled_job_saves_and_stays_cancelled(tmp_path: Path) -> None:
    wait_and_save = 'touch started; until [[ -e go ]]; do /bin/sleep 0.05; done; touch "$REQUEUE_FILE"; exit 0'
    cluster = Cluster(tmp_path, wait_and_save)
    job = cluster.start()
    for _ in range(400):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert job.poll() is None, "the script left before its tasks"
    (tmp_path / "go").touch()
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 0 and "told to end" in output
    assert not [c for c in cluster.calls if "requeue" in c]


@pytest.mark.parametrize(("change", "sentence"), [("trainer", "is not the checkout"), ("PYTHON", "no interpreter")])
def test_what_is_missing_is_said(tmp_path: Path, change: str, sentence: str) -> None:
    cluster = Cluster(tmp_path, "exit 0")
    if change == "trainer":
        (tmp_path / "trainer" / "main.py").unlink()
    status, output = cluster.run(**({"PYTHON": "/nowhere/python"} if change == "PYTHON" else {}))
    assert status == 2 and sentence in output
