"""Check on one GPU what no CPU can say: correctness, waiting, repeatability, speed and memory, in at most 8 minutes.

    python benchmarks/gpu_check [--json FILE] [--only NAME,…] [--seconds N] [--cpu]

It runs from the checkout and needs torch, accelerate, numpy, pillow, safetensors, pyyaml, tqdm, psutil and fsspec; no
network. The checks run in the order of their worth; those for which no time is left are named. FILE is written after
each check. The exit status is the number of failures. With --cpu, everything is rehearsed on the CPU at tiny sizes.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def prepare_search_path() -> None:
    """Make the repository importable, and stand-ins for packages that are not installed and not needed on a GPU."""
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != FOLDER]  # where Python found this file
    sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parent.parent)]
    for package in sorted(FOLDER.joinpath("stand_ins").iterdir()):
        if importlib.util.find_spec(package.name) is None:
            sys.path.append(str(package))


if __name__ == "__main__":
    prepare_search_path()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts: deterministic products
    from gpu_check.command import main
    from shards.core.errors import exit_status

    sys.exit(exit_status(lambda: main(sys.argv[1:])))
