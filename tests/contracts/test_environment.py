"""How `make` builds the environment: the pure parts of .ci/environment.py, and that the pins agree with the ranges."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import shards
from support import ROOT


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment = load("environment", ROOT / ".ci" / "environment.py")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = re.findall(r"(?m)^([a-z0-9.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"))


def test_trap_the_launchers_configuration_has_plain_values_and_keys_that_it_knows() -> None:
    """There is no "auto", an unquoted NO is false, and a key that it does not know ends the launch."""
    from accelerate.commands.config.config_args import ClusterConfig

    found = ClusterConfig.from_yaml_file(str(ROOT / "accelerate_config.yaml"))
    assert isinstance(found, ClusterConfig)
    assert found.distributed_type == "NO" and found.mixed_precision == "no"
    assert (found.num_machines, found.num_processes, found.use_cpu) == (1, 1, False)


@pytest.mark.parametrize(
    ("version", "wanted", "inside"),
    [
        ("2.13.0+cpu", ">=2.6,<3", True),
        ("2.6.0", ">=2.6,<3", True),
        ("2.5.1+cu124", ">=2.6,<3", False),
        ("3.0.0", ">=2.6,<3", False),
        ("2.10.0a0+git1234", ">=2.6,<3", True),
    ],
)
def test_ranges(version: str, wanted: str, inside: bool) -> None:
    assert environment.in_range(version, wanted) is inside


def test_torch_here_is_found_as_a_child_process_sees_it() -> None:
    import torch

    version, directory = environment.torch_here(environment.required_range())
    assert version == torch.__version__
    assert Path(directory, "torch", "__init__.py").samefile(torch.__file__)
    assert environment.torch_here(">=1,<2") == ("", "")


def test_the_environment_sees_a_kept_directory_after_its_own(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    kept = tmp_path / "kept"
    kept.mkdir()
    ask = [str(python), "-c", "import sys; print(sys.path[-1])"]
    environment.see_also(python, str(kept))
    assert subprocess.check_output(ask, text=True).strip() == str(kept)
    environment.see_also(python, "")
    assert subprocess.check_output(ask, text=True).strip() != str(kept)


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    pins = dict(PINS)
    extras = PROJECT["optional-dependencies"]
    untested = {"gcs", "bench"}  # not in constraints.txt, as docs/dependencies.md says
    asked = [*PROJECT["dependencies"], *(r for extra in set(extras) - untested for r in extras[extra])]
    for requirement in asked:
        if requirement.startswith("cgan-trainer["):
            continue
        name, wanted = re.fullmatch(r"([a-z0-9-]+)(?:\[\w+\])?(>=.*)", requirement).groups()  # type: ignore[union-attr]
        wanted = wanted if "<" in wanted else wanted + ",<9999"
        assert environment.in_range(pins[name], wanted), requirement


def test_pins_are_unique_and_torch_is_in_its_section() -> None:
    names = [name for name, _ in PINS]
    assert len(set(names)) == len(names)
    own, torch_section = (ROOT / "constraints.txt").read_text(encoding="utf-8").split(environment.TORCH_SECTION)
    assert "\ntorch==" in "\n" + torch_section and "\ntorch==" not in own
    assert "+" not in torch_section, "a local version is on one index only"


def test_one_version_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {shards.__version__}\n" in citation


def test_an_old_interpreter_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.missing() == ""
    monkeypatch.setattr(environment.sys, "version_info", (3, 9, 18))
    assert "Python 3.11 or newer is needed" in environment.missing()


def test_a_python_without_venv_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    assert "apt-get install python3-venv" in environment.missing()
