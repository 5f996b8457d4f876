"""What a check makes of facts that this machine cannot show: GPUs, drivers, clocks, mixed clusters, slow disks."""

from __future__ import annotations

import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import ROOT
from trainer.preflight import (
    allreduce,
    clocks,
    devices,
    feeding,
    findings,
    limits,
    run_directory,
    versions,
    wandb_reachability,
)
from trainer.preflight.findings import FINE, RED, YELLOW, Finding
from trainer.preflight.timeouts import Late, within


def reports(*facts: Any, name: str, nodes: int = 2) -> list[dict[str, Any]]:
    """A report a rank with these facts, the ranks shared out to ``nodes`` nodes."""
    each = len(facts) // nodes
    return [
        {"rank": rank, "node": f"node{rank // each + 1}", "ranks_here": each, name: found}
        for rank, found in enumerate(facts)
    ]


def of(found: list[Finding], level: str) -> str:
    return "\n".join(f"{finding.says} -> {finding.remedy}" for finding in found if finding.level == level)


# ---------------------------------------------------------------- devices

A100 = {"name": "NVIDIA A100-SXM4-80GB", "memory": 80e9, "capability": "8.0"}
V100 = {"name": "Tesla V100", "memory": 32e9, "capability": "7.0"}


def gpus(kind: dict[str, Any] = A100, count: int = 2, **changes: Any) -> dict[str, Any]:
    listed = {"driver": "550.54", "names": [kind["name"]] * count}
    facts = {"asked": "auto", "build": "CUDA 12.8", "available": True, "listed": listed, "visible": None}
    facts |= {"local_world": 2, "gpus": [kind] * count, "device": "cuda", "precision": "bf16", "bf16": True}
    return facts | {"computes": True, "free": 79e9, "total": 80e9} | changes


def judged(*facts: dict[str, Any]) -> list[Finding]:
    return devices.judge(reports(*facts, name=devices.NAME))


def test_two_nodes_of_two_gpus_are_fine() -> None:
    found = judged(*[gpus()] * 4)
    assert [finding.level for finding in found] == [FINE]
    assert "2 x NVIDIA A100-SXM4-80GB (80.0 GB, compute capability 8.0), driver 550.54" in found[0].says


NO_DRIVER = {"available": False, "gpus": [], "device": "cpu", "precision": "no", "listed": None, "why": "no driver"}


@pytest.mark.parametrize(
    ("changes", "says", "remedy"),
    [
        (NO_DRIVER, "built for CUDA 12.8 and finds no GPU (no driver)", "--device cpu"),
        (NO_DRIVER | {"build": None, "listed": gpus()["listed"]}, "torch is built for CPUs alone", "a CUDA build"),
        (NO_DRIVER | {"listed": gpus()["listed"]}, "finds no GPU", "the driver 550.54 may be too old"),
        ({"listed": {"error": "nvidia-smi: Driver/library version mismatch"}}, "version mismatch", "restart"),
        ({"gpus": [A100]}, "lists 2 GPUs and torch sees 1", "may have failed"),
        ({"gpus": [A100], "listed": None}, "2 ranks and 1 GPUs", "at most as many ranks"),
        ({"computes": False, "why": "no kernel image"}, "does not compute: no kernel image", "build of torch"),
    ],
)
def test_what_keeps_a_rank_from_its_gpu_is_red(changes: dict[str, Any], says: str, remedy: str) -> None:
    found = judged(*[gpus(**changes)] * 4)
    assert says in of(found, RED) and remedy in of(found, RED)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gpus": [A100], "visible": "0", "local_world": 1}, "CUDA_VISIBLE_DEVICES=0 hides the others"),
        ({"local_world": 1}, "2 GPUs and 1 ranks"),
        ({"free": 3e9}, "has 3.0 GB of 80.0 GB free"),
    ],
)
def test_what_wastes_a_gpu_is_yellow(changes: dict[str, Any], says: str) -> None:
    found = judged(*[gpus(**changes)] * 4)
    assert says in of(found, YELLOW) and not of(found, RED)


def test_unlike_nodes() -> None:
    old = gpus(V100, precision="fp16", bf16=False)
    found = judged(gpus(), gpus(), old, old)
    assert "bf16 on node1, fp16 on node2" in of(found, RED) and "--mixed-precision no" in of(found, RED)
    assert "GPUs of several kinds" in of(found, YELLOW)
    none = gpus(count=0, listed=None, available=False, device="cpu", build=None)
    assert "cuda on node1, cpu on node2" in of(judged(gpus(), gpus(), none, none), RED)


def test_nvidia_smi_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.listed() is None
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '550.54, NVIDIA A100'\necho '550.54, NVIDIA A100'\n")
    program.chmod(0o755)
    assert devices.listed() == {"driver": "550.54", "names": ["NVIDIA A100", "NVIDIA A100"]}
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert devices.listed() == {"error": "nvidia-smi: NVIDIA-SMI has failed"}


# ---------------------------------------------------------------- versions


def test_ranges_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, wanted in versions.RANGES.items():
        if name == "python":
            assert wanted.startswith(project["requires-python"])
        else:
            assert name + wanted in project["dependencies"]


def test_versions_that_differ_miss_or_are_untested() -> None:
    one = versions.look()
    assert [f.level for f in versions.judge(reports(*[one] * 4, name=versions.NAME))] == [FINE]
    found = versions.judge(reports(one, one, one, {**one, "torch": "2.12.0"}, name=versions.NAME))
    assert f"torch differs: {one['torch']} on node1, node2 (rank 2), 2.12.0 on node2 (rank 3)" in of(found, RED)
    found = versions.judge(reports(*[{**one, "wandb": None}] * 4, name=versions.NAME))
    assert "wandb is not installed on node1, node2" in of(found, RED)
    found = versions.judge(reports(*[{**one, "torch": "2.5.1+cu124"}] * 4, name=versions.NAME))
    assert "torch 2.5.1+cu124 on node1, node2 is outside" in of(found, YELLOW) and not of(found, RED)


# ---------------------------------------------------------------- network, clocks


def test_a_wrong_sum_is_red_and_figures_are_the_slowest_ranks() -> None:
    fine = {"right": True, "bytes": 2**20, "seconds": 0.001}
    ranks = reports(fine, {**fine, "seconds": 0.002}, fine, fine, name="gloo")
    (found,) = allreduce.judge(ranks, 4)
    # 2^20 bytes in 2 ms, times 2 (4 - 1) / 4
    assert found.level == FINE and "bus bandwidth 0.79 GB/s" in found.says
    ranks[2]["gloo"] = {**fine, "right": False}
    (found,) = allreduce.judge(ranks, 4)
    assert found.level == RED and "WRONG on node2 (rank 2)" in found.says


@pytest.mark.parametrize(("ahead", "level"), [(0.5, FINE), (-3.4, YELLOW), (75.0, RED)])
def test_clocks(ahead: float, level: str) -> None:
    told = [{"ahead": 0.0, "uncertain": 0.0}, {"ahead": ahead, "uncertain": 0.001}]
    (found,) = clocks.judge(reports(*told, name=clocks.NAME))
    assert found.level == level
    if level == YELLOW:
        assert "node1 is 3.4 s ahead of node2" in found.says and "lock" in found.remedy


def test_a_clock_that_was_not_told_is_yellow() -> None:
    (found,) = clocks.judge(reports({"ahead": 0.0, "uncertain": 0.0}, {"error": "no answer"}, name=clocks.NAME))
    assert found.level == YELLOW and "not compared: no answer, on node2" in found.says


def test_a_file_server_whose_clock_is_off() -> None:
    place = {"folder": "/runs", "free": 1e12, "total": 1e13, "inodes": None, "seconds": 0.01, "clock": 0.0}
    ranks = reports(place, {**place, "clock": -3.0}, name=run_directory.NAME)
    assert "dated -3.0 s from the clock of node2" in of(run_directory.judge(ranks, None), YELLOW)
    assert "12 more files" in of(run_directory.judge(reports({**place, "inodes": 12}, name="run", nodes=1), None), RED)


# ---------------------------------------------------------------- feeding, limits

DATA = {
    "where": "data/x",
    "local": True,
    "manifest": "a" * 64,
    "pictures": 1000,
    "bytes": 10**7,
    "shards": 1,
    "size": 64,
}
DATA |= {"widths": [3], "decoded": 500.0, "read": 10**9, "seconds": 1.0, "stored": 10**9}


def fed(rate: float, **changes: Any) -> list[Finding]:
    """Two nodes of two ranks: 10 kB a picture, 1 GB/s, 500 decoded pictures/s a core."""
    ranks = reports({**DATA, **changes}, {}, {**DATA, **changes}, {}, name=feeding.NAME)
    for report in ranks:
        report["limits"] = {"mine": 4}
    return feeding.judge([r for r in ranks if r[feeding.NAME]], rate, 4)


def test_a_rate_is_held_against_storage_and_cores() -> None:
    found = fed(1_900)  # less than one core a rank
    assert not of(found, RED) and not of(found, YELLOW)
    assert "enough for 200,000 images/s of the job" in of(found, FINE), "half of it comes through each node"
    assert "--workers 3 or more" in of(fed(4_100), YELLOW)
    assert "keeps 4.1 cores of each rank's 4" in of(fed(8_200), RED)
    assert "--rate 1900 needs more" in of(fed(1_900, read=9 * 10**6), RED)


def test_the_page_caches_part_is_named() -> None:
    assert "came from storage" in of(fed(100), FINE)
    assert "75% came from this machine's memory (page cache)" in of(fed(100, stored=25 * 10**7), FINE)
    assert "cannot be told" in of(fed(100, stored=None), FINE)
    assert "over the network" in of(fed(100, local=False), FINE)


def limited(**changes: Any) -> list[Finding]:
    facts = {"files": 65536, "cores": 8, "quota": None, "mine": 4, "local_world": 2, **changes}
    return limits.judge(reports(facts, facts, name=limits.NAME, nodes=1))


def test_limits() -> None:
    assert [f.level for f in limited()] == [FINE]
    assert "ulimit -n" in of(limited(files=256), YELLOW)
    assert "2.5 cores' worth of time on 8 cores" in of(limited(quota=2.5), YELLOW)
    assert "--threads 1" in of(limited(quota=2.5), YELLOW)
    assert "1 core for a rank" in of(limited(mine=1), YELLOW)


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/job/step\n", {"job/cpu.max": "250000 100000\n", "job/step/cpu.max": "max 100000\n"}, 2.5),
        ("0::/job\n", {"cpu.max": "max 100000\n"}, None),
        ("4:cpu,cpuacct:/job\n", {"cpu/job/cpu.cfs_quota_us": "50000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 0.5),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/gone\n", {}, None),
    ],
)
def test_the_control_groups_quota(own: str, files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(content)
    (tmp_path / "own").write_text(own)
    assert limits.cpu_quota(tmp_path / "sys", tmp_path / "own") == quota
    assert limits.cpu_quota(tmp_path / "sys", tmp_path / "none") is None


def test_a_proxy_or_server_that_is_no_server() -> None:
    assert "unknown url type" in str(wandb_reachability.knock("nowhere"))


# ---------------------------------------------------------------- in time


def test_what_hangs_is_left_behind() -> None:
    waiting = threading.Event()
    assert within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)
    with pytest.raises(Late, match=r"no answer for 0\.1 s"):
        within(0.1, waiting.wait)
    waiting.set()


# ---------------------------------------------------------------- shown


@given(st.sets(st.integers(0, 40), min_size=1))
def test_ranges_say_which_numbers(numbers: set[int]) -> None:
    said = findings.ranges(numbers).split(" and ")[0]
    named: list[int] = []
    for part in said.split(", "):
        low, _, high = part.partition("-")
        named += range(int(low), int(high or low) + 1)
    assert named == sorted(numbers)[: len(named)]


def test_red_comes_first_with_its_remedy() -> None:
    shown = findings.show(
        [
            Finding(FINE, "a", "good"),
            Finding(YELLOW, "b", "so so", "do"),
            Finding(RED, "c", "word " * 40, "mend " * 40),
        ],
        False,
        60,
    )
    lines = shown.splitlines()
    assert lines[0].startswith("✗ c") and "! b" in shown and lines[-1].startswith("✓ a")
    assert max(map(len, lines)) <= 60 and shown.index("mend") < shown.index("so so")
