"""The token that clients must send: read from a file or the environment, and shown nowhere."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path

from shards.core import text_files
from shards.core.errors import UserError, warn

VARIABLE = "CGAN_SERVE_TOKEN"

_SHORTEST = 16  # characters
_MAX_FILE = 4096  # bytes


def read_token(file: str | Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the token of a file, or else of the environment variable `VARIABLE`; None if there is none.

    Raises:
        UserError: the file cannot be read, or it holds no token; the message never quotes what was given, since a
            token itself may have been given in the place of the file.
    """
    if file is None:
        # An empty variable was meant to hold a token: without one, the server would be open.
        return _checked(environment[VARIABLE], VARIABLE) if VARIABLE in environment else None
    try:
        path = Path(file).expanduser()
        token = text_files.read_bytes(path, _MAX_FILE).decode("ascii").strip()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: ~NAME without such a user
        raise UserError(
            "token-unreadable",
            f"--token: that is no file that can be read; give a file that holds the token, or set {VARIABLE}",
        ) from None
    if path.stat().st_mode & 0o077:
        warn("token-readable", "the file of --token can be read by other users; chmod 600 it")
    return _checked(token, "the file of --token")


def _checked(token: str, where: str) -> str:
    if not re.fullmatch(rf"[!-~]{{{_SHORTEST},}}", token):
        raise UserError(
            "invalid-token",
            f"{where} does not hold a token of at least {_SHORTEST} letters, digits and signs; "
            "make one with: openssl rand -hex 24",
        )
    return token


def is_authorized(token: str, header: str) -> bool:
    """Return whether an Authorization header has the token: as a Bearer token, or as the password of any user (Basic).

    The latter is what browsers ask for. The comparison takes the same time wherever the first wrong letter is.
    """
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value.strip(), validate=True).decode("latin-1").partition(":")[2]
        except (binascii.Error, ValueError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(value.strip().encode("latin-1", "replace"), token.encode())
