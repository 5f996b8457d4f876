"""The SLURM scripts without a cluster: rank variables, and the batch scripts with fakes of srun and scontrol."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import ROOT

SLURM = ROOT / "launch" / "slurm"
SCRIPTS = [SLURM / "train.sbatch", SLURM / "pack.sbatch", SLURM / "rank.sh", SLURM / "node.sh", ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_parse_and_are_executable(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)


# ---------------------------------------------------------------- one task, one rank


def rank_of(per_node: str, node: int, local: int, rank: int, tasks: int) -> dict[str, str]:
    """Return the variables that rank.sh exports."""
    given = {"SLURM_PROCID": rank, "SLURM_NTASKS": tasks, "SLURM_LOCALID": local, "SLURM_NODEID": node}
    env = {**os.environ, **{k: str(v) for k, v in given.items()}, "SLURM_STEP_TASKS_PER_NODE": per_node}
    printed = subprocess.run([SLURM / "rank.sh", "env"], env=env, text=True, capture_output=True, check=True).stdout
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
    for count in tasks:  # as SLURM abbreviates it
        if groups and groups[-1][0] == count:
            groups[-1][1] += 1
        else:
            groups.append([count, 1])
    short = ",".join(f"{count}(x{nodes})" if nodes > 1 else str(count) for count, nodes in groups)
    node = data.draw(st.integers(0, len(tasks) - 1))
    assert rank_of(short, node, 0, 0, sum(tasks))["LOCAL_WORLD_SIZE"] == str(tasks[node])


def test_tasks_without_a_batch_script_rendezvous_on_the_first_node_of_the_step(tmp_path: Path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        '#!/bin/bash\n[[ $* == *hostnames* ]] && printf "%s\\n" node7 node8 && exit\n'
        '[[ $* == *"node node7"* ]] && echo "NodeName=node7 Arch=x86_64 NodeAddr=10.1.2.7 NodeHostName=n7"\n'
    )
    scontrol.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    env |= {"SLURM_NODEID": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}
    env |= {"SLURM_STEP_NODELIST": "node[7-8]", "SLURM_JOB_ID": "4", "SLURM_STEP_ID": "1"}
    command = [SLURM / "rank.sh", "bash", "-c", "echo $MASTER_ADDR:$MASTER_PORT"]
    assert subprocess.check_output(command, env=env, text=True) == "10.1.2.7:20033\n"
    given = {**env, "MASTER_ADDR": "there", "MASTER_PORT": "1"}  # as a batch script sets it
    assert subprocess.check_output(command, env=given, text=True) == "there:1\n"


def test_the_task_becomes_the_command() -> None:
    """A signal to the task must reach Python: no shell may remain in between."""
    env = {**os.environ, "SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_NODEID": "0", "SLURM_PROCID": "0"}
    env |= {"SLURM_NTASKS": "1", "SLURM_LOCALID": "0"}
    task = subprocess.Popen([SLURM / "rank.sh", "bash", "-c", "echo $$"], env=env, text=True, stdout=subprocess.PIPE)
    printed, _ = task.communicate(timeout=30)
    assert int(printed) == task.pid


# ---------------------------------------------------------------- the batch script

SRUN = """#!/bin/bash
echo "srun $*" >>calls
env | sort >env
{body}
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >>calls
case $* in
*hostnames*) printf '%s\\n' node7 node8 ;;
*"show node node7") echo "NodeName=node7 Arch=x86_64 NodeAddr=10.1.2.7 NodeHostName=n7 Version=22.05" ;;
esac
"""
SCANCEL = """#!/bin/bash
echo "scancel $*" >>calls
"""


class Cluster:
    """A directory that looks like a checkout, with a fake srun that runs the given commands."""

    def __init__(self, folder: Path, srun: str) -> None:
        self.folder = folder
        tools = folder / "tools"
        tools.mkdir()
        fakes = {"srun": SRUN.format(body=srun), "scontrol": SCONTROL, "scancel": SCANCEL, "sleep": "#!/bin/bash\n"}
        for name, text in fakes.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        (folder / "launch").symlink_to(ROOT / "launch")
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

    @property
    def srun_environment(self) -> dict[str, str]:
        """The environment of srun."""
        lines = (self.folder / "env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


def test_a_successful_job(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "exit 0")
    status, _ = cluster.run("--preset", "smoke", "--run", "runs/a b", SLURM_RESTART_COUNT="2")
    assert status == 0
    srun = next(c for c in cluster.calls if c.startswith("srun"))
    expected = "launch/slurm/rank.sh python3 -m trainer.main --preset smoke --run runs/a b"
    assert srun.endswith(expected) and "--kill-on-bad-exit=1" in srun
    assert not [c for c in cluster.calls if "requeue" in c]
    env = cluster.srun_environment
    assert env["MASTER_ADDR"] == "10.1.2.7" and env["MASTER_PORT"] == str(20000 + (8 * 4242 + 2) % 12_000)
    assert env["SRUN_CPUS_PER_TASK"] == env["OMP_NUM_THREADS"] == "3"


def test_a_failed_job_is_not_requeued(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "exit 7")
    assert cluster.run()[0] == 7
    assert not [c for c in cluster.calls if "requeue" in c]


@pytest.mark.parametrize("status", [0, 143])
def test_a_job_that_saved_is_requeued_whatever_the_status_of_srun(tmp_path: Path, status: int) -> None:
    cluster = Cluster(tmp_path, f'touch "$REQUEUE_FILE"; exit {status}')
    _, output = cluster.run()
    assert "scontrol requeue 4242" in cluster.calls, output
    assert not list(tmp_path.glob(".requeue-*"))


def test_an_old_requeue_marker_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".requeue-4242").touch()
    cluster = Cluster(tmp_path, "exit 1")
    assert cluster.run()[0] == 1
    assert not [c for c in cluster.calls if "requeue" in c]


def test_variables_of_an_outer_job_are_ignored(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "exit 0")
    left = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "elsewhere", "MASTER_PORT": "1"}
    left |= {"ACCELERATE_USE_CPU": "true", "TORCHELASTIC_RUN_ID": "x"}
    cluster.run(**left)
    assert not set(left) & set(cluster.srun_environment) - {"MASTER_ADDR", "MASTER_PORT"}
    assert cluster.srun_environment["MASTER_ADDR"] == "10.1.2.7" and cluster.srun_environment["MASTER_PORT"] == str(
        20000 + 8 * 4242 % 12_000
    )


WAIT_AND_SAVE = 'touch started; until [[ -e go ]]; do /bin/sleep 0.05; done; touch "$REQUEUE_FILE"; exit 0'


def signalled(cluster: Cluster, number: signal.Signals) -> str:
    """Send a signal to a job's script while its tasks run, let them save and exit, and return the output."""
    job = cluster.start()
    for _ in range(400):
        if (cluster.folder / "started").exists():
            break
        time.sleep(0.05)
    job.send_signal(number)
    time.sleep(0.3)
    assert job.poll() is None, "the script exited before its tasks"
    (cluster.folder / "go").touch()
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 0
    return output


def test_a_cancelled_job_saves_and_stays_cancelled(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, WAIT_AND_SAVE)
    assert "cancelled or requeued" in signalled(cluster, signal.SIGTERM)
    assert not [c for c in cluster.calls if "requeue" in c]
    assert not list(tmp_path.glob(".requeue-*"))


def test_a_warning_is_passed_on_to_the_tasks(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, WAIT_AND_SAVE)
    signalled(cluster, signal.SIGUSR1)
    assert "scancel --signal=TERM 4242" in cluster.calls and "scontrol requeue 4242" in cluster.calls


@pytest.mark.parametrize(
    ("python", "named"), [("/bin/false", "cannot import cgan-trainer"), ("/nowhere/python", "no interpreter")]
)
def test_a_missing_interpreter_or_package_is_reported(tmp_path: Path, python: str, named: str) -> None:
    status, output = Cluster(tmp_path, "exit 0").run(PYTHON=python)
    assert status == 2 and named in output and python in output


def test_missing_scripts_are_reported(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "exit 0")
    (tmp_path / "launch").unlink()
    status, output = cluster.run()
    assert status == 2 and "launch/slurm/rank.sh does not exist" in output


# ---------------------------------------------------------------- one task, one launcher; packing


def test_a_task_becomes_the_launcher_of_a_node(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/bash\necho $$; env; printf '<%s>' \"$@\"\n")
    (tmp_path / "python").chmod(0o755)
    given = {"SLURM_NNODES": "3", "SLURM_NODEID": "2", "SLURM_CPUS_PER_TASK": "8", "RANKS_PER_NODE": "4"}
    given |= {"GPUS_PER_NODE": "0", "MASTER_ADDR": "10.1.2.7", "MASTER_PORT": "20001"}
    words = [SLURM / "node.sh", tmp_path / "python", "-m", "trainer.main", "--run", "a b"]
    task = subprocess.Popen(words, env={**os.environ, **given}, text=True, stdout=subprocess.PIPE)
    printed, _ = task.communicate(timeout=30)
    assert int(printed.splitlines()[0]) == task.pid, "a shell remains in between"
    assert "\nACCELERATE_USE_CPU=true\n" in printed and "\nOMP_NUM_THREADS=2\n" in printed
    launched = "<--num_machines><3><--machine_rank><2><--num_processes><12><--main_process_ip><10.1.2.7>"
    assert launched in printed and printed.endswith("<-m><trainer.main><--run><a b>")


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, "pack --workers 5 a b c --size 64 --part 3/8"),
        ({}, "merge c"),
    ],
)
def test_an_array_packs_and_a_final_job_merges(tmp_path: Path, task: dict[str, str], expected: str) -> None:
    given = {"PYTHON": "echo", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_CPUS_PER_TASK": "5", **task}
    command = ["bash", SLURM / "pack.sbatch", "a b", "c", "--size", "64"]
    printed = subprocess.run(command, env={**os.environ, **given}, text=True, capture_output=True, check=True).stdout
    assert printed == f"-m shards {expected}\n"
