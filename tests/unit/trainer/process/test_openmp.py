"""Threads that wait do not spin the time away, unless somebody wants it so."""

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
def test_what_somebody_has_set_stays(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], found: str | None) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    openmp.bound()
    assert os.environ.get("GOMP_SPINCOUNT") == found


@pytest.mark.parametrize("entry", ["trainer.main", "trainer.__main__"])
def test_it_is_bound_before_torch_is_imported(entry: str) -> None:
    """OpenMP reads it once, when torch brings it."""
    look = (
        f"import sys; sys.argv = ['x', '--version']; import {entry} as entry; from trainer.process import openmp\n"
        "was = openmp.bound\n"
        "openmp.bound = lambda: print('torch' in sys.modules) or was()\n"
        "try: entry.main()\nexcept SystemExit: pass"
    )
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "False"
