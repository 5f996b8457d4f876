"""Measure `cgan serve` at its limit, next to drawing its requests one by one.

A server process on loopback and its clients, which ask for one image each as JSON or PNG and always have a request on
the way. All sides are in this run, in alternation, with the same words and seeds:

- served: requests share passes of the generator, as `cgan serve` does;
- one by one: the same server and the same bytes, except that each pass has the images of one request, and is filled up;
- not filled up: the same again with passes of one image, whose pixels now and then differ by 1.

The last line, `ratio: X`, is the throughput of the first over that of the second. `--run RUN` serves a trained run;
otherwise the networks are those of preset faces32 with random weights.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# When run as a script, Python searches the script's directory for modules, not the repository.
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

SIDES = ("served", "one by one", "not filled up")
WORDS = ("red hair", "blue hair", "green hair, smile", "no smile")


def random_run(folder: Path, size: int) -> Path:
    """Write a run with the networks of preset faces32 and random weights."""
    from shards.dataset.schema import Attribute
    from support.small_runs import write_run

    hair = Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair"))
    smile = Attribute("smile", "tag", ("smile",))
    return write_run(folder / "run", [hair, smile], "r3gan", size=size, blocks=1, modulation=True)


def serve(run: str, side: str, threads: int, told: Any) -> None:
    """Serve a run in this process, and tell the port."""
    import torch

    from trainer.serving import address, command, drawing

    torch.set_num_threads(threads)
    if side != "served":
        drawing.DrawingThread._plan = one_request  # type: ignore[method-assign]
    if side == "not filled up":
        generate = drawing.generate_images
        drawing.generate_images = lambda generator, z, labels, _: generate(generator, z, labels)
    listen = address.listen
    command.listen = lambda bound, host: (listen(bound, host), told.send(bound.getsockname()[1]))  # type: ignore
    with contextlib.redirect_stderr(None), contextlib.redirect_stdout(None):
        command.main([run, "--port", "0", "--device", "cpu", "--queue", "1000"])


def one_request(thread: Any) -> list[Any]:
    """Return the rows of the next pass: those of one request."""
    from trainer.generation.generate import PASS

    with thread._changed:
        thread._changed.wait_for(lambda: thread._jobs or thread._ended)
        if not thread._jobs:
            return []
        job = thread._jobs[0]
        rows = job.plan(PASS)
        if not job.left:
            thread._jobs.popleft()
        return [(job, rows)]


@contextlib.contextmanager
def server(run: Path, side: str, threads: int) -> Iterator[int]:
    """Run a server in a process of its own, and return its port."""
    context = get_context("spawn")
    heard, told = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(str(run), side, threads, told))
    process.start()
    told.close()  # so that recv ends if the process does, before it has told its port
    try:
        yield heard.recv()
    finally:
        process.terminate()
        process.join()


def client(port: int, number: int, count: int, accept: str) -> tuple[list[float], list[bytes]]:
    """Send requests over one connection, one after another; return the seconds and the body of each."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    seconds, bodies = [], []
    with contextlib.closing(connection):
        for i in range(count):
            body = json.dumps({"words": WORDS[i % len(WORDS)], "seed": number * count + i})
            start = time.perf_counter()
            connection.request("POST", "/sample", body, {"Content-Type": "application/json", "Accept": accept})
            answer = connection.getresponse()
            bodies.append(answer.read())
            seconds.append(time.perf_counter() - start)
            assert answer.status == 200, bodies[-1]
    return seconds, bodies


def load(port: int, clients: int, count: int, accept: str) -> tuple[float, list[float], list[list[bytes]]]:
    """Return the seconds of all requests together, of each, and their bodies by client."""
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        start = time.perf_counter()
        done = list(pool.map(lambda number: client(port, number, count, accept), range(clients)))
        total = time.perf_counter() - start
    return total, [s for seconds, _ in done for s in seconds], [bodies for _, bodies in done]


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a trained run to serve")
    parser.add_argument("--size", type=int, default=32, help="pixels of the networks with random weights")
    parser.add_argument("--clients", type=int, default=32, help="requests on the way at any time")
    parser.add_argument("--requests", type=int, default=20, help="per client and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of torch in the server")
    parser.add_argument("--accept", default="image/png")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    totals: dict[str, list[float]] = {side: [] for side in SIDES}
    latencies: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as exits:
        run = options.run or random_run(Path(folder), options.size)
        ports = {side: exits.enter_context(server(run, side, options.threads)) for side in SIDES}
        bodies = {side: load(port, options.clients, 2, options.accept)[2] for side, port in ports.items()}  # warm up
        assert bodies["served"] == bodies["one by one"], "the sides draw different bytes"
        for number in range(options.rounds):
            for side in SIDES if number % 2 else SIDES[::-1]:
                total, seconds, _ = load(ports[side], options.clients, options.requests, options.accept)
                totals[side].append(total)
                latencies[side] += seconds

    count = options.clients * options.requests
    figures: dict[str, dict[str, float]] = {}
    for side in SIDES:
        p = statistics.quantiles(latencies[side], n=100)
        figures[side] = {"per_second": count / statistics.median(totals[side]), "p50": p[49], "p99": p[98]}
        print(
            f"{side}: {figures[side]['per_second']:.0f} images a second, "
            f"p50 {p[49] * 1e3:.0f} ms, p99 {p[98] * 1e3:.0f} ms "
            f"({options.clients} clients, median of {options.rounds} rounds of {count} requests)"
        )
    ratio = figures["served"]["per_second"] / figures["one by one"]["per_second"]
    if options.json:
        options.json.write_text(json.dumps({**figures, "ratio": ratio}, indent=1))
    print(f"ratio: {ratio:.2f} of the throughput (served over one by one)")


if __name__ == "__main__":
    main()
