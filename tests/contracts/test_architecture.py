"""Who may import whom, package by package, and what no source file may do; read from the sources themselves."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import ROOT

TOP_LEVEL = ("shards", "trainer", "launch")
MAX_LINES = 450
MAX_MODULES = 16  # in one folder
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
STANDARD_LIBRARY = set(sys.stdlib_module_names) | {"__future__"}

DATASET = "shards.core shards.dataset shards.remote shards.vocabulary"
RUN = "shards.core shards.dataset trainer.config trainer.metric_names trainer.networks trainer.run"

# What each package or module may import of this project besides itself. The longest name that matches decides.
ALLOWED: dict[str, str] = {
    "shards": "shards",
    "shards.__main__": "shards.core",
    "shards.core": "",
    "shards.vocabulary": "",
    "shards.remote": "shards.core",
    "shards.dataset": "shards.core shards.remote shards.vocabulary",
    "shards.sources": "shards.core shards.dataset shards.vocabulary",
    "shards.text_encoders": "shards.core",
    "shards.stream": DATASET,
    "shards.packing": f"{DATASET} shards.sources shards.text_encoders",
    "shards.inspect": f"{DATASET} shards.sources shards.packing shards.stream",
    "shards.examples": f"{DATASET} shards.packing",
    # the method: pure functions and networks
    "trainer.networks": "",
    "trainer.losses": "",
    "trainer.averages.ema": "",
    "trainer.schedules": "",
    "trainer.schedules.build": "trainer.config trainer.schedules",
    "trainer.averages": f"{RUN} trainer.models",
    "trainer.averages.command": f"{RUN} trainer.models trainer.averages trainer.evaluation",
    "trainer.metric_names": "",
    "trainer.presets": "",
    "trainer.noise": "shards.core.rng",
    "trainer.augment": "trainer.noise",
    "trainer.batch_diversity": "trainer.metric_names",
    "trainer.mode_seeking": "trainer.augment",
    "trainer.nonfinite": "",
    "trainer.labels.captions": "shards.dataset",
    "trainer.labels.measured": "shards.dataset trainer.distributed trainer.labels",
    "trainer.labels.pseudo_labels": "shards.stream.batch",
    "trainer.labels.scaling": "shards.dataset",
    "trainer.labels.weights": "shards.core shards.dataset trainer.networks",
    "trainer.compilation": "shards.core trainer.networks trainer.distributed.frozen",
    # the process and the job
    "trainer.process": "shards.core.errors",
    "trainer.distributed": "shards.core trainer.process",
    # a run on the disk, and what is made of it
    "trainer.config": "shards.core shards.stream trainer.presets trainer.schedules",
    "trainer.run": f"{RUN} trainer.schedules.time_plan",
    "trainer.models": RUN,
    "trainer.generation": f"{RUN} {DATASET} shards.text_encoders trainer.models trainer.noise "
    "trainer.distributed.device",
    "trainer.generation.sharded": f"{RUN} {DATASET} trainer.models trainer.noise trainer.generation "
    "trainer.distributed",
    "trainer.reporting": f"{RUN} trainer.generation trainer.evaluation.metrics.registry",
    "trainer.exhibits": f"{RUN} {DATASET} trainer.models trainer.noise trainer.generation trainer.reporting",
    "trainer.inversion": f"{RUN} {DATASET} trainer.models trainer.noise trainer.generation trainer.evaluation "
    "trainer.augment",
    "trainer.playground": f"{RUN} {DATASET} trainer.models trainer.noise trainer.generation trainer.reporting",
    "trainer.serving": f"{RUN} {DATASET} trainer.generation trainer.playground",
    "trainer.tracking": f"{RUN} {DATASET} trainer.models trainer.noise trainer.generation trainer.reporting "
    "trainer.export trainer.process.timeouts",
    "trainer.evaluation": f"{RUN} {DATASET} shards.stream trainer.models trainer.noise trainer.generation "
    "trainer.reporting trainer.distributed trainer.process",
    "trainer.evaluation.metrics": "shards.core shards.dataset",
    "trainer.sampling": f"{RUN} {DATASET} trainer.models trainer.noise trainer.generation trainer.evaluation "
    "trainer.augment",
    "trainer.export": f"{RUN} {DATASET} shards.text_encoders trainer.models trainer.noise trainer.generation "
    "trainer.reporting trainer.presets",
    # training
    "trainer.step": "shards.stream trainer.augment trainer.batch_diversity trainer.compilation trainer.distributed "
    "trainer.losses trainer.metric_names trainer.mode_seeking trainer.networks trainer.noise",
    "trainer.joint_step": "shards.stream trainer.augment trainer.batch_diversity trainer.distributed trainer.losses "
    "trainer.metric_names trainer.mode_seeking trainer.step",
    "trainer.state": "shards trainer",
    "trainer.sizing": f"{RUN} shards.stream trainer.distributed trainer.fresh_state trainer.models trainer.presets "
    "trainer.state",
    "trainer.sizing.rule": "",
    "trainer.setup": "shards trainer",
    "trainer.loop": "shards trainer",
    "trainer.finetuning": f"{RUN} {DATASET} shards.text_encoders",
    "trainer.preflight": "shards trainer",
    "trainer.preflight.options": "shards.core trainer.presets",
    "trainer.main": "shards.core trainer.config trainer.process trainer.setup",
    "trainer.__main__": "shards.core trainer.process",
    "trainer.demo": "shards.core shards.dataset trainer.presets trainer.sizing.rule",
    "trainer": "shards trainer",
    # scripts for clusters and dashboards, without torch
    "launch": "shards.core shards.packing trainer.config trainer.metric_names trainer.presets "
    "trainer.preflight.options trainer.tracking.wandb_run",
    "launch.cli": "shards.core shards.__main__ trainer.__main__ trainer.process launch",
}
# Packages and modules that may import these libraries; nothing else may.
LIBRARIES: dict[str, str] = {
    "torch": "trainer shards.stream shards.text_encoders",
    "accelerate": "trainer.distributed trainer.tracking.trackers",
    "wandb": "trainer.tracking trainer.preflight launch.dashboard",
    "fire": "shards.core.cli",
    "starlette": "trainer.serving",
    "uvicorn": "trainer.serving",
}
# Modules that must start before torch does, or answer without it.
WITHOUT_TORCH = (
    "trainer.config trainer.presets trainer.schedules trainer.metric_names trainer.process trainer.main trainer.api "
    "trainer.__main__ trainer.demo trainer.preflight.options trainer.preflight.findings "
    "trainer.tracking.wandb_run trainer.tracking.diagnostics"
).split()
# Modules that touch no file, process or clock, with the libraries they may use.
PURE: dict[str, str] = {
    "trainer.networks": "torch",
    "trainer.losses": "torch",
    "trainer.averages.ema": "torch",
    "trainer.averages.profiles": "numpy",
    "trainer.averages.power_averages": "torch",
    "trainer.batch_diversity": "torch",
    "trainer.mode_seeking": "torch",
    "trainer.schedules": "",
    "trainer.sizing.rule": "",
    "trainer.metric_names": "",
    "trainer.tracking.diagnostics": "",
    "trainer.evaluation.metrics.combinations": "numpy",
    "trainer.evaluation.metrics.label_accuracy": "numpy",
    "trainer.evaluation.metrics.efficientnet": "torch",
    "trainer.evaluation.metrics.inception": "torch",
    "trainer.evaluation.metrics.pairwise": "numpy",
    "trainer.evaluation.metrics.distances": "numpy",
    "trainer.evaluation.metrics.memorization": "numpy",
    "trainer.evaluation.metrics.diversity": "numpy",
    "trainer.evaluation.metrics.measurements": "numpy",
    "trainer.evaluation.metrics.registry": "numpy",
    "trainer.evaluation.metrics.second_judge": "",
    "trainer.evaluation.metrics.spectrum": "numpy",
    "trainer.evaluation.metrics.appearance": "numpy",
    "trainer.sampling.calibration": "numpy",
    "trainer.sampling.reading": "numpy",
    "shards.stream.order": "numpy",
    "shards.core.permutation": "numpy",
    "shards.core.rng": "numpy",
    "shards.vocabulary": "re unicodedata",
}
PURE_STANDARD = {
    "math",
    "dataclasses",
    "collections",
    "contextlib",
    "typing",
    "__future__",
    "copy",
    "enum",
    "functools",
    "itertools",
    "zlib",
}


def module_name(path: str) -> str:
    """Return the dotted name of a source file, such as trainer/run/lock.py."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported_modules(path: str, source: str) -> set[str]:
    """Return every module that a source imports, anywhere in the file; `from a import b` counts as a.b.

    Imports under `if TYPE_CHECKING:` are for tools and do not count.
    """
    package = Path(path).parent.parts
    found = set()
    for node in _at_run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and _called(node).endswith("import_module"):
            found |= {str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return found


def _at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _at_run_time(node)


def within(module: str, package: str) -> bool:
    """Return whether a module is the package or part of it."""
    return module == package or module.startswith(package + ".")


def rule_of(module: str) -> str:
    """Return the name in ALLOWED that decides for a module: the longest that matches."""
    return max((name for name in ALLOWED if within(module, name)), key=len)


def forbidden_imports(path: str, source: str) -> Iterator[str]:
    """Yield what a file imports and may not."""
    module = module_name(path)
    rule = rule_of(module)
    allowed = {rule, *ALLOWED[rule].split()}
    for name in sorted(imported_modules(path, source)):
        library = name.split(".")[0]
        if library in TOP_LEVEL:
            if not any(within(name, a) for a in allowed):
                yield f"{module} imports {name}; {rule} may import {sorted(allowed)}"
        elif library in LIBRARIES and not any(within(module, a) for a in LIBRARIES[library].split()):
            yield f"{module} imports {library}; only {LIBRARIES[library]} may"
        elif library == "torch" and any(within(module, a) for a in WITHOUT_TORCH):
            yield f"{module} imports torch, whose import takes seconds"
        for pure, libraries in PURE.items():
            if within(module, pure) and library not in (PURE_STANDARD | set(TOP_LEVEL) | set(libraries.split())):
                yield f"{module} imports {name}; {pure} is pure"


def dangers(name: str, source: str) -> Iterator[str]:
    """Pickle in any form, and shells."""
    imported = imported_modules(name, source)
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


def unbounded_readers(name: str, source: str) -> Iterator[str]:
    """JSON and YAML files that are read without the limits of `shards.core.text_files`."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called, text = _called(node), ast.unparse(node)
        if called in ("json.load", "yaml.safe_load") or (
            called == "json.loads" and re.search("read_(text|bytes)", text)
        ):
            yield f"{name}:{node.lineno} {called}; use shards.core.text_files"


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
    if any(within(m, "torchvision") for m in imported_modules(name, source)):
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
    if set(Path(name).with_suffix("").parts) & VAGUE_NAMES:
        yield f"{name} is named for nothing in particular"


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func) if isinstance(node.func, ast.Attribute | ast.Name) else ""


def sources() -> dict[str, str]:
    files = (p for package in TOP_LEVEL for p in sorted((ROOT / package).rglob("*.py")))
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in files}


Rule = Callable[[str, str], Iterator[str]]


@pytest.mark.parametrize("rule", [forbidden_imports, dangers, unbounded_readers, traps, shape])
def test_sources_keep_the_rule(rule: Rule) -> None:
    files = sources()
    assert {name.split("/")[0] for name in files} == set(TOP_LEVEL)
    assert not [complaint for name, source in files.items() for complaint in rule(name, source)]


def test_rules_name_modules_that_exist() -> None:
    modules = [module_name(path) for path in sources()]
    allowed = [name for names in ALLOWED.values() for name in names.split()]
    libraries = [name for names in LIBRARIES.values() for name in names.split()]
    for name in [*ALLOWED, *allowed, *libraries, *WITHOUT_TORCH, *PURE]:
        assert any(within(module, name) for module in modules), f"no module {name}: remove it from the rules"


def test_no_two_packages_import_each_other() -> None:
    assert not list(cycles(sources()))


def cycles(files: dict[str, str]) -> Iterator[str]:
    """Yield pairs of packages, named by their rules, that import each other."""
    modules = {module_name(path) for path in files}
    arrows = set()
    for path, source in files.items():
        if (start := rule_of(module_name(path))) in ("shards", "trainer"):  # the lazy API reaches everything
            continue
        for name in imported_modules(path, source):
            if target := next((m for m in (name, name.rpartition(".")[0]) if m in modules), None):
                arrows.add((start, rule_of(target)))
    yield from (f"{a} <-> {b}" for a, b in sorted(arrows) if a < b and (b, a) in arrows)


def test_folders_stay_small() -> None:
    folders: dict[str, int] = {}
    for path in sources():
        if not path.endswith("__init__.py"):
            folders[str(Path(path).parent)] = folders.get(str(Path(path).parent), 0) + 1
    # The root of trainer/ also has the entry points, whose paths are fixed.
    assert not {name: count for name, count in folders.items() if count > MAX_MODULES + 4 * (name == "trainer")}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("shards/packing/pack.py", "def f():\n    from trainer import config"),
        ("shards/packing/pack.py", "import launch.slurm"),
        ("shards/packing/pack.py", "from shards.stream.stream import Stream"),
        ("shards/dataset/dataset.py", "import torch.utils.data"),
        ("shards/dataset/dataset.py", "if True:\n    import accelerate"),
        ("shards/dataset/dataset.py", "from shards.sources import item"),
        ("shards/packing/pack.py", "import importlib\nimportlib.import_module('trainer.config')"),
        ("launch/render.py", "import torch"),
        ("launch/render.py", "from trainer import loop"),
        ("launch/render.py", "from trainer.tracking.trackers import open_trackers"),
        ("launch/check.py", "from trainer.preflight.store import SharedStore"),
        ("trainer/preflight/options.py", "import torch"),
        ("launch/render.py", "from shards.dataset.dataset import Dataset"),
        ("trainer/networks/new.py", "import numpy as np"),
        ("trainer/networks/new.py", "from trainer.losses import LOSSES"),
        ("trainer/networks/new.py", "from ..losses import LOSSES"),
        ("trainer/networks/new.py", "import os"),
        ("trainer/losses.py", "from trainer.networks import build"),
        ("trainer/augment/new.py", "from trainer.distributed.process_group import Distributed"),
        ("trainer/evaluation/metrics/label_accuracy.py", "from trainer.evaluation.judge.judge import Judge"),
        ("trainer/generation/sampler.py", "from trainer.distributed.process_group import Distributed"),
        ("shards/stream/order.py", "import random"),
        ("shards/core/rng.py", "import torch"),
        ("shards/core/rng.py", "from shards.dataset.dataset import Dataset"),
        ("trainer/loop.py", "from accelerate import Accelerator"),
        ("trainer/config.py", "import torch"),
        ("trainer/metric_names.py", "import numpy"),
        ("trainer/process/signals.py", "import torch"),
        ("trainer/run/lock.py", "from trainer.generation.generate import generate"),
    ],
)
def test_forbidden_import_is_found(path: str, source: str) -> None:
    assert list(forbidden_imports(path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("shards/stream/stream.py", "import torch\nfrom shards.stream import order"),
        ("launch/render.py", "from trainer import config\nfrom trainer.presets import PRESETS"),
        (
            "trainer/networks/new.py",
            "import math\nfrom torch import nn\nfrom trainer.networks.article import SIZE\nfrom . import article",
        ),
        ("trainer/distributed/rendezvous.py", "from accelerate import Accelerator"),
        ("shards/stream/order.py", "import numpy as np\nfrom shards.core import rng"),
        ("shards/core/rng.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
    ],
)
def test_allowed_import_passes(path: str, source: str) -> None:
    assert not list(forbidden_imports(path, source))


def test_circle_of_two_packages_is_found() -> None:
    files = {
        "trainer/run/lock.py": "from trainer.reporting import curves",
        "trainer/reporting/curves.py": "from trainer.run import lock",
    }
    assert list(cycles(files)) == ["trainer.reporting <-> trainer.run"]


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


@pytest.mark.parametrize("source", ["json.load(file)", "json.loads(path.read_text())", "yaml.safe_load(text)"])
def test_reader_without_limits_is_found(source: str) -> None:
    assert list(unbounded_readers("trainer/new.py", source))


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
