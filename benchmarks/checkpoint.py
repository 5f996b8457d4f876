"""Compare the cost of saving a checkpoint in a background thread with that of a blocking save.

Both sides run in this process in alternation, on preset article96 or another, from one batch in memory: a save, and a
number of steps after it. The cost of a save is the extra time of a turn over the same steps without a save. The last
line, `ratio: X`, is the cost of a blocking save divided by that of an asynchronous one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import step

from shards.dataset.image_shape import ImageShape
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.run.async_checkpoint import AsyncCheckpointer
from trainer.run.directory import RunDirectory

SIDES = ("no save", "waited for", "beside")


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="article96")
    parser.add_argument("--steps", type=int, default=12, help="steps per turn; a write should finish within them")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    config, size = step.case(options.preset)
    env = Distributed("cpu", config.machine.mixed_precision)
    state = build_state(config, env, ImageShape.of(size), step.WIDTHS, step.KINDS)
    batch = step.synthetic(config, size)
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as exits:
        run = RunDirectory(Path(folder) / "run")
        exits.enter_context(run.lock())
        saver = exits.enter_context(AsyncCheckpointer(run, 1, print))

        def turn(side: str) -> float:
            """Return the seconds to the end of the last step; report and exclude a write that outlasts it."""
            start = time.perf_counter()
            if side != "no save":
                saver.save(state.values(), state.tensors())
            if side == "waited for":
                saver.wait()
            for _ in range(options.steps):
                state.step(batch)
            return time.perf_counter() - start

        for side in SIDES:  # warm up: the copies are there from the first save on
            state.step(batch)
            turn(side)
            saver.wait()
        for number in range(options.pairs):
            for side in SIDES if number % 2 else SIDES[::-1]:
                seconds[side].append(turn(side))
                begun = time.perf_counter()
                saver.wait()
                if time.perf_counter() - begun > 0.1:
                    print(f"{side}: write exceeds the turn by {time.perf_counter() - begun:.1f} s; raise --steps")
        megabytes = sum(tensor.nbytes for held in state.tensors().values() for tensor in held.values()) / 1e6

    medians = {side: statistics.median(taken) for side, taken in seconds.items()}
    cost = {side: medians[side] - medians["no save"] for side in SIDES[1:]}
    print(
        f"{options.preset}: checkpoints of {megabytes:.0f} MB, "
        f"turns of {options.steps} steps of {config.data.batch} images"
    )
    for side in SIDES:
        more = f", a save costs {cost[side]:.2f} s" if side in cost else ""
        print(f"{side}: median {medians[side]:.2f} s of {options.pairs}{more}")
    ratio = cost["waited for"] / cost["beside"] if cost["beside"] > 0 else None
    if options.json:
        figures = {"megabytes": megabytes, "seconds": seconds, "cost": cost, "ratio": ratio}
        options.json.write_text(json.dumps(figures, indent=1))
    print(f"ratio: {ratio:.2f}" if ratio else "ratio: the cost of the asynchronous save is within the noise")


if __name__ == "__main__":
    main()
