"""The house's arrows, read from the sources: who may import what, and what nobody may do."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

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
    "trainer/logged.py": set(),
    "trainer/advice.py": {"trainer.logged"},
    "trainer/spread.py": {"torch", "trainer.logged"},
    "trainer/metrics/combinations.py": {"numpy", "shards.schema"},
    "trainer/metrics/fidelity.py": {"numpy", "shards.schema", "trainer.metrics.combinations"},
    "trainer/metrics/efficientnet.py": {"torch"},
    "trainer/metrics/inception.py": {"torch"},
    "trainer/metrics/neighbours.py": {"numpy", "shards.errors"},
    "trainer/metrics/distances.py": {
        "numpy",
        "shards.errors",
        "shards.keyed",
        "shards.order",
        "trainer.metrics.neighbours",
    },
    "trainer/metrics/novelty.py": {"numpy", "shards.errors", "trainer.metrics.neighbours"},
    "trainer/randomness.py": {"torch", "shards.keyed"},
    "trainer/augment/": {"torch", "trainer.augment", "trainer.randomness"},
    "shards/order.py": {"numpy", "shards.keyed"},
    "shards/keyed.py": {"numpy"},
    "shards/errors.py": set(),
    "trainer/signals.py": set(),  # imported before torch, whose import takes seconds
    "trainer/presets.py": set(),
    "trainer/spinning.py": set(),  # before torch too
    "trainer/ending.py": {"shards.errors"},
    "trainer/frozen.py": {"psutil"},  # forks before torch has threads
    "trainer/interfaces.py": {"psutil"},
    "trainer/peers.py": {"trainer.interfaces"},
    # `python -m launch check` reads it, and knows no torch
    "trainer/probe/__init__.py": set(),
    "trainer/probe/asked.py": {"shards.errors", "shards.options", "trainer.presets"},
    "trainer/probe/findings.py": {"shards.files"},
    "trainer/probe/deadline.py": set(),
}
# Rooms that may import all but these, with the files that are excepted.
NEVER: list[tuple[str, str, set[str]]] = [
    ("shards/", "trainer", set()),
    ("shards/", "launch", set()),
    ("shards/", "torch", {"shards/stream.py", "shards/encoders/torch_model.py"}),
    ("shards/", "accelerate", set()),
    ("launch/", "torch", set()),
    ("trainer/", "launch", {"trainer/cgan.py"}),
    ("trainer/", "accelerate", {"trainer/joining.py", "trainer/tracking.py"}),
    ("trainer/config.py", "torch", set()),
    ("trainer/presets.py", "torch", set()),
    ("trainer/weights_and_biases.py", "torch", set()),
]
# What launch may know of its neighbours.
LAUNCH_KNOWS = {"trainer.config", "trainer.presets", "shards.version_line", "shards.errors", "shards.options"}
LAUNCH_KNOWS |= {"shards.files", "shards.pack", "shards.sampling", "trainer.logged", "trainer.weights_and_biases"}
LAUNCH_KNOWS |= {"trainer.probe.asked"}
PURE_STANDARD = {"math", "dataclasses", "collections", "typing", "__future__", "copy", "functools", "itertools", "zlib"}
# Rooms that touch no file, process or clock: of the standard library they import these.
PURE = (
    "trainer/networks/",
    "trainer/losses.py",
    "trainer/ema.py",
    "trainer/schedules.py",
    "trainer/logged.py",
    "trainer/advice.py",
    "trainer/spread.py",
    "trainer/metrics/combinations.py",
    "trainer/metrics/fidelity.py",
    "trainer/metrics/efficientnet.py",
    "trainer/metrics/inception.py",
    "trainer/metrics/neighbours.py",
    "trainer/metrics/distances.py",
    "trainer/metrics/novelty.py",
    "shards/order.py",
    "shards/keyed.py",
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
        ("shards/pack.py", "def f():\n    from trainer import config"),
        ("shards/pack.py", "import launch.slurm"),
        ("shards/index.py", "import torch.utils.data"),
        ("shards/index.py", "if True:\n    import accelerate"),
        ("shards/pack.py", "import importlib\nimportlib.import_module('trainer.config')"),
        ("launch/render.py", "import torch"),
        ("launch/render.py", "from trainer import loop"),
        ("launch/render.py", "from trainer.tracking import open_trackers"),
        ("launch/check.py", "from trainer.probe.meeting import Meeting"),
        ("trainer/probe/asked.py", "import torch"),
        ("launch/render.py", "from shards.index import Dataset"),
        ("trainer/networks/new.py", "import numpy as np"),
        ("trainer/networks/new.py", "from trainer.losses import LOSSES"),
        ("trainer/networks/new.py", "from ..losses import LOSSES"),
        ("trainer/networks/new.py", "import os"),
        ("trainer/losses.py", "from trainer.networks import build"),
        ("trainer/augment/new.py", "from trainer.distributed import Distributed"),
        ("trainer/metrics/fidelity.py", "from trainer.judge import Judge"),
        ("shards/order.py", "import random"),
        ("shards/order.py", "from shards.index import Dataset"),
        ("shards/keyed.py", "import torch"),
        ("trainer/loop.py", "from accelerate import Accelerator"),
        ("trainer/config.py", "import torch"),
        ("trainer/logged.py", "import numpy"),
        ("trainer/signals.py", "import shards.errors"),
    ],
)
def test_a_wrong_import_is_seen(name: str, source: str) -> None:
    assert list(broken_arrows(name, source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("shards/stream.py", "import torch\nfrom shards import order"),
        (
            "launch/render.py",
            "from trainer import config\nfrom trainer.presets import PRESETS\nfrom shards import errors",
        ),
        (
            "trainer/networks/new.py",
            "import math\nfrom torch import nn\nfrom trainer.networks.article import SIZE\nfrom . import article",
        ),
        ("trainer/joining.py", "from accelerate import Accelerator"),
        ("shards/order.py", "import numpy as np\nfrom shards import keyed"),
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
