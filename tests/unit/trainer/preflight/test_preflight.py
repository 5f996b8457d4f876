"""`cgan check`: real ranks on this machine, and their findings about real faults."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from shards.core import cli, self_hash
from shards.core.atomic_io import write_json
from shards.core.errors import exit_status
from shards.examples.shapes import write_folder
from shards.packing.index_in_place import IndexInPlace, index_in_place
from shards.packing.pack import Pack, pack
from support import ROOT
from support.errors import assert_printed
from support.fake_wandb import FakeWandb
from support.launching import free_port, make_dataset
from support.servers import Unreliable
from trainer.config import load
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.preflight import run_directory
from trainer.preflight.options import Check
from trainer.preflight.run import run_checks
from trainer.presets import PRESETS

COMMAND = [sys.executable, "-m", "launch", "check"]
RANK = [sys.executable, "-m", "trainer.preflight"]
NO_TRACKER = ("--log-with", "none")
QUIET = (*NO_TRACKER, "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("check")).path


def check(*words: object, expect: int = 0, **extra: str) -> str:
    """Run the command and return its output."""
    command, env = [*COMMAND, *map(str, words)], {**os.environ, **extra}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == expect, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def check_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Like `check`, for one rank of ``world`` in this process, which has imported torch already."""

    def run(*words: object, expect: int = 0, rank: int = 0, world: int = 1) -> str:
        variables = {
            "RANK": rank,
            "WORLD_SIZE": world,
            "LOCAL_RANK": 0,
            "LOCAL_WORLD_SIZE": 1,
            "MASTER_PORT": free_port(),
        }
        for name, value in {**variables, "MASTER_ADDR": "127.0.0.1"}.items():
            monkeypatch.setenv(name, str(value))
        asked = cli.parse(Check, [*map(str, words), "--device", "cpu"], command="check")
        status = exit_status(lambda: run_checks(asked))
        said = "".join(capsys.readouterr())
        assert status == expect, said
        return said

    return run


def rank(
    number: int, world: int, port: int, *words: object, cwd: Path = ROOT, program: list[str] = RANK, **extra: str
) -> subprocess.Popen[str]:
    """Start one rank of a check as a launcher does."""
    variables = {"RANK": number, "WORLD_SIZE": world, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": port}
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", **{k: str(v) for k, v in variables.items()}, **extra}
    pipe = subprocess.PIPE
    return subprocess.Popen([*program, *map(str, words)], cwd=cwd, env=env, text=True, stdout=pipe, stderr=pipe)


def wait(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a rank, and return its status and output."""
    try:
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert "Traceback" not in err, err
    return process.returncode, out + err


def lines(text: str, sign: str) -> list[str]:
    """Return the findings with this sign, each as one line."""
    joined = text.replace("\n               ", " ")
    return [line for line in joined.splitlines() if line.startswith(sign)]


# ---------------------------------------------------------------- the whole check


def test_two_ranks_check_a_machine_and_leave_no_files(data: Path, tmp_path: Path) -> None:
    words = ["--shards", data, "--run", tmp_path / "runs" / "new", "--preset", "faces32", "--rate", 5]
    said = check("--processes", 2, *words, *QUIET, "--json", tmp_path / "all.json")
    assert not lines(said, "✗") and "0 red" in said and "error" not in said
    assert "gloo over 2 ranks: correct" in said and "bus bandwidth" in said
    assert "64 images of 16x16 in 4 shards" in said
    assert [path.name for path in tmp_path.iterdir()] == ["all.json"]
    found = json.loads((tmp_path / "all.json").read_text())
    assert [report["rank"] for report in found["ranks"]] == [0, 1] and not found["absent"]
    assert {finding["level"] for finding in found["findings"]} <= {"yellow", "fine"}
    assert found["ranks"][0]["data"]["read"] == sum(shard.stat().st_size for shard in data.glob("*.tar"))


def test_unchecked_options_are_listed(check_here: Callable[..., str]) -> None:
    said = check_here(*NO_TRACKER)
    assert "not checked, since not given: --shards and --run" in said
    assert "all-reduce" not in said and lines(said, "✓ ranks")


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--sharsd", "x"], "unknown-option", "--shards"),
        (["--rate", "0"], "invalid-value", "--rate: 0.0"),
        (["--json", "/no/such/folder/x"], "directory-missing", "/no/such/folder"),
        (["--preset", "faces23"], "invalid-value", "'faces32'"),
    ],
)
def test_invalid_options_exit_with_status_2(words: list[str], code: str, named: str) -> None:
    said = check(*words, expect=2)
    assert_printed(said, code, named)
    assert said.count("\n") == 1


def test_ranks_of_another_launcher_start_no_more_ranks() -> None:
    said = check("--processes", 2, expect=2, RANK="0", WORLD_SIZE="2")
    assert_printed(said, "option-without-effect", "--processes")


# ---------------------------------------------------------------- ranks


def test_a_missing_rank_is_named(check_here: Callable[..., str]) -> None:
    said = check_here("--timeout", 2, *NO_TRACKER, expect=1, world=2)
    assert "rank 1 of 2 did not connect within 2 s" in lines(said, "✗")[0]
    assert lines(said, "✓ versions"), "the other ranks run their checks"


@pytest.mark.exhaustive
def test_several_missing_ranks_are_named() -> None:
    port = free_port()
    here = [rank(number, 4, port, "--timeout", 20, *QUIET) for number in (0, 2)]
    (status, said), (other, _) = map(wait, here)
    assert status == 1 and other == 0
    assert "ranks 1, 3 of 4 did not connect within 20 s" in lines(said, "✗")[0]


def test_a_missing_rank_0_is_reported_by_the_others(check_here: Callable[..., str]) -> None:
    said = check_here("--timeout", 1, *NO_TRACKER, expect=1, rank=1, world=2)
    assert_printed(said, "rank-0-unreachable", "rank 1: rank 0", "127.0.0.1:")


@pytest.mark.long
def test_a_rank_that_hangs_is_named() -> None:
    """It connects and then hangs: gloo, which waits for it, must not hang, too."""
    sleeper = "import time, trainer.preflight.store as m; m.SharedStore(20).assemble(print); time.sleep(100)"
    port = free_port()
    silent = rank(1, 2, port, program=[sys.executable, "-c", sleeper])
    try:
        status, said = wait(rank(0, 2, port, "--timeout", 6, *QUIET))
    finally:
        silent.kill()
        silent.communicate()
    red = "\n".join(lines(said, "✗"))
    assert status == 1
    assert "rank 1 connected, but sent no report" in red
    assert "gloo failed or timed out" in red and "no report from rank 1" in red


# ---------------------------------------------------------------- nodes


def on_two_nodes(first: Path, second: Path, *asked: object) -> tuple[int, str]:
    """Check with two ranks on nodes with different directories at one relative path; return rank 0's result."""
    port = free_port()
    words = [*asked, *QUIET]
    one = rank(0, 2, port, *words, cwd=first, SLURMD_NODENAME="node1", PYTHONPATH=str(ROOT))
    two = rank(1, 2, port, *words, cwd=second, SLURMD_NODENAME="node2", PYTHONPATH=str(ROOT))
    wait(two)
    return wait(one)


def test_nodes_with_different_directories(data: Path, tmp_path: Path) -> None:
    for node in ("one", "two"):
        (tmp_path / node).mkdir()
        shutil.copytree(data, tmp_path / node / "data")
    manifest = tmp_path / "two" / "data" / "manifest.json"
    write_json(manifest, self_hash.with_hash(json.loads(manifest.read_text().replace('"source"', '"sauce"', 1))))
    status, said = on_two_nodes(tmp_path / "one", tmp_path / "two", "--shards", "data", "--run", "run")
    red = "\n".join(lines(said, "✗"))
    assert status == 1
    assert "the datasets differ: 64 images, manifest" in red and "on node1" in red and "on node2" in red
    assert "not visible on node1" in red and "not visible on node2" in red and "storage that all nodes share" in red
    assert "2 nodes within 0." in lines(said, "✓ clocks")[0]


@pytest.mark.long
def test_nodes_with_shared_directories(data: Path, tmp_path: Path) -> None:
    status, said = on_two_nodes(tmp_path, tmp_path, "--shards", data, "--run", "run")
    assert status == 0
    assert "the same on 2 nodes" in lines(said, "✓ data")[0]
    assert "visible on all 2 nodes" in lines(said, "✓ run")[0]


# ---------------------------------------------------------------- data


def test_a_remote_dataset_is_read_in_parts(check_here: Callable[..., str], data: Path) -> None:
    with contextlib.closing(Unreliable(data)) as server:
        said = check_here("--shards", server.url, *NO_TRACKER)
        assert "64 images of 16x16 in 4 shards" in said and "Read over the network" in " ".join(said.split())
        server.fault = lambda method, path, before: 403
        said = check_here("--shards", server.url, *NO_TRACKER, expect=1)
    assert "access denied (403)" in lines(said, "✗ data")[0]


def test_storage_too_slow_for_the_rate_is_red(check_here: Callable[..., str], data: Path) -> None:
    said = check_here("--shards", data, "--rate", "1e9", *NO_TRACKER, expect=1)
    assert "--rate 1e+09 needs more" in lines(said, "✗ reading")[0]
    assert lines(said, "✗ decoding")


def test_a_damaged_image_in_the_last_shard_is_found(check_here: Callable[..., str], data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    last = sorted(folder.glob("*.tar"))[-1]
    content = bytearray(last.read_bytes())
    content[512:] = bytes(len(content) - 512)
    last.write_bytes(content)
    said = check_here("--shards", folder, *NO_TRACKER, expect=1)
    finding = lines(said, "✗ data")[0]  # its line may be wrapped anywhere in the path
    assert last.name in finding and "sample 60:" in finding


@pytest.mark.long
def test_a_hanging_dataset_does_not_hang_the_check(data: Path, tmp_path: Path) -> None:
    """A named pipe without a writer replaces a file: opening it waits forever, as on a dead file server."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    (folder / "labels.npy").unlink()
    os.mkfifo(folder / "labels.npy")
    said = check("--shards", folder, "--timeout", 3, *QUIET, expect=1)
    assert "no answer for 3 s" in lines(said, "✗ data")[0]


def test_a_remote_index_that_points_outside_of_its_shard(
    check_here: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    index = np.load(folder / "index.npy")
    index["offset"] += 10**9
    np.save(folder / "index.npy", index)
    with contextlib.closing(Unreliable(folder)) as server:
        said = check_here("--shards", server.url, *NO_TRACKER, expect=1)
        assert "outside of its shard" in lines(said, "✗ data")[0]
        (folder / "index.npy").write_bytes(b"no array")
        said = check_here("--shards", server.url, *NO_TRACKER, expect=1)
        assert "index.npy is not the index of this dataset" in lines(said, "✗ data")[0]


def test_raw_pixels_and_foreign_tars_are_decoded(check_here: Callable[..., str], tmp_path: Path) -> None:
    write_folder(tmp_path / "source", 10, 16)
    pack(Pack(src=tmp_path / "source", out=tmp_path / "raw", size=16, workers=1, format="raw"))
    said = check_here("--shards", tmp_path / "raw", *NO_TRACKER)
    assert "10 images of 16x16" in lines(said, "✓ data")[0]
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    with tarfile.open(foreign / "x.tar", "w") as tar:
        for number, image in enumerate(sorted((tmp_path / "source").rglob("*.png"))):
            tar.add(image, f"{number}.png")
            label = tarfile.TarInfo(f"{number}.cls")
            label.size = 1
            tar.addfile(label, io.BytesIO(b"%d" % (number % 2)))
    index_in_place(IndexInPlace(src=foreign, size=24, workers=1))
    said = check_here("--shards", foreign, *NO_TRACKER)
    assert "10 images of 24x24" in lines(said, "✓ data")[0]


@pytest.mark.long
def test_termination_ends_all_ranks_and_leaves_no_files(data: Path, tmp_path: Path) -> None:
    """Terminate while rank 0 waits for a dataset that hangs."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    (folder / "labels.npy").unlink()
    os.mkfifo(folder / "labels.npy")
    words = ["--shards", folder, "--run", tmp_path / "runs" / "x", "--processes", 2, *QUIET]
    command = [*COMMAND, *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "reading the dataset" in line:
            break
    children = psutil.Process(process.pid).children()
    process.terminate()
    assert process.wait(30) == 143 and len(children) == 2
    assert not psutil.wait_procs(children, 10)[1]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# ---------------------------------------------------------------- run directory


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_too_small_for_the_checkpoints(check_here: Callable[..., str], small: Path) -> None:
    said = check_here("--run", small / "run", "--preset", "smoke", *NO_TRACKER, expect=1)
    assert "5 checkpoints of" in lines(said, "✗ disk")[0]
    assert not list(small.iterdir())
    (small / "full").write_bytes(bytes(1_900_000))
    said = check_here("--run", small / "run", *NO_TRACKER, expect=1)
    assert "the disk is full" in lines(said, "✗ run")[0]
    assert [path.name for path in small.iterdir()] == ["full"], "the test file is removed, other files are not"


def test_a_read_only_disk(check_here: Callable[..., str], small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    said = check_here("--run", small / "run", *NO_TRACKER, expect=1)
    assert "could not be written: Read-only file system" in lines(said, "✗ run")[0]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_size_of_a_checkpoint_is_estimated(preset: str) -> None:
    """Compared with a real checkpoint for a small preset; the others have an estimate at their own size."""
    shape = run_directory.default_shape(preset)
    estimated = run_directory.checkpoint_bytes(preset, shape, (3, 4))
    if preset == "smoke":
        config = load(["--preset", preset, "--mixed-precision", "no"])
        with Distributed("cpu") as env:
            state = build_state(config, env, shape, (3, 4), ("exclusive", "exclusive"))
            for player in (state.g, state.d):  # moments are created by the first step
                for weight in player.module.parameters():
                    weight.grad = torch.zeros_like(weight)
                player.optimizer.step()
            real = sum(t.numel() * t.element_size() for file in state.tensors().values() for t in file.values())
        assert 0.9 * real < estimated < 1.1 * real
    assert estimated > 100_000


def test_a_preset_that_does_not_support_the_image_size_is_red(
    check_here: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    said = check_here("--shards", data, "--run", tmp_path, "--preset", "article96", *NO_TRACKER, expect=1)
    assert "96x96, but the images are 16x16" in lines(said, "✗ preset")[0]


def test_a_file_in_place_of_the_run_directory(check_here: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = check_here("--run", tmp_path / "file" / "run", *NO_TRACKER, expect=1)
    assert "file is not a directory" in lines(said, "✗ run")[0]


# ---------------------------------------------------------------- W&B

KEY = "0123456789abcdef0123456789abcdef01234567"


def test_unreachable_wandb_is_yellow(check_here: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    said = check_here()
    assert "no answer from 127.0.0.1 from" in lines(said, "! W&B")[0] and "Connection refused" in said
    assert "offline" in said and KEY not in said


def test_reachable_wandb(check_here: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = FakeWandb()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    try:
        said = check_here()
        assert "no API key found" in lines(said, "! W&B")[0] and "no answer" not in said
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        said = check_here("--json", tmp_path / "x.json")
        assert "answers, and an API key is set" in lines(said, "✓ W&B")[0]
        assert KEY not in said + (tmp_path / "x.json").read_text()
    finally:
        server.stop()


def test_wandb_is_not_contacted_in_offline_mode(
    check_here: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "mode offline (from the environment)" in lines(check_here(), "✓ W&B")[0]
