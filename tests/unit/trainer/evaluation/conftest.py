"""Fixtures of the evaluation tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def evaluation_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use one cache of judges and features for all tests, so that a dataset's judge is trained once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "evaluation-cache"))


@pytest.fixture
def run_copy(trained_run: Path, tmp_path: Path) -> Path:
    """Return a copy of `trained_run`."""
    return shutil.copytree(trained_run, tmp_path / "run")
