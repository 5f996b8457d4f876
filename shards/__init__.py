"""The data side: pictures and tags become plain WebDataset tars with an index, and positions become batches."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"


def revision() -> str | None:
    """The short commit of the checkout that this package runs from; None where there is none (an installed package).

    Read from git's own files, so that it works where no git is installed.
    """
    try:
        git = Path(__file__).resolve().parent.parent / ".git"
        if git.is_file():  # a worktree: the file says where its own HEAD lies
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
    """What --version prints: the version, and the commit where there is one."""
    commit = revision()
    return f"cgan-trainer {__version__}" + (f" ({commit})" if commit else "")
