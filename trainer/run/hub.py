"""Exported generators on the Hugging Face Hub: ``hf://user/name`` or ``hf://user/name@revision``.

Only the files of an export are fetched, into the cache of huggingface_hub, which is used as it is without a network.
Tokens are that library's matter (``HF_TOKEN``, or ``hf auth login``); they appear in no message.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from shards.core.errors import Failure, UserError
from shards.core.version import __version__
from trainer.run.exported import CONFIG, FILES, RECORDS

LIBRARY = "cgan-trainer"

_SCHEME = re.compile("hf:/{1,2}")  # pathlib turns two slashes into one
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9])?"
_REPOSITORY = re.compile(f"{_PART}/{_PART}")
_REVISION = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*")


class Address(NamedTuple):
    """A repository ("user/name") and a branch, tag or commit of it; None: the newest."""

    repository: str
    revision: str | None


def located(where: str | Path) -> Path:
    """Return the local folder of a run or an export; one at the Hub is fetched.

    Raises:
        UserError, Failure: see `fetch`.
    """
    return fetch(parse_address(str(where))) if is_address(where) else Path(where)


def is_address(where: str | Path) -> bool:
    """Return whether something is meant to be at the Hub."""
    return _SCHEME.match(str(where)) is not None


def parse_address(where: str) -> Address:
    """Return the parts of ``hf://user/name@revision``.

    Raises:
        UserError: it is no such address.
    """
    repository, at, revision = _SCHEME.sub("", where, count=1).partition("@")
    if at and not _REVISION.fullmatch(revision):
        raise UserError("invalid-address", f"{where[:200]}: give hf://user/name or hf://user/name@revision")
    return Address(check_repository(repository), revision or None)


def check_repository(name: str) -> str:
    """Return the name of a repository.

    Raises:
        UserError: it does not have the form user/name, or the Hub allows no such name.
    """
    if not _REPOSITORY.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git"):
        raise UserError("invalid-address", f"{name[:200]!r} is not the name of a repository; give user/name")
    return name


def fetch(address: Address) -> Path:
    """Return the folder of an export in the cache, fetched if it is not there or there is a newer one.

    Raises:
        UserError: huggingface_hub is not installed, there is no such repository or revision, or it may not be read.
        Failure: the Hub does not answer, and the export is not in the cache.
    """
    require_package()
    from huggingface_hub import errors, snapshot_download

    shown = f"hf://{address.repository}" + (f"@{address.revision}" if address.revision else "")
    try:
        folder = snapshot_download(
            address.repository,
            revision=address.revision,
            allow_patterns=[CONFIG, *FILES, *RECORDS],
            library_name=LIBRARY,
            library_version=__version__,
        )
    except errors.RevisionNotFoundError:
        raise UserError("hub-missing", f"{shown}: the repository has no revision {address.revision}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            "hub-missing",
            f"{shown}: there is no such repository, or it is private and you are not logged in (hf auth login)",
        ) from None
    except errors.HfHubHTTPError as error:
        raise http_failure(shown, error) from None
    except network_errors() as error:
        raise _not_reached(shown, error) from None
    if not (Path(folder) / CONFIG).is_file():
        raise UserError("not-an-export", f"{shown} has no {CONFIG}; it is not a generator that `cgan push` sent")
    return Path(folder)


def require_package() -> None:
    """Check that huggingface_hub is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise UserError(
            "package-missing",
            'the Hugging Face Hub needs a package that is not installed: pip install "cgan-trainer[hub]"',
        ) from None


def network_errors() -> tuple[type[Exception], ...]:
    """Return what huggingface_hub raises if there is no network: OSError, and the errors of its HTTP client.

    Its versions have different clients, whose base class is that of its own error.
    """
    from huggingface_hub import errors

    return (OSError, *errors.HfHubHTTPError.__bases__)


def http_failure(shown: str, error: Exception) -> UserError:
    """Return an answer of the Hub as one sentence, without its headers and URLs."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return UserError(
            "hub-refused",
            f"{shown}: the Hub refuses access ({status}); log in with `hf auth login`, or set HF_TOKEN to a token "
            "that may do this",
        )
    return Failure("hub-failed", f"{shown}: the Hub answered with status {status or 'unknown'}; try again later")


def _not_reached(shown: str, error: Exception) -> Failure:
    return Failure(
        "hub-failed", f"{shown} is not in the cache, and the Hub cannot be reached ({type(error).__name__}); try again"
    )
