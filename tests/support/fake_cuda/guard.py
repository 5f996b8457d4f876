"""Compile `guard.cpp` and load it before torch. A CUDA build of torch does not need it."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from support import ROOT

# A runner that must not skip these tests sets it (.ci/run).
NEEDED = "CGAN_TESTS_NEED_FAKE_CUDA"
_SOURCE = Path(__file__).with_name("guard.cpp")
_BUILT = ROOT / "build" / "fake_cuda"


def missing() -> str:
    """Why there can be no fake CUDA device here; empty if there can be one."""
    if sys.platform != "linux":
        return "the fake CUDA device is for Linux"
    return "" if _is_cuda_build() or shutil.which("g++") else "g++ not installed (apt-get install g++)"


def load() -> None:
    """Load the guard into this process, which must not have imported torch yet."""
    assert "torch" not in sys.modules, "the device guard must be loaded before torch"
    if _is_cuda_build():
        return
    library = build()
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(_torch() / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    assert ctypes.CDLL(str(library)).register_guard() == 1, "torch has another device guard for CUDA"


def build() -> Path:
    """Compile the guard, unless it was compiled before for this version of torch; return the library."""
    content = f"{importlib.metadata.version('torch')}\n{_SOURCE.read_text(encoding='utf-8')}"
    library = _BUILT / f"guard-{hashlib.sha256(content.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        _BUILT.mkdir(parents=True, exist_ok=True)
        partial = library.with_suffix(f".{os.getpid()}.so")
        include = _torch() / "include"
        places = [f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", f"-L{_torch() / 'lib'}"]
        options = ["-std=c++20", "-O0", "-shared", "-fPIC", *places, "-o", str(partial)]
        subprocess.run(["g++", str(_SOURCE), *options, "-lc10", "-ltorch_cpu"], check=True)
        partial.replace(library)
    return library


def _torch() -> Path:
    found = importlib.util.find_spec("torch")  # finds it without importing it
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def _is_cuda_build() -> bool:
    return (_torch() / "lib" / "libtorch_cuda.so").exists()
