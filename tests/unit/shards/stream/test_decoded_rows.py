"""The file of decoded rows: what is in it is read or found damaged, whatever happens to the file or its processes."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.stream import decoded_rows
from shards.stream.decoded_rows import DecodedRows, file_size
from shards.stream.row_checksum import RowChecksum
from support.errors import assert_printed, codes

COUNT, SIZE = 700, 10
WIDTH = SIZE * SIZE * 3
TABLE = file_size(COUNT, 0)
SAMPLES = np.array([5, 699, 0, 8])


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (len(SAMPLES), SIZE, SIZE, 3), np.uint8)


@pytest.fixture
def rows(tmp_path: Path, pixels: np.ndarray) -> DecodedRows:
    """A file with the rows of `SAMPLES`."""
    rows = opened(tmp_path)
    rows.write(SAMPLES, pixels)
    return rows


def opened(folder: Path, key: bytes = b"key") -> DecodedRows:
    return DecodedRows(folder / "file", COUNT, WIDTH, key)


def read(rows: DecodedRows, samples: Any = SAMPLES) -> tuple[list[bool], np.ndarray]:
    out = np.full((len(samples), SIZE, SIZE, 3), 7, np.uint8)
    return rows.read(np.asarray(samples), out).tolist(), out


def test_rows_are_found_by_every_process_that_has_the_file(rows: DecodedRows, pixels: np.ndarray) -> None:
    for reader in (rows, opened(rows.path.parent), pickle.loads(pickle.dumps(rows))):
        found, out = read(reader)
        assert found == [True] * 4 and np.array_equal(out, pixels)
        found, out = read(reader, [1, 8, 698, 5])
        assert found == [False, True, False, True] and np.array_equal(out[[1, 3]], pixels[[3, 0]])
        assert reader.filled == 4


def test_rows_of_other_pixels_are_not_found(rows: DecodedRows) -> None:
    assert read(opened(rows.path.parent, b"other"))[0] == [False] * 4


@pytest.mark.parametrize("size", [1, 3, 4])
@settings(max_examples=30)
@given(data=st.data())
def test_every_change_of_a_row_changes_its_checksum(size: int, data: st.DataObject) -> None:
    width = size * size * 3
    checksum = RowChecksum(b"key", width)
    row = np.frombuffer(data.draw(st.binary(min_size=width, max_size=width)), np.uint8)[None]
    other = row.copy()
    for at in data.draw(st.lists(st.integers(0, width - 1), min_size=1)):
        other[0, at] ^= data.draw(st.integers(1, 255))
    one, two = np.array([3]), np.array([4])
    assert np.array_equal(row, other) == (checksum(row, one) == checksum(other, one))
    assert checksum(row, one) != checksum(row, two)


@pytest.mark.parametrize("width", [300, 303])
def test_no_weight_of_a_checksum_is_even(width: int) -> None:
    """An even weight forgets the highest bit of a sum, and so makes checksums of different rows equal more often."""
    zeros, number = np.zeros((1, width), np.uint8), np.array([0])
    checksum = RowChecksum(b"key", width)
    words = 4 if width % 4 == 0 else 1
    for at in range(0, width, words):
        one = zeros.copy()
        one[0, at] = 1  # the word is 1, and the difference its weight
        assert (checksum(one, number) - checksum(zeros, number)) % 2 == 1, at


def corrupt(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("at", [0, 1, WIDTH // 2, WIDTH - 1])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_noticed_and_the_row_written_again(
    rows: DecodedRows, pixels: np.ndarray, at: int, bit: int
) -> None:
    place = TABLE + 699 * WIDTH + at
    corrupt(rows.path, place, bytes([rows.path.read_bytes()[place] ^ 1 << bit]))
    assert read(rows)[0] == [True, False, True, True]
    rows.write(SAMPLES[1:2], pixels[1:2])
    assert read(rows)[0] == [True] * 4


def test_a_flipped_checksum_a_lost_page_and_a_row_in_the_wrong_place_are_noticed(rows: DecodedRows) -> None:
    whole = rows.path.read_bytes()
    corrupt(rows.path, 8 * 0, b"\1")  # of sample 0
    corrupt(rows.path, 8 * 1, b"\1")  # of a sample without a row
    corrupt(rows.path, TABLE + 699 * WIDTH, bytes(WIDTH))
    corrupt(rows.path, 8 * 8, whole[8 * 5 : 8 * 6])  # sample 5 in the place of sample 8
    corrupt(rows.path, TABLE + 8 * WIDTH, whole[TABLE + 5 * WIDTH : TABLE + 6 * WIDTH])
    assert read(rows, [5, 699, 0, 8, 1])[0] == [True, False, False, False, False]


@pytest.mark.parametrize("size", [0, 100, TABLE, TABLE + 6 * WIDTH, file_size(COUNT, WIDTH) - 1])
def test_a_truncated_file_loses_only_what_was_cut(rows: DecodedRows, pixels: np.ndarray, size: int) -> None:
    os.truncate(rows.path, size)
    assert read(rows)[0] == [False] * 4, "a map beyond the end of its file would kill the process"
    rows.write(SAMPLES, pixels)
    again = opened(rows.path.parent)
    assert read(again)[0] == [s < (size - TABLE) // WIDTH for s in SAMPLES]
    again.write(SAMPLES, pixels)
    found, out = read(again)
    assert found == [True] * 4 and np.array_equal(out, pixels)


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_a_process_that_is_killed_while_it_writes_leaves_no_wrong_row(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Of each write, the process does half, and ends."""
    done = 0

    def killed(file: int, data: memoryview, at: int) -> int:
        nonlocal done
        done += 1
        if done > calls:
            real(file, data[: len(data) // 2], at)
            raise KeyboardInterrupt
        return real(file, data, at)

    real, rows = os.pwrite, opened(tmp_path)
    monkeypatch.setattr(os, "pwrite", killed)
    with pytest.raises(KeyboardInterrupt):
        rows.write(SAMPLES, pixels)
    found, out = read(opened(tmp_path))
    assert found == [number < calls // 2 for number in range(4)] and np.array_equal(out[found], pixels[found])


def test_a_removed_file_is_left_alone(rows: DecodedRows, pixels: np.ndarray) -> None:
    rows.path.unlink()
    assert read(rows)[0] == [False] * 4
    rows.write(SAMPLES, pixels)
    assert not rows.path.exists()
    rows.path.parent.rename(rows.path.parent.with_name("moved"))
    assert pickle.loads(pickle.dumps(rows)) is None, "a spawned worker decodes"


@pytest.mark.parametrize("full", ["pwrite", "fstatvfs"])
def test_a_full_disk_ends_the_cache_with_one_warning(
    rows: DecodedRows, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], full: str
) -> None:
    other = opened(rows.path.parent)
    monkeypatch.setenv("RANK", "1")

    def fail(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if full == "pwrite":
        monkeypatch.setattr(os, "pwrite", fail)
    else:
        monkeypatch.setattr(decoded_rows, "_SPARE", 1 << 60)
        monkeypatch.setattr(os, "fstatvfs", lambda file: os.statvfs_result((4096, 4096, 1000, 10, 10, 0, 0, 0, 0, 0)))
    for each in (rows, other, rows):
        each.write(SAMPLES, pixels)
        assert read(each)[0] == [False] * 4
    assert not rows.path.exists(), "its space is free for checkpoints"
    printed = capfd.readouterr().err
    assert codes(printed) == ["decoded-cache-off"], "one warning, also from a rank that prints nothing else"
    assert_printed(printed, "decoded-cache-off", rows.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_really_full_disk_in_memory(tmp_path: Path, pixels: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    """Holes of files in memory are filled when a map reads them, which kills the process if the disk is full."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        rows = opened(tmp_path)
        rows.write(SAMPLES, pixels)
        (tmp_path / "checkpoint").write_bytes(bytes(4096 * (os.statvfs(tmp_path).f_bavail)))
        found, _ = read(rows, np.arange(COUNT))
        assert sum(found) == 4
        rows.write(SAMPLES, pixels)
        assert codes(capfd.readouterr().err) == ["decoded-cache-off"] and not rows.path.exists()
        del rows
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_files_of_others_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    (tmp_path / "file").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError):
        opened(tmp_path)
    assert (tmp_path / "mine").read_bytes() == b"precious"
    (tmp_path / "file").unlink()
    assert opened(tmp_path).path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(OSError, match="not a file of this user"):
        opened(tmp_path)
