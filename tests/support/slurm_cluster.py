"""A real SLURM cluster for the tests: several virtual nodes on this machine, everything below one folder.

No systemd, no accounting, nothing under /etc. The daemons run in the foreground, as children that end with the test.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

import psutil
import pytest

from support.launching import free_port

# A runner that must not skip these tests sets it (.ci/run).
NEEDED = "CGAN_TESTS_NEED_SLURM"
_DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")
_SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool/%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd-%n.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd-%n.log
AuthType=auth/munge
CredType=cred/munge
# How long a credential lives is also how long a requeued job waits before it starts again: 120 s unless set.
AuthInfo=socket={base}/munge.sock,cred_expire=5
# Who hears a signal to a step. cgroup: only the tasks that srun started, as on production clusters.
ProctrackType=proctrack/{tracking}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MinJobAge=3600
# Seconds where production has minutes.
KillWait=15
SlurmdTimeout=10
SlurmctldTimeout=10
MessageTimeout=10
UnkillableStepTimeout=20
InactiveLimit=0
CompleteWait=0
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU={memory}
# Jobs of partition "low" make room for those of "high", GraceTime after they were told.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
# Believe this file about CPUs: two cores pose as many.
SlurmdParameters=config_overrides
GresTypes=gpu
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=1-0 PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=ALL MaxTime=1-0 PriorityTier=10 PreemptMode=OFF
"""
_CGROUPS = """
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=no
ConstrainRAMSpace=no
ConstrainDevices=no
"""


def missing() -> str:
    """Why there is no cluster here; empty if there can be one."""
    lacking = [tool for tool in _DAEMONS if not shutil.which(tool, path=_SEARCHED)]
    return (
        f"{', '.join(lacking)} not installed (apt-get install munge slurmctld slurmd slurm-client)" if lacking else ""
    )


class Cluster:
    """``nodes`` virtual nodes of ``cpus`` CPUs and ``gpus`` pretended GPUs each, up while the context is open."""

    def __init__(self, base: Path, nodes: int = 2, cpus: int = 8, gpus: int = 2) -> None:
        self.base = base
        self.nodes = [f"node{i + 1}" for i in range(nodes)]
        self.env = {**os.environ, "SLURM_CONF": str(base / "slurm.conf"), "PATH": _SEARCHED}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        for folder in ("log", "state", "spool", "dev"):
            (base / folder).mkdir(parents=True)
        base.chmod(0o755)
        self._configure(cpus, gpus)

    def _configure(self, cpus: int, gpus: int) -> None:
        host = socket.gethostname().split(".")[0]
        memory = psutil.virtual_memory().total // 2**20
        lines, devices = [], []
        for gpu in range(gpus):  # SLURM wants character devices whose names end in their numbers
            (self.base / "dev" / f"gpu{gpu}").symlink_to("/dev/null")
        for name in self.nodes:
            (self.base / "spool" / name).mkdir()
            where = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()}"
            gres = f" Gres=gpu:{gpus}" if gpus else ""
            lines.append(f"NodeName={name} {where} CPUs={cpus} RealMemory={memory}{gres} State=UNKNOWN")
            if gpus:
                devices.append(f"NodeName={name} Name=gpu File={self.base}/dev/gpu[0-{gpus - 1}]")
        grouped = os.geteuid() == 0 and os.access("/sys/fs/cgroup/freezer", os.W_OK)
        (self.base / "slurm.conf").write_text(
            _CONFIGURATION.format(
                base=self.base,
                host=host,
                port=free_port(),
                user=psutil.Process().username(),
                tracking="cgroup" if grouped else "pgid",
                memory=memory // cpus,
                nodes="\n".join(lines),
            )
        )
        (self.base / "gres.conf").write_text("\n".join(devices) + "\n")
        if grouped:
            (self.base / "cgroup.conf").write_text(_CGROUPS)
        key = self.base / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))

    def __enter__(self) -> Cluster:
        try:
            b = self.base
            # --force: a parent folder that is closed to others, as pytest's is, is only a warning then.
            names = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid"}
            names |= {"log-file": "log/munged.log", "seed-file": "munged.seed"}
            self._start("munged", "--foreground", "--force", *(f"--{k}={b / v}" for k, v in names.items()))
            self.until((b / "munge.sock").exists, 30, "munged has no socket")
            self._start("slurmctld", "-D", "-c", "-i", "-f", str(b / "slurm.conf"))
            for node in self.nodes:
                self.boot(node)
            self.until(lambda: self._idle() == len(self.nodes), 60, "the nodes did not become idle")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self, name: str, *words: str, key: str = "") -> None:
        with (self.base / "log" / f"{key or name}.out").open("ab") as log:
            command = ["setpriv", "--pdeathsig", "KILL", name, *words]  # also if the test itself is killed
            self._daemons[key or name] = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)

    def boot(self, node: str) -> None:
        """Start a node's slurmd."""
        self._start("slurmd", "-D", "-N", node, "-f", str(self.base / "slurm.conf"), key=node)

    def crash(self, node: str) -> None:
        """Let a node fall silent as in a power cut: its slurmd is gone, nothing that runs there moves or answers."""
        self._daemons.pop(node).kill()
        for process in self._of(node):
            process.suspend()

    def repair(self, node: str) -> None:
        """Start a node again after `crash`, without anything that ran there."""
        for process in self._of(node):
            process.kill()
        self.boot(node)

    def _of(self, node: str) -> list[psutil.Process]:
        """A node's tasks, and what started them."""
        tasks = [p for p in self.processes() if p.environ().get("SLURMD_NODENAME") == node]
        parents = {p.parent() for p in tasks} - {None}
        return [p for p in parents if p is not None and p.name() == "slurmstepd"] + tasks

    def _idle(self) -> int:
        return len(set(self.run("sinfo", "-hN", "-tidle", "-o%N", check=False).split()))

    def _end(self) -> None:
        if "slurmctld" in self._daemons:
            with contextlib.suppress(subprocess.SubprocessError):
                self.clear()
        for name in [*reversed(self._daemons)]:  # munged last
            daemon = self._daemons.pop(name)
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def clear(self) -> None:
        """End every job, also those that are queued again meanwhile."""
        for partition in ("low", "high"):
            self.run("scontrol", "update", f"PartitionName={partition}", "State=DOWN", check=False)
        if jobs := self.run("squeue", "-ho%A", check=False).split():
            self.run("scancel", "--signal=KILL", "--full", *jobs, check=False)
            self.run("scancel", *jobs, check=False)
            with contextlib.suppress(AssertionError):
                self.until(lambda: not self.run("squeue", "-h", check=False), 20, "jobs do not end")
        for partition in ("low", "high"):
            self.run("scontrol", "update", f"PartitionName={partition}", "State=UP", check=False)

    def processes(self) -> Iterator[psutil.Process]:
        """What runs of this cluster's jobs: processes whose own environment names it."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                own = process.environ()
                inside = "SLURM_JOB_ID" in own or process.name() == "slurmstepd"
                if own.get("SLURM_CONF") == self.env["SLURM_CONF"] and inside:
                    yield process

    def ranks(self, job: str) -> dict[int, psutil.Process]:
        """The trainers of a job, by rank."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                own = process.environ()
                parent = process.parent()
                trains = "trainer.main" in process.cmdline() and "RANK" in own
                worker = parent is not None and "trainer.main" in parent.cmdline()  # of its data
                if own.get("SLURM_JOB_ID") == job and trains and not worker:
                    found[int(own["RANK"])] = process
        return found

    @contextlib.contextmanager
    def suspended(self, processes: Iterable[psutil.Process]) -> Iterator[None]:
        """Let processes stand still while the context is open; signals wait for them."""
        with contextlib.ExitStack() as waking:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
                waking.callback(_wake, process)
            yield

    # -------------------------------------------------------- commands

    def run(self, *command: str, check: bool = True, **env: str) -> str:
        """Run a command against this cluster; its output."""
        done = subprocess.run(
            command, env={**self.env, **env}, text=True, capture_output=True, timeout=60, cwd=self.base, check=False
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def field(self, job: str, name: str) -> str:
        """A field of `scontrol show job`; the last job's, of an array."""
        found = re.findall(rf"\b{name}=(\S+)", self.run("scontrol", "show", "job", job))
        return found[-1]

    def until(self, done: Callable[[], object], seconds: float = 120, why: str = "") -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                logs = sorted([*self.base.rglob("*.out"), *self.base.glob("log/*.log")])
                tails = [f"--- {p.name}\n{p.read_text(errors='replace')[-2500:]}" for p in logs]
                raise AssertionError("\n".join([why or "it did not happen in time", *tails]))
            time.sleep(0.2)

    def reaches(self, job: str, *states: str, seconds: float = 120) -> str:
        """Wait until a job is in one of the states, and return it."""
        self.until(lambda: self.field(job, "JobState") in states, seconds, f"job {job} is not {'/'.join(states)}")
        return self.field(job, "JobState")


def signalled(process: psutil.Process) -> bool:
    """Whether a warning, SIGUSR1 or SIGTERM, waits for a suspended process (or it is gone).

    SIGSTOP waits too, until a busy machine lets the process run for it.
    """
    warnings = sum(1 << (number - 1) for number in (signal.SIGUSR1, signal.SIGTERM))
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return True
    return any(int(mask, 16) & warnings for mask in re.findall(r"(?:SigPnd|ShdPnd):\s*([0-9a-f]+)", status))


def _wake(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two nodes; the tests are skipped where SLURM is missing, unless they must run."""
    if why := missing():
        assert NEEDED not in os.environ, why
        pytest.skip(why)
    with Cluster(tmp_path_factory.mktemp("slurm")) as up:
        yield up
