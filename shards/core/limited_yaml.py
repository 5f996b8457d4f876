"""YAML with limits: of depth, of what aliases expand to, and of the digits of a number."""

from __future__ import annotations

from typing import Any

import yaml

from shards.core.text_files import MAX_DEPTH, MAX_DIGITS, UnreadableText

_MAX_REPEATED = 10_000  # nodes that aliases may stand for

# What the constructors of PyYAML raise for values such as `!!int x`, `!!bool x` and `!!timestamp x`.
_MISTAKES = (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError, RecursionError)


def parse(text: str) -> Any:
    """Return the plain value of a YAML text.

    Raises:
        UnreadableText: it is not valid, or exceeds a limit.
    """
    try:
        return _LimitedLoader(text).get_single_data()
    except UnreadableText:
        raise
    except _MISTAKES as error:
        reason = " ".join(str(error).split())[:300]
        raise UnreadableText(f"is not valid YAML ({reason})") from None


class _LimitedLoader(yaml.SafeLoader):
    """A safe loader that counts what it composes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = self._repeated = 0
        self._sizes: dict[str, int | None] = {}  # of anchors in nodes; None while the node is being composed

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one node, or look up the one that an alias names."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self._check_alias(event.anchor)
            return super().compose_node(parent, index)
        anchor, first = getattr(event, "anchor", None), self._nodes
        self._nodes += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableText(f"is nested more than {MAX_DEPTH} levels deep")
        if anchor is not None:
            self._sizes[anchor] = None
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor is not None:
            self._sizes[anchor] = self._nodes - first
        return node

    def _check_alias(self, anchor: str) -> None:
        size = self._sizes.get(anchor, 0)  # an unknown one is reported by the composer
        if size is None:
            raise UnreadableText(f"contains itself (*{anchor[:60]})")
        self._nodes += size
        self._repeated += size
        if self._repeated > _MAX_REPEATED:
            raise UnreadableText(f"has aliases that stand for more than {_MAX_REPEATED:,} values")

    def construct_yaml_int(self, node: Any) -> int:
        """Return a whole number, of a limited number of digits."""
        if len(node.value) > MAX_DIGITS:
            raise UnreadableText(f"has a number of {len(node.value):,} digits")
        return super().construct_yaml_int(node)


_LimitedLoader.add_constructor("tag:yaml.org,2002:int", _LimitedLoader.construct_yaml_int)
