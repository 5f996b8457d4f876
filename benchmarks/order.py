"""Measure the cost of a lookup in the sample order: ours, plain and windowed, and numpy's permutation of the epoch.

For datasets of 10³ to 10⁹ samples, in one process: the time and memory of the setup (numpy permutes the epoch, the
windowed order sums its shards), and the time per lookup in batches of 256 random positions. The numpy side is skipped
with a message where its permutation would need more than --memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from shards.stream.order import Shuffled, Windowed

BATCH = 256
Lookup = Callable[[np.ndarray], np.ndarray]


def plain(n: int) -> Lookup:
    """Look up positions in our order."""
    return Shuffled(1, n)


def windowed(n: int) -> Lookup:
    """Look up positions in our order over shards of 1,000 samples, 16 at a time; includes one epoch's table."""
    order = Windowed(1, np.append(np.arange(0, n, 1_000), n), 16)
    order(np.zeros(1, np.int64))
    return order


def permutation(n: int) -> Lookup:
    """Look up positions in a stored permutation of the whole epoch."""
    ids = np.random.default_rng(1).permutation(n)
    return lambda index: ids[index]


SIDES: dict[str, Callable[[int], Lookup]] = {"plain": plain, "windowed": windowed, "numpy": permutation}


def begun(make: Callable[[int], Lookup], n: int) -> tuple[Lookup, dict[str, Any]]:
    """Return a side after its setup, with the seconds and bytes of the setup."""
    tracemalloc.start()
    start = time.perf_counter()
    lookup = make(n)
    seconds = time.perf_counter() - start
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return lookup, {"seconds_to_begin": seconds, "peak_bytes": held}


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--powers", type=int, nargs="+", default=[3, 4, 5, 6, 7, 8, 9], help="dataset sizes, as powers of ten"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", type=float, default=2e9, help="maximum bytes of the permutation")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, dict[str, Any]] = {}
    for n in (10**power for power in options.powers):
        ready: dict[str, Lookup] = {}
        for name, make in SIDES.items():
            if name == "numpy" and n * 8 > options.memory:
                print(f"n = {n:>13,}  numpy: skipped, its permutation takes {n * 8 / 1e9:.1f} GB")
                continue
            ready[name], result[f"{name} {n}"] = begun(make, n)
        times: dict[str, list[float]] = {name: [] for name in ready}
        for number in range(options.rounds):
            places = np.random.default_rng(number).integers(0, n, (20, BATCH))
            for name, lookup in ready.items():
                start = time.perf_counter()
                for index in places:
                    lookup(index)
                times[name].append((time.perf_counter() - start) / places.size * 1e6)
        for name, seconds in times.items():
            row = result[f"{name} {n}"]
            row["microseconds"] = statistics.median(seconds)
            print(
                f"n = {n:>13,}  {name:>8}: {row['microseconds']:7.3f} µs a place, ready after "
                f"{row['seconds_to_begin'] * 1e3:9.2f} ms with {row['peak_bytes'] / 1e6:9.3f} MB"
            )
        if "numpy" in ready:
            row = [result[f"{name} {n}"] for name in ("numpy", "plain")]
            ratio = row[0]["seconds_to_begin"] / row[1]["seconds_to_begin"]
            memory = row[0]["peak_bytes"] / row[1]["peak_bytes"]
            print(f"ratio: {ratio:,.1f} of the setup time and {memory:,.1f} of the memory (numpy over plain)")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
