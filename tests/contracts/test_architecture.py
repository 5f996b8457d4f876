"""The house's arrows, read from the sources: who may import what, and what nobody may do."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import ROOT

ROOMS = ("shards", "trainer", "launch")
MAX_LINES = 450
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc"}
STANDARD = set(sys.stdlib_module_names) | {"__future__"}

# Rooms with a closed list: besides the standard library they import these and nothing else.
ONLY: dict[str, set[str]] = {
    "trainer/networks/": {"torch", "trainer.networks"},
    "trainer/losses.py": {"torch"},
    "trainer/ema.py": {"torch"},
    "trainer/schedules.py": set(),
    "trainer/metric_names.py": set(),
    "trainer/tracking/diagnostics.py": {"trainer.metric_names"},
    "trainer/batch_diversity.py": {"torch", "trainer.metric_names"},
    "trainer/evaluation/metrics/combinations.py": {"numpy", "shards.dataset.schema"},
    "trainer/evaluation/metrics/fidelity.py": {
        "numpy",
        "shards.dataset.schema",
        "trainer.evaluation.metrics.combinations",
    },
    "trainer/evaluation/metrics/efficientnet.py": {"torch"},
    "trainer/evaluation/metrics/inception.py": {"torch"},
    "trainer/evaluation/metrics/pairwise.py": {"numpy", "shards.core.errors"},
    "trainer/evaluation/metrics/distances.py": {
        "numpy",
        "shards.core.errors",
        "shards.core.rng",
        "shards.core.permutation",
        "trainer.evaluation.metrics.pairwise",
    },
    "trainer/evaluation/metrics/novelty.py": {"numpy", "shards.core.errors", "trainer.evaluation.metrics.pairwise"},
    "trainer/noise.py": {"torch", "shards.core.rng"},
    "trainer/augment/": {"torch", "trainer.augment", "trainer.noise"},
    "shards/stream/order.py": {"numpy", "shards.core.rng", "shards.core.permutation"},
    "shards/stream/wrong_labels.py": {"numpy", "shards.core.rng"},
    "shards/core/permutation.py": {"numpy", "shards.core.rng"},
    "shards/core/rng.py": {"numpy"},
    "shards/core/errors.py": set(),
    "trainer/process/signals.py": set(),  # imported before torch, whose import takes seconds
    "trainer/presets.py": set(),
    "trainer/process/openmp.py": set(),  # before torch too
    "trainer/process/exit.py": {"shards.core.errors"},
    "trainer/process/stall_watchdog.py": {"psutil"},  # forks before torch has threads
    "trainer/distributed/network_interfaces.py": {"psutil"},
    "trainer/distributed/failure_notices.py": {"trainer.distributed.network_interfaces"},
    # `python -m launch check` reads it, and knows no torch
    "trainer/preflight/__init__.py": set(),
    "trainer/preflight/options.py": {"shards.core.errors", "shards.core.cli", "trainer.presets"},
    "trainer/preflight/findings.py": {"shards.core.atomic_io"},
    "trainer/preflight/timeouts.py": set(),
}
# Rooms that may import all but these, with the files that are excepted.
NEVER: list[tuple[str, str, set[str]]] = [
    ("shards/", "trainer", set()),
    ("shards/", "launch", set()),
    (
        "shards/",
        "torch",
        {
            "shards/stream/batch.py",
            "shards/stream/loader.py",
            "shards/stream/stream.py",
            "shards/text_encoders/torch_model.py",
        },
    ),
    ("shards/", "accelerate", set()),
    ("launch/", "torch", set()),
    ("trainer/", "launch", {"launch/cli.py"}),
    ("trainer/", "accelerate", {"trainer/distributed/rendezvous.py", "trainer/tracking/trackers.py"}),
    ("trainer/config/", "torch", set()),
    ("trainer/presets.py", "torch", set()),
    ("trainer/tracking/wandb_run.py", "torch", set()),
]
# What launch may know of its neighbours.
LAUNCH_KNOWS = {"trainer.config", "trainer.presets", "shards.core.version", "shards.core.errors", "shards.core.cli"}
LAUNCH_KNOWS |= {
    "shards.core.atomic_io",
    "shards.packing.pack",
    "shards.stream.sampling",
    "trainer.metric_names",
    "trainer.tracking.wandb_run",
}
LAUNCH_KNOWS |= {"trainer.preflight.options", "shards.__main__", "trainer.__main__", "trainer.process.exit"}
PURE_STANDARD = {"math", "dataclasses", "collections", "typing", "__future__", "copy", "functools", "itertools", "zlib"}
# Rooms that touch no file, process or clock: of the standard library they import these.
PURE = (
    "trainer/networks/",
    "trainer/losses.py",
    "trainer/ema.py",
    "trainer/schedules.py",
    "trainer/metric_names.py",
    "trainer/tracking/diagnostics.py",
    "trainer/batch_diversity.py",
    "trainer/evaluation/metrics/combinations.py",
    "trainer/evaluation/metrics/fidelity.py",
    "trainer/evaluation/metrics/efficientnet.py",
    "trainer/evaluation/metrics/inception.py",
    "trainer/evaluation/metrics/pairwise.py",
    "trainer/evaluation/metrics/distances.py",
    "trainer/evaluation/metrics/novelty.py",
    "shards/stream/order.py",
    "shards/stream/wrong_labels.py",
    "shards/core/permutation.py",
    "shards/core/rng.py",
)


def modules(name: str, source: str) -> set[str]:
    """Every module that a source imports, wherever in the file; `from a import b` counts as a and a.b."""
    package = Path(name).parent.parts
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and _called(node).endswith("import_module"):
            found |= {str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return found


def within(module: str, package: str) -> bool:
    """Whether a module is the package or lies in it."""
    return module == package or module.startswith(package + ".")


def holds(module: str, allowed: set[str]) -> bool:
    """Whether a module is one of the allowed, lies in one, or is a package on the way to one."""
    return any(within(module, a) or within(a, module) for a in allowed)


def broken_arrows(name: str, source: str) -> Iterator[str]:
    """What a file imports and may not."""
    imported = modules(name, source)
    for place, allowed in ONLY.items():
        if name.startswith(place):
            foreign = {m for m in imported if m.split(".")[0] not in STANDARD and not holds(m, allowed)}
            yield from (f"{name} imports {m}; it may import {sorted(allowed)}" for m in sorted(foreign))
    for place, forbidden, excepted in NEVER:
        if name.startswith(place) and name not in excepted:
            yield from (f"{name} imports {m}" for m in sorted(imported) if within(m, forbidden))
    if name.startswith("launch/"):
        neighbours = {m for m in imported if m.split(".")[0] in ("shards", "trainer")}
        yield from (f"{name} imports {m}" for m in sorted(neighbours) if not holds(m, LAUNCH_KNOWS))
    if name.startswith(PURE):
        tools = {m.split(".")[0] for m in imported} & STANDARD - PURE_STANDARD
        yield from (f"{name} imports {m}; a pure room touches nothing outside" for m in sorted(tools))


def dangers(name: str, source: str) -> Iterator[str]:
    """Pickle in any form, and shells."""
    imported = modules(name, source)
    for module in ("pickle", "dill", "cloudpickle", "shelve", "marshal"):
        if any(within(m, module) for m in imported):
            yield f"{name} imports {module}"
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called, at = _called(node), f"{name}:{node.lineno}"
        given = {k.arg: k.value.value if isinstance(k.value, ast.Constant) else "?" for k in node.keywords}
        if called == "torch.load" and given.get("weights_only") is not True:
            yield f"{at} torch.load without weights_only=True"
        if given.get("allow_pickle", False) is not False:
            yield f"{at} allow_pickle"
        if called.startswith("subprocess.") and given.get("shell", False) is not False:
            yield f"{at} a shell"
        if called in ("os.system", "os.popen", "yaml.load", "yaml.full_load", "yaml.unsafe_load"):
            yield f"{at} {called}"


# What an Accelerate or torch object offers and this system may not use, with the reason.
TRAPS = {
    "prepare": "a prepared loader reads everything on every process, or half of it; a prepared module enters autocast",
    "prepare_data_loader": "a prepared loader reads everything on every process, or half of it",
    "prepare_scheduler": "a prepared scheduler steps once a process",
    "accumulate": "its counter is shared by both players: D would never step",
    "save_state": "it is not atomic, and after a resume it counts from 0",
    "compile": "a compiled discriminator cannot be differentiated twice, and compilers are sometimes wrong",
}
HELD_AGAINST_UNCOMPILED = "trainer/compilation.py"  # the one place that may, as it compares gradients first


def traps(name: str, source: str) -> Iterator[str]:
    """Calls of what fails silently in this system, and a package that does not import beside torch's CPU build."""
    if any(within(m, "torchvision") for m in modules(name, source)):
        yield f"{name} imports torchvision"
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        owner, _, called = _called(node).rpartition(".")
        if called == "compile" and name == HELD_AGAINST_UNCOMPILED:
            continue
        if owner.split(".")[-1] in ("accelerator", "torch") and called in TRAPS:
            yield f"{name}:{node.lineno} {owner}.{called}: {TRAPS[called]}"


def shape(name: str, source: str) -> Iterator[str]:
    """Files that grew too long, and drawers for everything."""
    count = len(source.splitlines())
    if count > MAX_LINES:
        yield f"{name} has {count} lines; {MAX_LINES} are the most"
    if set(Path(name).with_suffix("").parts) & DRAWERS:
        yield f"{name} is named for nothing in particular"


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func) if isinstance(node.func, ast.Attribute | ast.Name) else ""


def sources() -> dict[str, str]:
    files = (p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py")))
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in files}


Rule = Callable[[str, str], Iterator[str]]


@pytest.mark.parametrize("rule", [broken_arrows, dangers, traps, shape])
def test_the_sources_keep_the_rule(rule: Rule) -> None:
    files = sources()
    assert {name.split("/")[0] for name in files} == set(ROOMS)
    assert not [complaint for name, source in files.items() for complaint in rule(name, source)]


def test_every_named_place_exists() -> None:
    names = list(sources())
    excepted = [name for _, _, files in NEVER for name in files]
    for place in [*ONLY, *PURE, *excepted, *(place for place, _, _ in NEVER)]:
        assert any(name.startswith(place) for name in names), f"{place} is gone: the rules speak of it"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("shards/packing/pack.py", "def f():\n    from trainer import config"),
        ("shards/packing/pack.py", "import launch.slurm"),
        ("shards/dataset/dataset.py", "import torch.utils.data"),
        ("shards/dataset/dataset.py", "if True:\n    import accelerate"),
        ("shards/packing/pack.py", "import importlib\nimportlib.import_module('trainer.config')"),
        ("launch/render.py", "import torch"),
        ("launch/render.py", "from trainer import loop"),
        ("launch/render.py", "from trainer.tracking.trackers import open_trackers"),
        ("launch/check.py", "from trainer.preflight.store import Meeting"),
        ("trainer/preflight/options.py", "import torch"),
        ("launch/render.py", "from shards.dataset.dataset import Dataset"),
        ("trainer/networks/new.py", "import numpy as np"),
        ("trainer/networks/new.py", "from trainer.losses import LOSSES"),
        ("trainer/networks/new.py", "from ..losses import LOSSES"),
        ("trainer/networks/new.py", "import os"),
        ("trainer/losses.py", "from trainer.networks import build"),
        ("trainer/augment/new.py", "from trainer.distributed.process_group import Distributed"),
        ("trainer/evaluation/metrics/fidelity.py", "from trainer.evaluation.judge.judge import Judge"),
        ("shards/stream/order.py", "import random"),
        ("shards/stream/order.py", "from shards.dataset.dataset import Dataset"),
        ("shards/core/rng.py", "import torch"),
        ("trainer/loop.py", "from accelerate import Accelerator"),
        ("trainer/config/data.py", "import torch"),
        ("trainer/metric_names.py", "import numpy"),
        ("trainer/process/signals.py", "import shards.core.errors"),
    ],
)
def test_a_wrong_import_is_seen(name: str, source: str) -> None:
    assert list(broken_arrows(name, source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("shards/stream/stream.py", "import torch\nfrom shards import order"),
        (
            "launch/render.py",
            "from trainer import config\nfrom trainer.presets import PRESETS\nfrom shards.core import errors",
        ),
        (
            "trainer/networks/new.py",
            "import math\nfrom torch import nn\nfrom trainer.networks.article import SIZE\nfrom . import article",
        ),
        ("trainer/distributed/rendezvous.py", "from accelerate import Accelerator"),
        ("shards/stream/order.py", "import numpy as np\nfrom shards.core import rng"),
    ],
)
def test_a_right_import_passes(name: str, source: str) -> None:
    assert not list(broken_arrows(name, source))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import pickle as p",
        "torch.load('x')",
        "torch.load('x', weights_only=False)",
        "np.load('x', allow_pickle=True)",
        "np.load('x', allow_pickle=trusted)",
        "subprocess.run('ls', shell=True)",
        "subprocess.check_output(c, shell=maybe)",
        "os.system('ls')",
        "yaml.load(text)",
    ],
)
def test_a_danger_is_seen(source: str) -> None:
    assert list(dangers("trainer/new.py", source))


def test_their_safe_forms_pass() -> None:
    safe = """
torch.load('x', weights_only=True)
np.load('x', allow_pickle=False)
np.load('y')
subprocess.run(['ls'])
yaml.safe_load('')
"""
    assert not list(dangers("trainer/new.py", safe))


@pytest.mark.parametrize(
    "source",
    [
        "self.accelerator.prepare(loader)",
        "accelerator.prepare_data_loader(loader)",
        "with env.accelerator.accumulate(d):\n    pass",
        "d = torch.compile(d)",
        "import torchvision.transforms",
    ],
)
def test_trap_what_fails_silently_is_seen(source: str) -> None:
    assert list(traps("trainer/new.py", source))
    assert not list(traps("trainer/new.py", "self.accelerator.prepare_model(module)\nre.compile('x')"))


def test_long_files_and_drawers_are_seen() -> None:
    assert list(shape("trainer/long.py", "\n" * (MAX_LINES + 1)))
    assert not list(shape("trainer/long.py", "\n" * MAX_LINES))
    assert list(shape("shards/utils.py", ""))
    assert list(shape("trainer/common/x.py", ""))
