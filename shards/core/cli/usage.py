"""The help of a command: its purpose, its synopsis, and a line per option."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shards.core.cli.interface import flag, interface


def wants_help(argv: Sequence[str]) -> bool:
    """Return True if the words contain -h or --help."""
    return bool({"-h", "--help"} & set(argv))


def usage(cls: type, command: str, extra: Mapping[str, str] | None = None) -> str:
    """Return the help text: purpose, synopsis, and one line per option with its default."""
    face = interface(cls)
    synopsis = " ".join(
        [
            command,
            *(n.upper() + (" …" if typing.get_origin(face.types[n]) is tuple else "") for n in face.positional),
            "[--option VALUE …]",
        ]
    )
    rows = [(n.upper(), face.fields[n].metadata["doc"]) for n in face.positional]
    rows += [(f"--{n} VALUE", doc) for n, doc in (extra or {}).items()]
    for name in face.named:
        rules = face.fields[name].metadata
        default = face.fields[name].default
        shown = _metavar(face.types[name], rules.get("choices") or ())
        rows.append((flag(name) + (f" {shown}" if shown else ""), _doc(rules["doc"]) + _default(default)))
    width = min(max(len(left) for left, _ in rows), 38)
    lines = [inspect.cleandoc(cls.__doc__ or ""), "", f"usage: {synopsis}", ""]
    for left, right in rows:
        lines.append(f"  {left:<{width}}  {right}" if len(left) <= width else f"  {left}\n  {'':<{width}}  {right}")
    return "\n".join(lines)


def _doc(doc: str | Callable[[], str]) -> str:
    return doc if isinstance(doc, str) else doc()


def _metavar(kind: Any, choices: Sequence[str]) -> str:
    names = {int: "N", float: "X", bool: "", str: "WORD", Path: "PATH"}
    several = typing.get_origin(kind) is tuple
    if choices:
        return "|".join(choices) + (",…" if several else "")
    if kind in names:
        return names[kind]
    inner = names.get(typing.get_args(kind)[0], "VALUE")
    return f"{inner},{inner},…" if several else inner


def _default(value: Any) -> str:
    if value is None or value is False or value == () or value == "":
        return ""
    text = "yes" if value is True else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f" [{text}]"
