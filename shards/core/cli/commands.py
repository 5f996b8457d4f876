"""Parse the command line of one command, or call the command that it names."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence

from shards.core.cli.interface import T, make
from shards.core.cli.usage import usage, wants_help
from shards.core.cli.values import coerce
from shards.core.cli.words import raw_values
from shards.core.errors import UserError


def parse(cls: type[T], argv: Sequence[str], *, command: str) -> T:
    """Return the options object of a command line.

    Raises:
        UserError: the command line is not valid.
        SystemExit: with status 0, after --help was printed.
    """
    if wants_help(argv):
        print(usage(cls, command))
        raise SystemExit(0)
    raw = raw_values(cls, argv)
    return make(cls, {name: coerce(cls, name, value) for name, value in raw.items()})


def dispatch(commands: Mapping[str, tuple[str, str]], argv: Sequence[str], *, program: str, version: str) -> None:
    """Run the subcommand that ``argv`` names.

    Args:
        commands: name -> (one-line help, "module:function"); the function takes the remaining words. Its module is
            imported when it is called, so that a command does not wait for the imports of another.

    Raises:
        UserError: there is no such command.
    """
    if argv and argv[0] == "--version":
        print(version)
        return
    if not argv or argv[0] in ("-h", "--help", "help"):
        width = max(map(len, commands))
        print(f"usage: {program} COMMAND …   ({program} COMMAND --help for details)\n")
        print("\n".join(f"  {name:<{width}}  {doc}" for name, (doc, _) in commands.items()))
        return
    if argv[0] not in commands:
        near = difflib.get_close_matches(argv[0], commands, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"available: {', '.join(commands)}"
        raise UserError("unknown-command", f"unknown command {argv[0]!r}; {hint}")
    module, function = commands[argv[0]][1].split(":")
    getattr(importlib.import_module(module), function)(argv[1:])
