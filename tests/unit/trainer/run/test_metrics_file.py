"""metrics.jsonl: strict JSON, truncated by a resume, intact after a crash."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.core.errors import Failure
from support import ROOT
from support.errors import raises
from trainer.run import metrics_file
from trainer.run.metrics_file import MetricsFile, read


def refuse(name: str) -> float:
    raise AssertionError(f"{name} is not strict JSON")


@given(rows=st.lists(st.dictionaries(st.text(min_size=1), st.floats(width=64), max_size=4), max_size=6))
def test_rows_round_trip_and_every_line_is_strict_json(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, float]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    rows = [{key: value for key, value in row.items() if key != "images_seen"} for row in rows]
    with MetricsFile(path) as log:
        for number, row in enumerate(rows):
            log.write(number * 64, row)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    back = read(path)
    assert [row.pop("images_seen") for row in back] == [number * 64 for number in range(len(rows))]
    finite = [{key: value if math.isfinite(value) else math.nan for key, value in row.items()} for row in rows]
    assert str(back) == str(finite)  # as text, since NaN is not equal to itself


def test_accepts_numpy_and_torch_scalars(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with MetricsFile(tmp_path / "m.jsonl") as log:
        values: dict[str, Any] = {"a": np.float32(0.5), "b": torch.tensor(2.0), "c": np.float64("inf"), "d": 7}
        log.write(3, values)
    assert (tmp_path / "m.jsonl").read_text() == '{"images_seen": 3, "a": 0.5, "b": 2.0, "c": null, "d": 7}\n'


def test_incomplete_last_line_is_skipped_by_the_reader_and_removed_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"images_seen": 1, "a": 1.0}\n{"images_seen": 2, "a": 2.')
    assert read(path) == [{"images_seen": 1, "a": 1.0}]
    with MetricsFile(path) as log:
        log.write(2, {"a": 3.0})
    assert path.read_text() == '{"images_seen": 1, "a": 1.0}\n{"images_seen": 2, "a": 3.0}\n'


def test_resume_truncates_to_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with MetricsFile(path) as log:
        for seen in (64, 128, 192, 256):
            log.write(seen, {"a": seen / 3})
    lines = path.read_bytes().splitlines(keepends=True)
    with MetricsFile(path, keep_until=191) as log:
        log.write(192, {"a": 1.0})
    assert path.read_bytes() == b"".join(lines[:2]) + b'{"images_seen": 192, "a": 1.0}\n'
    MetricsFile(path, keep_until=0).close()
    assert read(path) == []
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]  # no temporary file is left


def test_file_without_later_rows_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with MetricsFile(path) as log:
        log.write(64, {"a": 1.0})
    before = path.stat().st_ino
    MetricsFile(path, keep_until=64).close()
    assert path.stat().st_ino == before


def test_rows_survive_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    script = (
        "import sys, os, signal; from pathlib import Path; from trainer.run.metrics_file import MetricsFile\n"
        "log = MetricsFile(Path(sys.argv[1]))\n"
        "for n in range(50): log.write(n, {'a': n / 7})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert read(path) == [{"images_seen": n, "a": n / 7} for n in range(50)]


def test_missing_files_and_invalid_lines_give_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl") == []
    path = tmp_path / "m.jsonl"
    path.write_text('[1]\n"x"\n{"a": 1}\n{"images_seen": true}\n\n{"images_seen": 5, "word": "x", "a": 1}\n\xff\n')
    assert read(path) == [{"images_seen": 5, "a": 1}]


def test_unwritable_file_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").mkdir()
    with raises("file-unreadable", "m.jsonl", kind=Failure):
        MetricsFile(tmp_path / "m.jsonl")


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a":' * 100_000, "x" * (3 << 20)])
def test_hostile_lines_give_no_rows_and_are_removed(tmp_path: Path, line: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f'{{"images_seen": 1, "a": 2}}\n{line}\n{{"images_seen": 3, "a": 1{"0" * 400}}}\n')
    assert read(path) == [{"images_seen": 1, "a": 2}]
    MetricsFile(path, keep_until=9).close()
    assert path.read_text() == '{"images_seen": 1, "a": 2}\n'


def test_numbers_of_every_row_fit_into_a_float(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f'{{"images_seen": 1, "a": {"9" * 300}, "b": 1e999}}\n')
    assert all(isinstance(float(value), float) for row in read(path) for value in row.values())


def test_pipe_is_named_in_the_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.jsonl")
    with raises("file-unreadable", "m.jsonl", kind=Failure):
        read(tmp_path / "m.jsonl")


def test_row_of_a_checkpoint_is_restored_once(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"images_seen": 16, "a": 1}\n{"images_seen": 48, "a": 3}\n')
    for _ in range(2):
        metrics_file.restore_row(path, 32, {"a": 2})
    assert [row["images_seen"] for row in read(path)] == [16, 32]
    metrics_file.restore_row(path, 64, {})
    assert len(read(path)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_raises(tmp_path: Path) -> None:
    log = MetricsFile(tmp_path / "m.jsonl")
    log._file.close()
    with Path("/dev/full").open("ab", buffering=0) as full:  # refuses every write: no space left
        log._file = full
        with raises("disk-full", kind=Failure):
            log.write(1, {"a": 1.0})


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    log = MetricsFile(tmp_path / "runs" / "new" / "m.jsonl")
    log.close()
    log.close()
