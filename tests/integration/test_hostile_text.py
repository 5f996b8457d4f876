"""Hostile YAML, JSON and tables in the place of every file that is read: one sentence or a value, within seconds."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.schema import Schema
from shards.packing.labels import synonyms
from shards.packing.pack import Pack, pack
from support.source_files import png_bytes
from trainer import config
from trainer.generation.prompts import read_vocabulary
from trainer.reporting.comparison import read_runs
from trainer.reporting.run_report import write_report
from trainer.run import checkpoint, evaluation_file, metrics_file
from trainer.run.directory import RunDirectory
from trainer.run.lock import RunLock

LAUGHS = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))

TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "a null byte": b"\0",
    "no text": bytes(range(256)) * 9,
    "a number": b"7",
    "a list": b"[1, 2]",
    "an object": b'{"a": {"b": [null, true]}}',
    "nulls": b'{"images_seen": null, "attributes": null, "format_version": null, "pid": null, "host": null}',
    "lists as values": b'{"images_seen": [], "attributes": [[]], "format_version": [], "pid": [], "batch": []}',
    "objects as values": b'{"images_seen": {}, "attributes": {}, "format_version": {}, "pid": {}, "batch": {}}',
    "long words as values": b'{"images_seen": "%b", "format_version": "%b"}' % ((b"x" * 100_000,) * 2),
    "long keys": b'{"%b": 1}' % (b"k" * 100_000),
    "large numbers": b'{"images_seen": 1%b, "format_version": 1%b, "batch": 1%b}' % ((b"0" * 400,) * 3),
    "infinite numbers": b'{"images_seen": 1e999, "format_version": -1e999, "pid": 1e999, "batch": 1e999}',
    "no numbers": b'{"images_seen": NaN, "format_version": NaN, "batch": NaN, "host": "x", "pid": NaN}',
    "brackets": b"[" * 100_000,
    "braces": b"{" * 100_000,
    "objects without end": b'{"a":' * 100_000,
    "closed brackets": b"[" * 5000 + b"]" * 5000,
    "aliases that multiply": LAUGHS.encode(),
    "aliases of options": b"n: &n [1]\n" + b"batch: *n\n",
    "a value that contains itself": b"attributes: &a [*a]\nbatch: &b [*b]",
    "merge keys that multiply": b"a: &a {x: 1}\n" + b"".join(b"b%d: {<<: [*a, *a]}\n" % n for n in range(9)),
    "half a surrogate pair": b'{"host": "\\ud800", "pid": 1, "attributes": [{"name": "\\ud800", "kind": "tag"}]}',
    "commas": b"," * 1_000_000,
    "columns": b",".join(b"c%d" % n for n in range(20_000)),
    "an open quote": b'id,tags\n1,"' + b"a" * 200_000,
    "long lines": b"x" * 3_000_000 + b"\ny",
    "many short lines": b"1\n" * 100_000,
}


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained_run, tmp_path / "run")


def lock(path: Path) -> None:
    with RunLock(path.parent):
        pass


def pack_with_table(path: Path) -> None:
    (path.parent / "1.png").write_bytes(png_bytes())
    pack(Pack(src=path.parent, out=path.parent.parent / "out", size=8, workers=1))


# By what is read: the name of the file in a run directory, a dataset or a folder, and a reader of its path.
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "--config": ("options.yaml", lambda path: config.load(["--config", str(path)])),
    "--schema": ("schema.yaml", Schema.load),
    "--aliases": ("aliases.yaml", synonyms.load),
    "options of a run, compared": ("config.yaml", lambda path: read_runs([path.parent])),
    "options of a run, reported": ("config.yaml", lambda path: write_report(path.parent)),
    "options of a run, resumed": ("config.yaml", lambda path: RunDirectory(path.parent).saved_order()),
    "metrics of a run, reported": ("metrics.jsonl", lambda path: write_report(path.parent)),
    "metrics of a run, resumed": ("metrics.jsonl", lambda path: metrics_file.MetricsFile(path, 64).close()),
    "evaluations of a run": ("evaluation.json", lambda path: evaluation_file.read(path.parent)),
    "schema of a run": ("schema.json", lambda path: read_vocabulary(path.parent)),
    "lock of a run": ("lock.json", lock),
    "mark of the best": ("checkpoints/best.json", lambda path: checkpoint.read_best(path.parent.parent)),
    "state of a checkpoint": (f"checkpoints/{64:012d}/state.json", lambda path: checkpoint.find(path.parents[2])),
    "manifest of a dataset": ("data/manifest.json", lambda path: Dataset.open(path.parent)),
    "table of tags": ("images/tags.csv", pack_with_table),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_answers_every_text(reader: str, run: Path) -> None:
    name, read = READERS[reader]
    path = run / name
    path.parent.mkdir(exist_ok=True)
    for kind, text in TEXTS.items():
        path.write_bytes(text)
        start = time.process_time()
        try:
            with contextlib.suppress(UserError):
                read(path)
        except Exception as error:
            raise AssertionError(f"{reader}: {kind}") from error
        assert time.process_time() - start < 10, f"{reader}: {kind}"
        shutil.rmtree(run / "out", ignore_errors=True)


@pytest.mark.parametrize("reader", [name for name in READERS if name != "table of tags"])
def test_no_reader_waits_for_what_is_not_a_file(reader: str, run: Path) -> None:
    """A pipe would be waited for, and a device read until the memory is full."""
    name, read = READERS[reader]
    path = run / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    for target in (None, Path("/dev/zero"), path):
        os.mkfifo(path) if target is None else path.symlink_to(target)
        with contextlib.suppress(UserError, OSError):  # an OSError is printed with its path
            read(path)
        path.unlink(missing_ok=True)
