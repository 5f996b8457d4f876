"""Fixtures of the tests of exhibits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def run_copy(trained_run: Path, tmp_path: Path) -> Path:
    """Return a copy of `trained_run`."""
    return shutil.copytree(trained_run, tmp_path / "run")
