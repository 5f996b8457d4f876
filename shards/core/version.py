"""The version of the package and the commit of its checkout."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"
_CHECKOUT = Path(__file__).resolve().parents[2]


def revision() -> str | None:
    """Return the short commit hash of the checkout that this package runs from; None for an installed package.

    It is read from git's own files, so git need not be installed.
    """
    try:
        git = _CHECKOUT / ".git"
        if git.is_file():  # a worktree: the file names the directory that holds its HEAD
            git = git.parent / git.read_text("utf-8").removeprefix("gitdir:").strip()
        common = git / "commondir"
        shared = git / common.read_text("utf-8").strip() if common.is_file() else git
        head = (git / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref:"):
            return head[:12] or None
        name = head.removeprefix("ref:").strip()
        for folder in (git, shared):
            if (folder / name).is_file():
                return (folder / name).read_text("utf-8").strip()[:12] or None
        for line in (shared / "packed-refs").read_text("utf-8").splitlines():
            if line.endswith(f" {name}"):
                return line[:12]
    except (OSError, UnicodeDecodeError):
        pass
    return None


def version_line() -> str:
    """Return what --version prints: the version, and the commit if it is known."""
    commit = revision()
    return f"cgan-trainer {__version__}" + (f" ({commit})" if commit else "")
