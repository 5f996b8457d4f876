"""YAML with limits: of depth, of what aliases expand to, and of the digits of a number."""

from __future__ import annotations

from typing import Any

import yaml

from shards.core.text_files import MAX_DEPTH, MAX_DIGITS, UnreadableText

_MAX_REPEATED = 10_000  # values that aliases may stand for

# What the constructors of PyYAML raise for values such as `!!int x`, `!!bool x` and `!!timestamp x`.
_MISTAKES = (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError, RecursionError)

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast, where libyaml is there


def parse(text: str) -> Any:
    """Return the plain value of a YAML text.

    Raises:
        UnreadableText: it is not valid, or exceeds a limit.
    """
    try:
        _check_events(text)  # they are a stream, which does not recurse
        return _Loader(text).get_single_data()
    except UnreadableText:
        raise
    except _MISTAKES as error:
        reason = " ".join(str(error).split())[:300]
        raise UnreadableText(f"is not valid YAML ({reason})") from None


def _check_events(text: str) -> None:
    """Check depth and aliases before anything is built."""
    values = repeated = 0  # so far, with what aliases stand for; the latter alone
    sizes: dict[str, int | None] = {}  # of anchors in values; None while one is open
    opened: list[tuple[str | None, int]] = []  # anchor of each open collection, and the values before it
    for event in yaml.parse(text, Loader=_BASE):
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 0)  # an unknown one is reported when it is built
            if size is None:
                raise UnreadableText(f"contains itself (*{event.anchor[:60]})")
            values += size
            repeated += size
            if repeated > _MAX_REPEATED:
                raise UnreadableText(f"has aliases that stand for more than {_MAX_REPEATED:,} values")
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            sizes[event.anchor or ""] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, values))
            sizes[event.anchor or ""] = None
            values += 1
            if len(opened) > MAX_DEPTH:
                raise UnreadableText(f"is nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            sizes[anchor or ""] = values - before


class _Loader(_BASE):
    """A safe loader whose whole numbers have a limited number of digits."""

    def construct_yaml_int(self, node: Any) -> int:
        """Return a whole number."""
        if len(node.value) > MAX_DIGITS:
            raise UnreadableText(f"has a number of {len(node.value):,} digits")
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
