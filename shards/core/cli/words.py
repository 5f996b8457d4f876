"""Tell options from arguments in the words of a command line, and refuse what fire would let pass."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterable, Sequence
from typing import Any

import fire
from fire.decorators import SetParseFn

from shards.core.cli.interface import Interface, flag, interface
from shards.core.cli.values import BOOLEANS
from shards.core.errors import UserError


def raw_values(cls: type, argv: Sequence[str], *, also: Iterable[str] = ()) -> dict[str, str]:
    """Return the unconverted words of a command line by field name.

    Args:
        cls: the dataclass whose fields are the options.
        argv: the words after the name of the command.
        also: names of further options that are not fields, such as ``config``.

    Raises:
        UserError: an unknown option, a missing value, too many arguments, a ``--``.
    """
    face = interface(cls)
    extra = tuple(also)
    words, positional = _normalise(face, argv, extra)
    taken: dict[str, str] = {}

    def receive(**values: str) -> None:
        taken.update({name: value for name, value in values.items() if value is not _ABSENT})

    # With real parameter names, fire pairs each word with its option; `str` keeps it from evaluating the words.
    names = [*face.named, *extra]
    receive.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=_ABSENT) for n in names]
    )
    fire.Fire(SetParseFn(str)(receive), command=words)
    _take_positional(face, positional, taken)
    return taken


_ABSENT: Any = object()


def _normalise(face: Interface, argv: Sequence[str], extra: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return every option as ``--name=value`` under its field name, and the positional words."""
    words: list[str] = []
    positional: list[str] = []
    queue = list(argv)
    while queue:
        word = queue.pop(0)
        if word == "--":
            raise UserError(
                "unexpected-argument",
                f"'--' is not supported here (followed by {' '.join(queue[:1]) or 'nothing'!r}); remove it",
            )
        if not word.startswith("--"):
            if len(word) > 1 and word[0] == "-" and word[1].isalpha():
                raise UserError(
                    "unknown-option", f"unknown option {word!r}: options are written --name VALUE; see --help"
                )
            positional.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        name = f"{name}_" if f"{name}_" in face.named else name
        if name not in face.named and name not in extra:
            negated = name.removeprefix("no_") if name.startswith("no_") else name.removeprefix("no")
            if negated in face.named and face.is_flag(negated) and not equals:
                words.append(f"--{negated}=false")
                continue
            raise UserError("unknown-option", unknown_option(name, [*face.named, *extra], "command line"))
        if not equals:
            if name in face.named and face.is_flag(name):
                value = queue.pop(0) if queue and queue[0].lower() in BOOLEANS else "true"
            elif queue and not queue[0].startswith("--"):
                value = queue.pop(0)
            else:
                raise UserError("missing-value", f"{flag(name)} needs a value; see --help")
        words.append(f"--{name}={value}")
    return words, positional


def _take_positional(face: Interface, words: list[str], taken: dict[str, Any]) -> None:
    rest = list(words)
    for name in face.positional:
        if typing.get_origin(face.types[name]) is tuple:
            taken[name], rest = rest, []
        elif rest:
            taken[name] = rest.pop(0)
        if not taken.get(name):
            raise UserError(
                "missing-argument", f"{name.upper()} is missing ({face.fields[name].metadata['doc']}); see --help"
            )
    if rest:
        raise UserError(
            "unexpected-argument", f"unexpected argument {rest[0]!r}: options are written --name VALUE; see --help"
        )


def unknown_option(name: str, known: Sequence[str], where: str) -> str:
    """Return the message for an option that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {flag(near[0])}?" if near else "see --help"
    return f"unknown option {flag(name)}{f' ({where})' if where else ''}; {hint}"
