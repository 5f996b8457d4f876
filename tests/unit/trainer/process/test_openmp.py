"""The limit on spinning OpenMP threads, unless the environment sets one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.launching import ROOT
from trainer.process import openmp


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "5"}, "5"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, None),
    ],
)
def test_environment_has_precedence(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], found: str | None) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    openmp.limit_spinning()
    assert os.environ.get("GOMP_SPINCOUNT") == found


@pytest.mark.parametrize("entry", ["trainer.main", "trainer.__main__"])
def test_limit_is_set_before_torch_is_imported(entry: str) -> None:
    """OpenMP reads the variable once, when torch is imported."""
    look = (
        f"import sys; sys.argv = ['x', '--version']; import {entry} as entry; from trainer.process import openmp\n"
        "was = openmp.limit_spinning\n"
        "openmp.limit_spinning = lambda: print('torch' in sys.modules) or was()\n"
        "try: entry.main()\nexcept SystemExit: pass"
    )
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "False"
