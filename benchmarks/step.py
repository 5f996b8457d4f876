"""Compare our training step with the same networks in a plain PyTorch loop, per preset; profile our step.

    python benchmarks/step.py [--presets faces32,article96] [--pairs 5] [--json FILE]

Both sides train with the same method (loss, wrong labels, penalties at the same steps, EMA) on the same images in
memory: theirs as float32 in [-1, 1], ours as uint8, as the stream yields them. They run in alternation, each in a
separate process: ours configures its process (threads, memory), theirs uses PyTorch's defaults. A turn goes from one
penalty to the next. The profile of our step is measured afterwards, in a separate pass. The last lines are the medians
over the pairs of their seconds divided by ours.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import nn

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import shards
import trainer.state
from shards.core import cli
from shards.core.cli import option
from shards.core.errors import UserError, exit_status
from shards.core.version import revision
from shards.dataset.image_shape import ImageShape
from shards.stream.batch import Batch
from trainer import config as configuration
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.losses import LOSSES
from trainer.models import architecture_of, fresh_networks
from trainer.state import TrainingState

T = TypeVar("T")

WIDTHS = (12, 3, 10)  # of the example's faces: hair colour, hair length, eye colour
KINDS = ("exclusive",) * len(WIDTHS)
# The plain loop updates its networks in turn, draws one image per label, and knows no labels but those that D scores.
PLAIN = "--updates alternating --label-loss 0 --mode-seeking 0"
# Name -> image size, options. R3GAN's own widths are for GPUs; these are what two CPU cores can carry.
CASES: dict[str, tuple[int, str]] = {
    "smoke": (16, "--preset smoke"),
    "faces32": (32, f"--preset faces32 {PLAIN}"),
    "residual32": (32, f"--preset faces32 --family residual {PLAIN}"),
    "faces64": (64, f"--preset faces64 {PLAIN}"),
    "article96": (96, "--preset article96"),
    "article96-modern": (96, "--preset article96-modern"),
    "sngan64": (64, "--preset sngan64"),
    "r3gan32": (32, "--preset r3gan64 --channels 64,48,32,16 --batch 32 --augment none"),
}
MEGABYTE = 2**20


@dataclass(frozen=True)
class BenchmarkOptions:
    """Compare our training step with a plain PyTorch loop of the same method on the same networks."""

    presets: tuple[str, ...] = option(tuple(CASES)[1:], "presets to measure", choices=tuple(CASES))
    pairs: int = option(5, "number of pairs of turns", minimum=1)
    steps: int = option(4, "steps per turn, rounded up to a multiple of the penalty's interval", minimum=1)
    seconds: float = option(150, "time budget per preset: start no turn after this many seconds", above=0)
    mixed_precision: str = option(
        "auto", "precision of our side; theirs is float32", choices=("auto", "no", "bf16", "fp16")
    )
    json: Path | None = option(None, "also write the results to this file")


def case(name: str) -> tuple[Config, int]:
    """Return the configuration of a case, and its image size."""
    size, words = CASES[name]
    return configuration.load(words.split()), size


def cadence(config: Config) -> int:
    """Return the steps from one penalty to the next; 1 without penalties."""
    return config.method.penalty_every if config.method.gamma else 1


def synthetic(config: Config, size: int) -> Batch:
    """Return a batch of noise images, each with a label and a wrong label."""
    torch.manual_seed(0)
    count = config.data.batch
    images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    parts = [nn.functional.one_hot(torch.randint(width, (count,)), width).float() for width in WIDTHS]
    wrong = torch.cat([part.roll(1, 1) for part in parts], 1)
    known = torch.ones(count, len(WIDTHS))
    return Batch(images, torch.cat(parts, 1), known, wrong, known, torch.ones(count), torch.arange(count), count)


# ---------------------------------------------------------------- the plain side


class PlainLoop:
    """Our method as a PyTorch tutorial would write it: no channels_last, no autocast, nothing fused or shared."""

    def __init__(self, config: Config, size: int, device: torch.device) -> None:
        self.config, self.loss = config, LOSSES[config.method.loss]
        g, d = fresh_networks(architecture_of(config.network, ImageShape.of(size), WIDTHS), config.seed)
        averaged, _ = fresh_networks(architecture_of(config.network, ImageShape.of(size), WIDTHS), config.seed)
        self.g, self.d, self.averaged = g.to(device), d.to(device), averaged.to(device)
        self.g_optimizer = torch.optim.Adam(g.parameters(), lr=config.optim.lr_g, betas=config.optim.betas)
        self.d_optimizer = torch.optim.Adam(d.parameters(), lr=config.optim.lr_d, betas=config.optim.betas)
        batch = synthetic(config, size)
        self.x = (batch.images.float() / 127.5 - 1).contiguous().to(device)
        self.y, self.known = batch.labels.to(device), batch.known.to(device)
        self.wrong_y = batch.wrong_labels.to(device)
        self.number = 0
        self.log: dict[str, float] = {}

    def step(self) -> None:
        """Update D, G and the EMA once."""
        config, loss, x, y, known = self.config, self.loss, self.x, self.y, self.known
        penalise = config.method.gamma > 0 and self.number % config.method.penalty_every == 0
        fake = self.g(torch.randn(len(x), config.network.noise_size, device=x.device), y, known)

        shown = x.clone().requires_grad_(penalise)
        drawn = fake.detach().requires_grad_(penalise)
        real_logits, fake_logits = self.d(shown, y, known), self.d(drawn, y, known)
        d_loss = loss.discriminator(real_logits, fake_logits) / len(x)
        if config.method.mismatch == "real":
            wrong_logits = self.d(x, self.wrong_y, known)
            d_loss = d_loss + config.method.mismatch_weight * loss.mismatch(real_logits, wrong_logits).mean()
        if penalise:
            for logits, images in ((real_logits, shown), (fake_logits, drawn)):
                (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
                d_loss = d_loss + config.method.penalty_every * config.method.gamma / 2 * slope.square().sum() / len(x)
        self.d_optimizer.zero_grad()
        d_loss.backward()
        self.d_optimizer.step()

        fake_logits = self.d(fake, y, known)
        g_loss = loss.generator(fake_logits, self.d(x, y, known) if loss.needs_real else fake_logits) / len(x)
        self.g_optimizer.zero_grad()
        g_loss.backward()
        self.g_optimizer.step()

        with torch.no_grad():
            for own, theirs in zip(self.averaged.parameters(), self.g.parameters(), strict=True):
                own.mul_(0.999).add_(theirs, alpha=0.001)
        self.log = {"d": d_loss.item(), "g": g_loss.item()}
        self.number += 1


# ---------------------------------------------------------------- our side


def our_state(name: str, env: Distributed) -> tuple[TrainingState, Callable[[], None]]:
    """Return the trainer's state for a case, and one step on a batch in memory."""
    config, size = case(name)
    state = build_state(config, env, ImageShape.of(size), WIDTHS, KINDS)
    batch = synthetic(config, size)
    numbers = itertools.count()

    def step() -> None:
        state.step(batch._replace(positions=batch.positions + config.data.batch * next(numbers)))

    return state, step


class Regions:
    """Seconds by region; a region inside another is not counted to the outer one."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.open = ["the rest"]
        self._device, self._since = device, time.perf_counter()

    def charge(self) -> None:
        """Add the time since the last change to the region that is open."""
        wait(self._device)
        now = time.perf_counter()
        self.seconds[self.open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def region(self, name: str) -> Iterator[None]:
        """Attribute the time inside to ``name``."""
        self.charge()
        self.open.append(name)
        try:
            yield
        finally:
            self.charge()
            self.open.pop()

    def around(self, function: Callable[..., T], name: Callable[[dict[str, Any]], str]) -> Callable[..., T]:
        """Wrap a function in a region, which ``name`` chooses by the call's keyword arguments."""

        def timed(*args: Any, **kwargs: Any) -> T:
            with self.region(name(kwargs)):
                return function(*args, **kwargs)

        return timed


def regions_of(name: str, env: Distributed, steps: int) -> dict[str, float]:
    """Return the seconds of ``steps`` of our steps by region.

    A penalty step of D is one region, from its forward to its backward, and so is G's step.
    """
    state, step = our_state(name, env)
    for _ in range(steps):
        step()
    regions = Regions(env.device)

    def in_d(part: str) -> Callable[[dict[str, Any]], str]:
        return lambda _: part if regions.open[-1] == "the rest of D's step" else regions.open[-1]

    def player(keywords: dict[str, Any]) -> str:
        return "penalty steps of D" if keywords["penalise"] else "the rest of D's step"

    targets: list[tuple[Any, str, Callable[[dict[str, Any]], str]]] = [
        (trainer.state, "discriminator_step", player),
        (trainer.state, "generator_step", lambda _: "G's forward and backward, through D"),
        (state.g.module, "forward", in_d("images for D")),
        (state.d.module, "forward", in_d("D's forward")),
        (env, "backward", in_d("D's backward")),
        (env, "step", lambda _: "optimizers"),
        (state.ema, "update", lambda _: "average"),
    ]
    with ExitStack() as patches:
        for owner, attribute, chooser in targets:
            timed = regions.around(getattr(owner, attribute), chooser)
            patches.enter_context(patch.object(owner, attribute, timed))
        regions.charge()
        regions.seconds.clear()
        for _ in range(steps):
            step()
        regions.charge()
    return dict(sorted(regions.seconds.items(), key=lambda found: -found[1]))


# ---------------------------------------------------------------- the measurement


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_megabytes() -> float:
    """Return the peak resident memory of this process, in MB."""
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept / MEGABYTE if sys.platform == "darwin" else kept / 1024


def serve_ours(name: str, steps: int, precision: str, pipe: Connection) -> None:
    """Run our side's process."""
    env = Distributed(precision=precision)
    _, step = our_state(name, env)
    serve(step, steps, env.device, env.describe(), pipe)
    pipe.send(regions_of(name, env, steps))


def serve_theirs(name: str, steps: int, precision: str, pipe: Connection) -> None:
    """Run the plain side's process, which ignores ``precision``."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain = PlainLoop(*case(name), device)
    serve(plain.step, steps, device, f"{device}, {torch.get_num_threads()} threads, float32", pipe)


def serve(step: Callable[[], None], steps: int, device: torch.device, machine: str, pipe: Connection) -> None:
    """Warm up and report it; time a turn of ``steps`` per message until told to stop; then report the peak memory."""
    for _ in range(steps):
        step()
    pipe.send(machine)
    while pipe.recv():
        wait(device)
        began = time.perf_counter()
        for _ in range(steps):
            step()
        wait(device)
        pipe.send(time.perf_counter() - began)
    pipe.send(peak_megabytes())


def measure(name: str, options: BenchmarkOptions) -> dict[str, Any]:
    """Run both sides of a case in alternation.

    Returns:
        The figures, ready for JSON.
    """
    config, size = case(name)
    steps = -(-options.steps // cadence(config)) * cadence(config)
    sides: dict[str, Connection] = {}
    machine: dict[str, str] = {}
    for side, target in (("ours", serve_ours), ("theirs", serve_theirs)):
        sides[side] = spawn(target, name, steps, options.mixed_precision)
        machine[side] = sides[side].recv()
        print(f"{name}, {side}: {size} px, batch {config.data.batch}, on {machine[side]}; warmed up", flush=True)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    began = time.monotonic()
    for pair in range(options.pairs):
        if pair and time.monotonic() - began > options.seconds:
            break
        for side, pipe in list(sides.items())[:: -1 if pair % 2 else 1]:
            pipe.send(True)
            seconds[side].append(pipe.recv())
    for pipe in sides.values():
        pipe.send(False)
    peaks = {side: pipe.recv() for side, pipe in sides.items()}
    regions: dict[str, float] = sides["ours"].recv()
    return {
        "ratio": statistics.median(b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)),
        "images_per_second": {side: steps * config.data.batch / statistics.median(s) for side, s in seconds.items()},
        "seconds": seconds,
        "steps": steps,
        "batch": config.data.batch,
        "peak_megabytes": peaks,
        "regions": {region: taken / sum(regions.values()) for region, taken in regions.items()},
        "machine": machine,
    }


def spawn(target: Callable[..., None], *args: object) -> Connection:
    """Start a process of this file.

    Returns:
        Our end of its pipe, the last argument of ``target``. A process that fails closes it.
    """
    context = multiprocessing.get_context("spawn")
    ours, end = context.Pipe()
    context.Process(target=target, args=(*args, end), daemon=True).start()
    end.close()
    return ours


def describe(name: str, figures: dict[str, Any]) -> Iterator[str]:
    """Return the report lines of one case."""
    for side, speed in figures["images_per_second"].items():
        turns, peak = len(figures["seconds"][side]), figures["peak_megabytes"][side]
        yield f"{name}, {side}: {speed:.1f} images/s (median of {turns} turns), peak memory {peak:,.0f} MB"
    shares = (f"{region} {share:.0%}" for region, share in figures["regions"].items() if share >= 0.005)
    yield f"{name}, our time: {', '.join(shares)}"


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Report the case whose process failed, which closes its pipe."""
    try:
        yield
    except EOFError:
        raise UserError("process-failed", f"{name}: a side exited early; its error is above") from None


def main(argv: Sequence[str]) -> None:
    """Measure, print, and write the results if requested."""
    options = cli.parse(BenchmarkOptions, argv, command="python benchmarks/step.py")
    figures: dict[str, Any] = {"benchmark": "step", "presets": {}, "torch": torch.__version__}
    figures |= {"version": shards.__version__, "commit": revision()}
    for name in options.presets:
        with explained(name):
            figures["presets"][name] = measure(name, options)
        print("\n".join(describe(name, figures["presets"][name])), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, found in figures["presets"].items():
        print(f"ratio: {found['ratio']:.2f} ({name})")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
