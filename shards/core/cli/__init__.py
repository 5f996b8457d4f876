"""Strict command-line parsing for every command.

A frozen dataclass *is* the interface of a command: each field is an option with its type, default and help. What fire
would let pass is checked before anything runs: unknown options, missing values, wrong types, words after ``--``.

    @dataclass(frozen=True)
    class Greet:
        "Greet somebody."
        name: str = argument("whom to greet")
        times: int = option(1, "how often", minimum=1)

    options = parse(Greet, ["Ada", "--times", "3"], command="greet")
"""

from __future__ import annotations

from shards.core.cli.commands import dispatch, parse
from shards.core.cli.interface import argument, flag, flatten, interface, make, option, section, seed_option
from shards.core.cli.usage import usage, wants_help
from shards.core.cli.values import coerce, validate
from shards.core.cli.words import raw_values, unknown_option

__all__ = [
    "argument",
    "coerce",
    "dispatch",
    "flag",
    "flatten",
    "interface",
    "make",
    "option",
    "parse",
    "raw_values",
    "section",
    "seed_option",
    "unknown_option",
    "usage",
    "validate",
    "wants_help",
]
