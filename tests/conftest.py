"""What every test stands on: no account, no network, no launcher's leftovers, child processes find the checkout."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest

from support import ROOT
from support.launching import TINY, make_dataset, train

LONG_TIMEOUT = 900  # seconds, for tests marked `long`
CHAOS_TIMEOUT = 150  # seconds per interruption
SLOWEST = ("test_compilation.py", "test_demo.py", "test_tutorial.py")  # files with minutes of work each
LARGE = 1 << 30  # bytes of resident memory

# A launcher's, a tracker's or a scheduler's settings around the test run must not steer the runs inside the tests.
FOREIGN_PREFIXES = ("WANDB_", "ACCELERATE_", "SLURM_", "TORCHELASTIC_", "TRACKIO_")
FOREIGN_NAMES = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
FOREIGN_NAMES |= {
    "REQUEUE_FILE",
    "OMP_NUM_THREADS",
    "GOMP_SPINCOUNT",
    "OMP_WAIT_POLICY",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
}

# Examples are drawn from the test's name, so that a failure is the same everywhere; a loaded machine is no failure.
hypothesis.settings.register_profile(
    "project", deadline=None, derandomize=True, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the seed of the interruptions in `test_chaos.py`, drawn by default, and their number."""
    parser.addoption("--chaos-seed", type=int, default=None, help="repeat what this seed drew")
    parser.addoption("--chaos-blows", type=int, default=50, help="number of interruptions")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark exhaustive tests as long, and give long ones their longer timeout, unless they name one of their own."""
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.long)
        blows: Any = item.config.getoption("--chaos-blows")
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT))
        if item.get_closest_marker("chaos"):
            item.add_marker(pytest.mark.timeout(CHAOS_TIMEOUT * blows))
    items.sort(key=lambda item: item.path.name not in SLOWEST)  # the other tests run beside them


@pytest.fixture(scope="session", autouse=True)
def quiet_environment() -> Iterator[None]:
    """The environment of this process, and so of all its children: offline, in a scratch folder, from this checkout."""
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # a shell's background job; its children would not hear Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="cgan-tests-") as scratch:
        for name in list(os.environ):
            if name.startswith(FOREIGN_PREFIXES) or name in FOREIGN_NAMES:
                patch.delenv(name)
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "TRACKIO_DIR", "HF_HOME"):
            folder = Path(scratch, name.lower())
            folder.mkdir()
            patch.setenv(name, str(folder))
        patch.setenv("XDG_CACHE_HOME", str(Path(scratch, "cache")))
        patch.setenv("NETRC", str(Path(scratch, "no-netrc")))  # a personal W&B key lies in ~/.netrc
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
        yield


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a packed dataset of 160 drawn shapes, 16x16; copy it before changing it."""
    folder = tmp_path_factory.mktemp("small-dataset")
    make_dataset(folder, 160)
    return folder / "data"


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, small_dataset: Path) -> Path:
    """Return the directory of a run that has seen 64 images of `small_dataset`; copy it before changing it."""
    run = tmp_path_factory.mktemp("trained-run") / "run"
    train(*TINY, "--shards", small_dataset, "--run", run, "--total-images", 64)
    return run


@pytest.fixture(autouse=True)
def return_memory() -> Iterator[None]:
    """Return free memory to the system after a large test: the trainer's malloc settings would keep it."""
    yield
    if psutil.Process().memory_info().rss > LARGE:
        gc.collect()
        with contextlib.suppress(AttributeError, OSError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT
