"""Measure the overhead of the training loop (stream, metrics, trackers) over the bare step on one batch in memory.

Both sides run in this process in alternation, on preset faces32 or another. The last line, `ratio: X`, is the loop's
images/s divided by the bare step's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shards.dataset.dataset import Dataset
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from shards.stream.loader import batches
from shards.stream.stream import Stream
from trainer import config as configuration
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.loop import Trainer
from trainer.run.async_checkpoint import AsyncCheckpointer
from trainer.run.directory import RunDirectory
from trainer.tracking.monitor import Monitor


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="faces32")
    parser.add_argument("--shards", type=Path, help="dataset (default: generated shapes of --size)")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument(
        "--steps", type=int, default=64, help="steps per turn; use a multiple of the penalty's interval"
    )
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as exits:
        data = options.shards or Path(folder) / "data"
        if options.shards is None:
            write_folder(Path(folder) / "source", 2_000, options.size)
            pack(Pack(src=Path(folder) / "source", out=data, size=options.size, workers=1))
        config = configuration.load(
            ["--preset", options.preset, "--wandb-mode", "offline", "--total-images", "1000000000"]
        )
        # Grids and checkpoints are not the loop's cost but what a person asks for: they are left out.
        config = config.replace(shards=data, run=Path(folder) / "run", grid_every=10**12, checkpoint_every=10**12)
        env = Distributed("cpu", config.machine.mixed_precision)
        dataset = Dataset.open(data)
        kinds = [attribute.kind for attribute in dataset.schema.attributes]
        state = build_state(config, env, dataset.shape, dataset.schema.widths, kinds)
        run = RunDirectory(config.run_directory)
        exits.enter_context(run.lock())
        monitor = exits.enter_context(Monitor(run, config, dataset, images_seen=0, device=env.device))
        saver = exits.enter_context(AsyncCheckpointer(run, config.evaluation.keep, env.print))
        incoming = batches(Stream(dataset, config.data.batch, config.seed), 0, workers=1)
        ready = next(incoming)

        def bare() -> None:
            for _ in range(options.steps):
                state.step(ready)

        def loop() -> None:
            Trainer(config, env, state, islice(incoming, options.steps), saver, monitor).fit()

        times: dict[str, list[float]] = {"bare": [], "loop": []}
        bare()  # warm up
        loop()
        for number in range(options.pairs):
            turns = [("bare", bare), ("loop", loop)]
            for name, turn in turns if number % 2 else turns[::-1]:
                start = time.perf_counter()
                turn()
                times[name].append(time.perf_counter() - start)

    images = options.steps * config.data.batch
    ratios = [b / t for b, t in zip(times["bare"], times["loop"], strict=True)]
    result = {
        "bare_images_per_second": images / statistics.median(times["bare"]),
        "loop_images_per_second": images / statistics.median(times["loop"]),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }
    for name in ("bare", "loop"):
        speed = result[f"{name}_images_per_second"]
        print(f"{name}: median {speed:.1f} images/s over {options.pairs} turns of {images} images")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(f"ratio: {result['ratio']:.3f}")


if __name__ == "__main__":
    main()
