"""The model card of a generator: a README.md in the form that the Hugging Face Hub shows, written from what is known.

It states nothing that was not recorded: what is missing is called "not recorded". All words that come from data are
escaped, and options that could hold a path or a key are left out (see `public_options`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shards.core import cli
from shards.dataset.image_shape import ImageShape
from shards.dataset.schema import WORDLESS, Schema
from trainer.config import Config
from trainer.config.monitoring import EvaluationConfig, TrackingConfig
from trainer.presets import PRESETS
from trainer.reporting import evaluation_table
from trainer.reporting.marks import explanations
from trainer.reporting.number_format import format_duration, format_option
from trainer.run.hub import LIBRARY
from trainer.run.lineage import Influence
from trainer.run.redaction import without_secrets

MARK = "<!-- Written by `cgan push`, which replaces a card that has this line. -->"
_MOST_VALUES = 60  # of an attribute
_MISSING = "not recorded"
# Options that do not change the model, or that the card names elsewhere.
_NOT_THE_MODEL = {
    *("workers", "threads", "timeout", "device", "dry_run", "preset", "damaged_limit", "cache_limit"),
    *cli.interface(TrackingConfig).fields,
    *cli.interface(EvaluationConfig).fields,
}


@dataclass(frozen=True)
class Facts:
    """The content of a model card.

    Attributes:
        name: "user/name" of the repository.
        content: what `trainer.export.folder.describe` returns.
        schema: the label schema.
        example: a phrase that the generator understands.
        licence: of the model, as an identifier of the Hub; None: not stated.
        evaluation: an entry of `evaluation_file` for this checkpoint; None if it was not evaluated.
        influences: what touched the training; empty if it was not recorded.
        seconds: the training time; 0 if it is not known.
        images: file names in the repository, with a caption each.
    """

    name: str
    content: Mapping[str, Any]
    schema: Schema
    example: str
    licence: str | None = None
    evaluation: Mapping[str, Any] | None = None
    influences: Sequence[Influence] = ()
    seconds: float = 0.0
    images: Sequence[tuple[str, str]] = field(default_factory=tuple)


def write_card(facts: Facts) -> str:
    """Return the card as Markdown with the metadata that the Hub reads."""
    parts = [_metadata(facts), f"# {facts.name.rpartition('/')[2]}", _summary(facts)]
    parts += [f"![{caption}]({name})\n\n*{caption}*" for name, caption in facts.images]
    for title, section in (
        ("Draw images", _how_to_draw(facts)),
        ("Words", _words(facts.schema)),
        ("Data", _data(facts)),
        ("Evaluation", _evaluation(facts)),
        ("Training", _training(facts)),
    ):
        parts.append(f"## {title}\n\n{section}")
    return "\n\n".join([*parts, MARK]) + "\n"


def escaped(value: object) -> str:
    """Return a text for Markdown prose or a table's cell: on one line, and with nothing that would be markup."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|!~$])", r"\\\1", text)


def _metadata(facts: Facts) -> str:
    lines = ["---", f"library_name: {LIBRARY}", "pipeline_tag: text-to-image"]
    lines += [f"license: {facts.licence}"] if facts.licence else []
    return "\n".join([*lines, "tags:", "- gan", "- conditional-gan", "- image-generation", "---"])


def _summary(facts: Facts) -> str:
    architecture = facts.content["architecture"]
    data = facts.content.get("dataset", {}).get("name")
    of = f", with the labels of the dataset “{escaped(data)}”" if data else ""
    return (
        f"A conditional GAN (family {architecture['family']}) that draws images of {_pixels(facts.content)} from words"
        f"{of}. It was trained with {LIBRARY} and has seen {facts.content['images_seen']:,} images."
    )


def _how_to_draw(facts: Facts) -> str:
    shape = _shape(facts.content)
    phrase = re.sub(r"""[\\"`$!]""", "", " ".join(facts.example.split()))  # in quotes of Python and of a shell
    return f"""```python
import trainer  # pip install "{LIBRARY}[hub]"

g = trainer.load("hf://{facts.name}")
images = g.sample("{phrase}", count=4, seed=0)  # uint8 (4, {shape.channels}, {shape.height}, {shape.width})
```

or `cgan sample hf://{facts.name} "{phrase}" --count 4`. The same phrase and seed draw the same images. What a phrase
does not name follows the labels of the dataset."""


def _shape(content: Mapping[str, Any]) -> ImageShape:
    architecture = content["architecture"]  # of older versions, without what is that of squares in RGB
    across, down = architecture.get("aspect", (1, 1))
    return ImageShape.of(architecture["size"], architecture.get("image_channels", 3), f"{across}:{down}")


def _pixels(content: Mapping[str, Any]) -> str:
    shape = _shape(content)
    kind = {1: ", in grey", 4: ", with transparency"}.get(shape.channels, "")
    return f"{shape.width}x{shape.height} pixels{kind}"


def _words(schema: Schema) -> str:
    rows = []
    for attribute in schema.attributes:
        shown = [escaped(value) for value in attribute.values[:_MOST_VALUES]]
        if more := len(attribute.values) - len(shown):
            shown.append(f"and {more:,} more")
        values = f"{attribute.size:,} numbers" if attribute.kind in WORDLESS else ", ".join(shown)
        rows.append((escaped(attribute.name), attribute.kind, values))
    return _table(("attribute", "kind", "values"), rows)


def _data(facts: Facts) -> str:
    notes = facts.content.get("dataset", {})
    samples = notes.get("samples")
    rows = [
        ("name", notes.get("name")),
        ("images", f"{samples:,} of {_pixels(facts.content)}" if isinstance(samples, int) else None),
        ("origin of the images", notes.get("pictures")),
        ("licence of the images", notes.get("licence")),
        ("fingerprint", facts.content.get("data")),
    ]
    return _table(("", ""), [(name, escaped(value or _MISSING)) for name, value in rows]) + _lineage(facts.influences)


def _lineage(influences: Sequence[Influence]) -> str:
    """Return everything that touched the training; "" if it was not recorded."""
    if not influences:
        return ""
    rows = [[escaped(value or "—") for value in (i.role, i.name, i.identity[:16])] for i in influences]
    return "\n\nEverything that touched the training (`lineage.json`):\n\n" + _table(("", "name", "fingerprint"), rows)


def _evaluation(facts: Facts) -> str:
    if facts.evaluation is None:
        return "No evaluation of this checkpoint was recorded."
    rows = [tuple(map(escaped, row)) for row in evaluation_table.rows(facts.evaluation)]
    heading = escaped(evaluation_table.heading(facts.content["images_seen"], facts.evaluation))
    explained = [*explanations(facts.evaluation), *facts.evaluation.get("notes", [])]
    notes = "".join(f"\n\n{escaped(without_secrets(str(note)))}" for note in explained)
    return (
        f"{heading}. *Real* is the same measure of real images: what a perfect generator would reach.\n\n"
        + _table(("metric", "generated", "real", "meaning"), rows)
        + notes
    )


def _training(facts: Facts) -> str:
    content = facts.content
    config, versions = content["config"], content.get("trained_with", {})
    commit = f" ({versions['commit']})" if versions.get("commit") else ""
    rows = [
        ("images seen", f"{content['images_seen']:,}"),
        ("hardware", versions.get("machine")),
        ("training time", format_duration(facts.seconds) if facts.seconds else None),
        ("code", f"{LIBRARY} {versions['version']}{commit}" if versions.get("version") else None),
        ("torch", versions.get("torch")),
        ("preset", config.get("preset")),
    ]
    listed = [(f"`--{name.replace('_', '-')}`", escaped(format_option(value))) for name, value in _chosen(config)]
    return (
        _table(("", ""), [(name, escaped(value or _MISSING)) for name, value in rows])
        + "\n\nOptions that differ from the defaults:\n\n"
        + _table(("option", "value"), listed)
    )


def _chosen(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the options that decide the model and differ from the defaults, or that the preset decides."""
    defaults = Config().to_dict()
    preset = PRESETS.get(str(config.get("preset")), {})
    for name, value in config.items():
        if name not in _NOT_THE_MODEL and (value != defaults.get(name) or name in preset):
            yield name, value


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
