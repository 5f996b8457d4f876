"""Prompts with what a program wrote after them: the negative prompt, and the settings that an image was made with."""

from __future__ import annotations

import re

_NEGATIVE = re.compile(r"(?:^|(?<=[\s,.;|]))negative[ _-]?prompts?\s*:", re.IGNORECASE)
_SETTINGS = re.compile(
    r"(?:^|(?<=[\s,.;|]))steps\s*:\s*\d+\s*,(?=.*?\b(?:sampler|cfg[ _]scale|seed|size|model(?:[ _]hash)?)\s*:)",
    re.IGNORECASE | re.DOTALL,
)
_POSITIVE = re.compile(r"\s*(?:positive[ _-]?)?prompts?\s*:\s*", re.IGNORECASE)
_NETWORKS = re.compile(r"<(?:lora|lyco|hypernet)\s*:[^<>]*>\s*,?", re.IGNORECASE)  # "<lora:name:0.8>" names weights


def prompt_of(text: str) -> str:
    """Return the prompt of a text with generation parameters; a text without them as it is.

    What follows ``Negative prompt:`` is not in the image, and ``Steps: 20, Sampler: Euler a, …`` says nothing of it.
    """
    ends = [found.start() for found in (_NEGATIVE.search(text), _SETTINGS.search(text)) if found]
    if ends:
        text = _POSITIVE.sub("", text[: min(ends)], count=1) if _POSITIVE.match(text) else text[: min(ends)]
    if "<" in text:
        text = _NETWORKS.sub("", text)
    return text.strip(" \t\r\n,;|") if ends else text.strip()


def names_negative_prompt(column: str) -> bool:
    """Return True if a column is named like one of negative prompts, whose words are not in the image."""
    return (
        re.fullmatch(r"(?i)(.*[\W_])?(negative|neg|undesired)[\W_]*(prompt|caption|tag|content)s?", column) is not None
    )
