"""A program for `accelerate launch`: train small cases in turn on the job's processes and write their results.

    accelerate launch … tests/support/carrying.py DATA OUT CASES

One launch trains many cases, since a launch takes longer than twenty steps. CASES is a JSON list of `Case`. For each
case, OUT/NAME.safetensors holds all final tensors, OUT/NAME.json the metrics per step and the records per process.
"""

import hashlib
import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from shards.dataset.dataset import Dataset
from shards.stream.loader import batches
from shards.stream.stream import Stream
from trainer import config as configuration
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.process.exit import end
from trainer.run.state_dicts import module_tensors
from trainer.state import TrainingState
from trainer.step import Player


@dataclass(frozen=True)
class Case:
    """A case to train.

    Attributes:
        name: stem of its files.
        words: the trainer's options.
        steps: number of steps.
        first: number of the first step.
    """

    name: str
    words: str
    steps: int = 20
    first: int = 0


def stir(module: nn.Module) -> None:
    """Perturb all weights equally on all processes: zero weights at a block's end would hide the layers before them."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)


class Watch:
    """Counts all-reduces and collects the dtypes of a player's network between two calls of `take`."""

    def __init__(self, player: Player) -> None:
        self.reductions = 0
        self.dtypes: set[str] = set()
        if isinstance(player.wrapped, nn.parallel.DistributedDataParallel):
            player.wrapped.register_comm_hook(None, self._reduce)
        for layer in player.module.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda _layer, _args, out: self.dtypes.add(str(out.dtype)))

    def _reduce(self, _: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        self.reductions += bucket.is_last()  # a network is reduced in one bucket or more
        return allreduce_hook(None, bucket)  # type: ignore[arg-type] - None: all processes

    def take(self) -> dict[str, Any]:
        """Return the counts since the last call and reset them."""
        found = {"reductions": self.reductions, "dtypes": sorted(self.dtypes)}
        self.reductions, self.dtypes = 0, set()
        return found


def digest(state: TrainingState) -> str:
    """Return a hash of everything that must agree between processes: weights, Adam moments, EMA weights."""
    found = hashlib.sha256()
    modules = (state.g.module, state.d.module, state.ema.module)
    weights = (p.detach() for module in modules for p in module.parameters())
    moments = (v for player in (state.g, state.d) for held in player.optimizer.state.values() for v in held.values())
    for tensor in itertools.chain(weights, moments):
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def tensors_of(state: TrainingState) -> dict[str, Tensor]:
    """Return all tensors that a checkpoint would contain, as file/name."""
    state.gather_on_rank0()
    return {
        f"{file}/{name}": tensor.contiguous() for file, held in state.tensors().items() for name, tensor in held.items()
    }


def carry(env: Distributed, dataset: Dataset, config: Config, case: Case) -> tuple[dict[str, Any], TrainingState]:
    """Train a case.

    Returns:
        The record to write as JSON, and the final state.
    """
    kinds = [attribute.kind for attribute in dataset.schema.attributes]
    state = build_state(config, env, dataset.shape, dataset.schema.widths, kinds)
    for module in (state.g.module, state.d.module):
        stir(module)
    state.ema.module.load_state_dict(module_tensors(state.g.module))
    state.images_seen = case.first * config.data.batch
    watches = {"d": Watch(state.d), "g": Watch(state.g)}
    stream = Stream(
        dataset, config.data.batch, config.seed, env.rank, env.world_size, config.data.sampling, config.method.wrong
    )
    rows, contradicted, positions, happened = [], [], [], []
    for batch in itertools.islice(batches(stream, case.first, 0), case.steps):
        rows.append(env.sum_to_floats(state.step(batch).metrics) | state.scheduled)
        contradicted.append(int(batch.has_wrong.sum()))
        positions += batch.positions.tolist()
        happened.append({name: watch.take() for name, watch in watches.items()})
    seen = {"positions": positions, "contradicted": contradicted, "happened": happened, "digest": digest(state)}
    return {"rows": rows, "processes": env.all_gather(seen)}, state


def main(data: str, out: str, cases: str) -> None:
    """Train all cases on the same processes."""
    dataset = Dataset.open(data)
    with Distributed("cpu", "no", threads=1, timeout=120) as env:
        for case in (Case(**fields) for fields in json.loads(cases)):
            config = configuration.load(case.words.split())
            env.precision = config.machine.mixed_precision
            found, state = carry(env, dataset, config, case)
            tensors = tensors_of(state)
            if env.is_rank0:
                save_file(tensors, Path(out, f"{case.name}.safetensors"))
                Path(out, f"{case.name}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    end(lambda: main(*sys.argv[1:]))
