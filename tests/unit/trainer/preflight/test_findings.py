"""Assessment of facts that this machine cannot produce: GPUs, drivers, clocks, mixed clusters, slow disks."""

from __future__ import annotations

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
    data,
    devices,
    findings,
    limits,
    run_directory,
    versions,
    wandb_reachability,
)
from trainer.preflight.findings import FINE, RED, YELLOW, Finding


def reports(*facts: Any, name: str, nodes: int = 2) -> list[dict[str, Any]]:
    """Return one report per rank with these facts, the ranks divided among ``nodes`` nodes."""
    each = len(facts) // nodes
    return [
        {"rank": rank, "node": f"node{rank // each + 1}", "ranks_here": each, name: found}
        for rank, found in enumerate(facts)
    ]


def texts(found: list[Finding], level: str) -> str:
    return "\n".join(f"{finding.says} -> {finding.remedy}" for finding in found if finding.level == level)


# ---------------------------------------------------------------- devices

A100 = {"name": "NVIDIA A100-SXM4-80GB", "memory": 80e9, "capability": "8.0"}
V100 = {"name": "Tesla V100", "memory": 32e9, "capability": "7.0"}


def gpus(kind: dict[str, Any] = A100, count: int = 2, **changes: Any) -> dict[str, Any]:
    listed = {"driver": "550.54", "names": [kind["name"]] * count}
    facts = {"asked": "auto", "build": "CUDA 12.8", "available": True, "listed": listed, "visible": None}
    facts |= {"local_world": 2, "gpus": [kind] * count, "device": "cuda", "precision": "bf16", "bf16": True}
    return facts | {"computes": True, "free": 79e9, "total": 80e9} | changes


def assessed(*facts: dict[str, Any]) -> list[Finding]:
    return devices.assess(reports(*facts, name=devices.NAME))


def test_two_nodes_of_two_gpus_are_fine() -> None:
    found = assessed(*[gpus()] * 4)
    assert [finding.level for finding in found] == [FINE]
    assert "2 x NVIDIA A100-SXM4-80GB (80.0 GB, compute capability 8.0), driver 550.54" in found[0].says


NO_DRIVER = {"available": False, "gpus": [], "device": "cpu", "precision": "no", "listed": None, "why": "no driver"}


@pytest.mark.parametrize(
    ("changes", "says", "remedy"),
    [
        (NO_DRIVER, "built for CUDA 12.8 and finds no GPU (no driver)", "--device cpu"),
        (NO_DRIVER | {"build": None, "listed": gpus()["listed"]}, "torch is built for CPUs only", "a CUDA build"),
        (NO_DRIVER | {"listed": gpus()["listed"]}, "finds no GPU", "the driver 550.54 may be too old"),
        ({"listed": {"error": "nvidia-smi: Driver/library version mismatch"}}, "version mismatch", "restart"),
        ({"gpus": [A100]}, "lists 2 GPUs and torch sees 1", "may have failed"),
        ({"gpus": [A100], "listed": None}, "2 ranks and 1 GPUs", "at most one rank per GPU"),
        ({"computes": False, "why": "no kernel image"}, "does not compute: no kernel image", "build of torch"),
    ],
)
def test_an_unusable_gpu_is_red(changes: dict[str, Any], says: str, remedy: str) -> None:
    found = assessed(*[gpus(**changes)] * 4)
    assert says in texts(found, RED) and remedy in texts(found, RED)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gpus": [A100], "visible": "0", "local_world": 1}, "CUDA_VISIBLE_DEVICES=0 hides the others"),
        ({"local_world": 1}, "2 GPUs and 1 ranks"),
        ({"free": 3e9}, "has 3.0 GB of 80.0 GB free"),
    ],
)
def test_an_unused_gpu_is_yellow(changes: dict[str, Any], says: str) -> None:
    found = assessed(*[gpus(**changes)] * 4)
    assert says in texts(found, YELLOW) and not texts(found, RED)


def test_nodes_with_different_devices() -> None:
    old = gpus(V100, precision="fp16", bf16=False)
    found = assessed(gpus(), gpus(), old, old)
    assert "bf16 on node1, fp16 on node2" in texts(found, RED) and "--mixed-precision no" in texts(found, RED)
    assert "different kinds of GPUs" in texts(found, YELLOW)
    none = gpus(count=0, listed=None, available=False, device="cpu", build=None)
    assert "cuda on node1, cpu on node2" in texts(assessed(gpus(), gpus(), none, none), RED)


def test_the_output_of_nvidia_smi_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_different_missing_and_unsupported_versions() -> None:
    one = versions.gather()
    assert [f.level for f in versions.assess(reports(*[one] * 4, name=versions.NAME))] == [FINE]
    found = versions.assess(reports(one, one, one, {**one, "torch": "2.12.0"}, name=versions.NAME))
    assert f"torch differs: {one['torch']} on node1, node2 (rank 2), 2.12.0 on node2 (rank 3)" in texts(found, RED)
    found = versions.assess(reports(*[{**one, "wandb": None}] * 4, name=versions.NAME))
    assert "wandb is not installed on node1, node2" in texts(found, RED)
    found = versions.assess(reports(*[{**one, "torch": "2.5.1+cu124"}] * 4, name=versions.NAME))
    assert "torch 2.5.1+cu124 on node1, node2 is not in the supported range" in texts(found, YELLOW) and not texts(
        found, RED
    )


# ---------------------------------------------------------------- network, clocks


def test_a_wrong_sum_is_red_and_numbers_are_those_of_the_slowest_rank() -> None:
    fine = {"right": True, "bytes": 2**20, "seconds": 0.001}
    ranks = reports(fine, {**fine, "seconds": 0.002}, fine, fine, name="gloo")
    (found,) = allreduce.assess(ranks, 4)
    # 2^20 bytes in 2 ms, times 2 (4 - 1) / 4
    assert found.level == FINE and "bus bandwidth 0.79 GB/s" in found.says
    ranks[2]["gloo"] = {**fine, "right": False}
    (found,) = allreduce.assess(ranks, 4)
    assert found.level == RED and "WRONG sum on node2 (rank 2)" in found.says


@pytest.mark.parametrize(("ahead", "level"), [(0.5, FINE), (-3.4, YELLOW), (75.0, RED)])
def test_clocks_that_differ(ahead: float, level: str) -> None:
    measured = [{"ahead": 0.0, "uncertain": 0.0}, {"ahead": ahead, "uncertain": 0.001}]
    (found,) = clocks.assess(reports(*measured, name=clocks.NAME))
    assert found.level == level
    if level == YELLOW:
        assert "node1 is 3.4 s ahead of node2" in found.says and "lock" in found.remedy


def test_a_missing_clock_is_yellow() -> None:
    (found,) = clocks.assess(reports({"ahead": 0.0, "uncertain": 0.0}, {"error": "no answer"}, name=clocks.NAME))
    assert found.level == YELLOW and "not compared: no answer, on node2" in found.says


def test_a_file_server_with_a_wrong_clock() -> None:
    facts = {"folder": "/runs", "free": 1e12, "total": 1e13, "inodes": None, "seconds": 0.01, "clock": 0.0}
    ranks = reports(facts, {**facts, "clock": -3.0}, name=run_directory.NAME)
    assert "dated -3.0 s from the clock of node2" in texts(run_directory.assess(ranks, None), YELLOW)
    assert "12 more files" in texts(
        run_directory.assess(reports({**facts, "inodes": 12}, name="run", nodes=1), None), RED
    )


# ---------------------------------------------------------------- data, limits

DATA = {
    "where": "data/x",
    "local": True,
    "manifest": "a" * 64,
    "pictures": 1000,
    "bytes": 10**7,
    "shards": 1,
    "shape": [3, 64, 64],
}
DATA |= {"widths": [3], "decoded": 500.0, "read": 10**9, "seconds": 1.0, "stored": 10**9}


def assessed_data(rate: float, **changes: Any) -> list[Finding]:
    """Assess two nodes of two ranks with 10 kB per image, 1 GB/s, and 500 decoded images/s per core."""
    ranks = reports({**DATA, **changes}, {}, {**DATA, **changes}, {}, name=data.NAME)
    for report in ranks:
        report["limits"] = {"mine": 4}
    return data.assess([r for r in ranks if r[data.NAME]], rate, 4)


def test_a_rate_is_compared_with_storage_and_cores() -> None:
    found = assessed_data(1_900)  # less than one core per rank
    assert not texts(found, RED) and not texts(found, YELLOW)
    assert "enough for 200,000 images/s of the job" in texts(found, FINE), "each node reads half of it"
    assert "--workers 3 or more" in texts(assessed_data(4_100), YELLOW)
    assert "needs 4.1 of each rank's 4 cores" in texts(assessed_data(8_200), RED)
    assert "--rate 1900 needs more" in texts(assessed_data(1_900, read=9 * 10**6), RED)


def test_the_part_of_the_page_cache_is_reported() -> None:
    assert "Read from storage" in texts(assessed_data(100), FINE)
    assert "75% of it came from this machine's page cache" in texts(assessed_data(100, stored=25 * 10**7), FINE)
    assert "is unknown" in texts(assessed_data(100, stored=None), FINE)
    assert "over the network" in texts(assessed_data(100, local=False), FINE)


def assessed_limits(**changes: Any) -> list[Finding]:
    facts = {"files": 65536, "cores": 8, "quota": None, "mine": 4, "local_world": 2, **changes}
    return limits.assess(reports(facts, facts, name=limits.NAME, nodes=1))


def test_low_limits_are_yellow() -> None:
    assert [f.level for f in assessed_limits()] == [FINE]
    assert "ulimit -n" in texts(assessed_limits(files=256), YELLOW)
    assert "2.5 of 8 cores" in texts(assessed_limits(quota=2.5), YELLOW)
    assert "--threads 1" in texts(assessed_limits(quota=2.5), YELLOW)
    assert "1 core per rank" in texts(assessed_limits(mine=1), YELLOW)


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
def test_the_cpu_quota_of_control_groups(own: str, files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(content)
    (tmp_path / "own").write_text(own)
    assert limits.cpu_quota(tmp_path / "sys", tmp_path / "own") == quota
    assert limits.cpu_quota(tmp_path / "sys", tmp_path / "none") is None


def test_an_invalid_url_of_a_server_is_reported() -> None:
    assert "unknown url type" in str(wandb_reachability.knock("nowhere"))


# ---------------------------------------------------------------- text


@given(st.sets(st.integers(0, 40), min_size=1))
def test_ranges_list_all_numbers(numbers: set[int]) -> None:
    text = findings.ranges(numbers).split(" and ")[0]
    named: list[int] = []
    for part in text.split(", "):
        low, _, high = part.partition("-")
        named += range(int(low), int(high or low) + 1)
    assert named == sorted(numbers)[: len(named)]


def test_red_comes_first_with_its_remedy() -> None:
    shown = findings.render(
        [
            Finding(FINE, "a", "good"),
            Finding(YELLOW, "b", "so so", "do"),
            Finding(RED, "c", "word " * 40, "repair " * 40),
        ],
        False,
        60,
    )
    lines = shown.splitlines()
    assert lines[0].startswith("✗ c") and "! b" in shown and lines[-1].startswith("✓ a")
    assert max(map(len, lines)) <= 60 and shown.index("repair") < shown.index("so so")
