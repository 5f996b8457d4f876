"""Choices of options that name an entry of a registry."""

from __future__ import annotations

import ast
from pathlib import Path

_TRAINER = Path(__file__).resolve().parent.parent


def registry_keys(module: str, name: str) -> tuple[str, ...]:
    """Return the keys of the dict ``name`` in a module of the trainer, such as "losses.py".

    They are read from the source, where the dict is a literal with string keys: options are checked without torch,
    which importing the module would import.
    """
    for node in ast.parse((_TRAINER / module).read_text(encoding="utf-8")).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.Dict(keys=keys)) if target == name:
                return tuple(key.value for key in keys if isinstance(key, ast.Constant))  # type: ignore[misc]
    raise LookupError(f"{module} has no dict {name}")
