"""The commit of the checkout is read from git's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.core.version import revision


def test_the_revision_is_the_checkouts_commit(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "shards").mkdir()
    monkeypatch.setattr("shards.core.version._CHECKOUT", tmp_path)
    assert revision() is None
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert revision() is None  # no commit yet
    (git / "packed-refs").write_text("# pack-refs\n" + "a" * 40 + " refs/heads/main\n")
    assert revision() == "a" * 12
    (git / "refs" / "heads" / "main").write_text("b" * 40 + "\n")
    assert revision() == "b" * 12
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert revision() == "c" * 12
    monkeypatch.setattr("shards.core.version._CHECKOUT", tmp_path / "site-packages")
    assert revision() is None
