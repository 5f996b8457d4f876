"""Measure whether visible attributes are still obeyed among many that images do not show.

    python benchmarks/studies/many_attributes.py --out DIR [--attributes 3,30,300] [--seeds 1] [--images 20000]
        [--options "--wrong sample"]

The example faces show three attributes: hair colour, hair length and eye colour. Further attributes are drawn at
random, so that no image shows them: half of them exclusive columns of 2 to 12 values, half tags that between 2 and 50 %
of the images have. All runs have the same options. A judge trained on the dataset of three attributes then says, for
every checkpoint, in how many generated images each of the three is right. Existing datasets, runs and results are
reused: re-run the same command to resume.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

# When run as a script, Python searches the script's directory for modules, not the repository nor the benchmarks.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from questions.judging import checkpoints
from questions.training import train

import shards
from shards.core import cli, rng
from shards.core.atomic_io import write_json
from shards.core.cli import option
from shards.core.errors import UserError, exit_status
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import Labels, sample_rows
from shards.examples.faces import EYES, HAIR, Faces, faces
from trainer.evaluation.judge.judge import Judge, judge_of
from trainer.evaluation.metrics.label_accuracy import label_accuracy
from trainer.generation.sampler import load
from trainer.presets import PRESETS

VISIBLE: tuple[dict[str, Any], ...] = (
    {"name": "hair", "kind": "exclusive", "values": [f"{colour} hair" for colour in HAIR]},
    {"name": "length", "kind": "exclusive", "values": ["long hair", "short hair", "tied hair"]},
    {"name": "eyes", "kind": "exclusive", "values": [f"{colour} eyes" for colour in EYES]},
)

Accuracy = dict[str, float]  # fraction right, by visible attribute


@dataclass(frozen=True)
class ManyOptions:
    """Train on the same faces with few and with many attributes, and compare how visible ones are obeyed."""

    out: Path = option(Path("runs/many-attributes"), "output folder; existing datasets and runs are reused")
    attributes: tuple[int, ...] = option((3, 30, 300), "attributes of each dataset, three of them visible")
    seeds: int = option(1, "runs per dataset, with seeds 0, 1, …", minimum=1)
    images: int = option(20_000, "training images per run", minimum=1)
    every: int = option(10_000, "images between two checkpoints, each of which is judged", minimum=1)
    faces: int = option(6_000, "number of faces in the datasets", minimum=400)
    size: int = option(32, "height and width of the faces in pixels", minimum=16)
    preset: str = option("faces32", "preset of all runs", choices=tuple(PRESETS))
    options: str = option("", "further options of all runs, such as '--wrong sample'; they become part of the names")
    count: int = option(2_000, "images generated per checkpoint for the judge", minimum=1)

    def __post_init__(self) -> None:
        """Validate the values."""
        cli.validate(self)
        if min(self.attributes, default=0) < len(VISIBLE):
            raise UserError("invalid-value", f"--attributes: each dataset has at least the {len(VISIBLE)} visible ones")

    def data(self, attributes: int) -> Path:
        """Return the folder of a dataset."""
        return self.out / "data" / str(attributes)

    def run(self, attributes: int, seed: int) -> Path:
        """Return the directory of a run."""
        words = "".join(letter if letter.isalnum() or letter in ".-" else " " for letter in self.options).split()
        return self.out / "runs" / "_".join([str(attributes), *words, str(seed)])


# ---------------------------------------------------------------- datasets


def make(asked: ManyOptions) -> None:
    """Draw the faces, and pack the datasets that do not exist."""
    drawn = asked.out / "faces"
    if not drawn.exists():
        faces(Faces(out=drawn, count=asked.faces, size=asked.size))
    with (drawn / "tags.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["id"], row["tags"]) for row in csv.DictReader(file)]
    for attributes in dict.fromkeys((len(VISIBLE), *asked.attributes)):
        if not asked.data(attributes).exists():
            _pack(drawn, asked.data(attributes), rows, attributes - len(VISIBLE), asked.size)
        there = Dataset.open(asked.data(attributes))
        if (len(there), there.size) != (asked.faces, asked.size):
            raise UserError(
                "wrong-dataset",
                f"{there.where} holds {len(there):,} faces of {there.size} pixels, not {asked.faces:,} of "
                f"{asked.size}; use those numbers, or give another --out",
            )


def _pack(drawn: Path, out: Path, rows: list[tuple[str, str]], invisible: int, size: int) -> None:
    """Pack the images with their tags and those of invisible attributes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    added = [invisible_attribute(number, len(rows)) for number in range(invisible)]
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        source = Path(folder)
        shutil.copytree(drawn / "images", source / "images", copy_function=os.link)
        shutil.copy(drawn / "source.json", source)  # the licence
        with (source / "tags.csv").open("w", newline="", encoding="utf-8") as file:
            tags = csv.writer(file, lineterminator="\n")
            tags.writerow(["id", "tags"])
            for row, (name, words) in enumerate(rows):
                tags.writerow([name, ", ".join([words, *(found[row] for _, found in added if found[row])])])
        schema = {"attributes": [*VISIBLE, *(attribute for attribute, _ in added)]}
        (source / "schema.yaml").write_text(json.dumps(schema))  # JSON is YAML
        shards.pack(source, out, size=size, schema=source / "schema.yaml", name="faces", yes=True)


def invisible_attribute(number: int, images: int) -> tuple[dict[str, Any], list[str]]:
    """Return an attribute that images do not show, and the tag that each image has of it ("" if none).

    Args:
        number: of the attribute; even ones are exclusive, odd ones are tags.
        images: how many there are.
    """
    draws = rng.bits(rng.key(number, "an invisible attribute"), np.arange(images, dtype=np.int64))
    if number % 2:
        tag, percent = f"tag {number}", 2 + number // 2 % 49
        return {"name": tag, "kind": "tag", "values": [tag]}, np.where(
            rng.below(100, draws) < percent, tag, ""
        ).tolist()
    values = [f"column {number} value {value}" for value in range(2 + number // 2 % 11)]
    column = {"name": f"column {number}", "kind": "exclusive", "values": values}
    return column, [values[value] for value in rng.below(len(values), draws)]


# ---------------------------------------------------------------- runs


def train_one(asked: ManyOptions, attributes: int, seed: int) -> None:
    """Train one run to its end; do nothing if it is complete."""
    words = ["--preset", asked.preset, "--shards", asked.data(attributes), "--seed", seed]
    words += ["--checkpoint-every", asked.every, "--keep", 1000, *shlex.split(asked.options)]
    train(asked.run(attributes, seed), asked.images, words)


def judge_run(asked: ManyOptions, judge: Judge, attributes: int, seed: int) -> dict[int, Accuracy]:
    """Judge every checkpoint of a run; store the results next to it, and reuse them.

    Images are drawn for whole labels of the run's own dataset, and judged by the visible attributes.
    """
    run = asked.run(attributes, seed)
    kept = run.with_name(f"{run.name}.{asked.count}.json")
    known = {int(seen): row for seen, row in json.loads(kept.read_text()).items()} if kept.exists() else {}
    few, many = (Dataset.open(asked.data(number)) for number in (len(VISIBLE), attributes))
    rows = sample_rows(len(few), asked.count, 1, "what the judge asks for")
    labels, visible = (
        Labels(np.asarray(data.labels[rows], np.float32), np.asarray(data.known[rows], bool)) for data in (many, few)
    )
    found = {}
    for seen in checkpoints(run):
        if seen not in known:
            images = load(run, str(seen), device="cpu").generate(labels, seed=1)
            accuracy = label_accuracy(judge.schema, judge.logits(images), *visible)
            known[seen] = {attribute.name: attribute.tally.fraction for attribute in accuracy.attributes}
        found[seen] = known[seen]
    write_json(kept, found)
    return found


def table(results: dict[int, list[dict[int, Accuracy]]], real: Accuracy) -> Iterator[str]:
    """Return the lines of a Markdown table: one row per dataset and checkpoint, means over the seeds in percent.

    Args:
        results: of each seed, by number of attributes.
        real: the judge's accuracy on real images that it did not learn from.
    """
    names = list(real)
    yield f"| attributes | images seen | seeds | {' | '.join(f'{name}, %' for name in names)} |"
    yield "|---" * (3 + len(names)) + "|"
    for attributes, runs in results.items():
        for seen in sorted(set.intersection(*map(set, runs))):
            means = (np.mean([run[seen][name] for run in runs]) for name in names)
            yield f"| {attributes} | {seen:,} | {len(runs)} | {' | '.join(f'{100 * mean:.1f}' for mean in means)} |"
    yield f"| *real images* | | | {' | '.join(f'{100 * real[name]:.1f}' for name in names)} |"


def main(argv: Sequence[str]) -> None:
    """Run the study."""
    asked = cli.parse(ManyOptions, argv, command="python benchmarks/studies/many_attributes.py")
    torch.set_num_threads(1)
    make(asked)
    judge = judge_of(Dataset.open(asked.data(len(VISIBLE))), cache=asked.out / "judge")
    real = {attribute.name: attribute.tally.fraction for attribute in judge.accuracy.attributes}
    results: dict[int, list[dict[int, Accuracy]]] = {}
    for seed in range(asked.seeds):
        for attributes in asked.attributes:
            train_one(asked, attributes, seed)
            results.setdefault(attributes, []).append(judge_run(asked, judge, attributes, seed))
            print("\n".join(table({attributes: results[attributes]}, real)), flush=True)
    print("\n".join(["", *table(results, real)]))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
