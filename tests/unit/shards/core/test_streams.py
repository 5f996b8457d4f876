"""Standard streams: full, closed, without a reader or without letters, they never raise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.core.errors import shortened
from support import ROOT
from support.errors import codes

PRINTS = """
import sys
from shards.core import streams
from shards.core.errors import UserError, exit_status

def work():
    if "optional" in sys.argv:
        streams.output_is_optional()
    print("é 蓝 \\ud800", "x" * 100_000)
    print("on stderr", file=sys.stderr)
    open("done", "w").close()
    if "mistake" in sys.argv:
        raise UserError("mistake", "a mistake")

sys.exit(exit_status(work))
"""


def shell(folder: Path, redirection: str, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program with redirected streams, and check that it did its work and printed no traceback."""
    (folder / "program.py").write_text(PRINTS, encoding="utf-8")
    line = f'"{sys.executable}" program.py {" ".join(words)} {redirection}'
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    ended = subprocess.run(["bash", "-c", line], cwd=folder, env=env, capture_output=True, check=False, timeout=60)
    assert (folder / "done").exists(), ended.stderr
    assert b"Traceback" not in ended.stderr + ended.stdout and b"Exception ignored" not in ended.stderr
    return ended


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_output_is_one_sentence_and_status_1(tmp_path: Path, unbuffered: str) -> None:
    ended = shell(tmp_path, ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert ended.returncode == 1
    assert codes(ended.stderr.decode()) == ["output-lost"]


def test_full_output_of_a_program_whose_result_is_elsewhere_is_a_warning(tmp_path: Path) -> None:
    ended = shell(tmp_path, ">/dev/full", "optional")
    assert ended.returncode == 0
    assert b"warning: " in ended.stderr


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_and_full_errors_do_not_matter(tmp_path: Path, redirection: str) -> None:
    assert shell(tmp_path, redirection).returncode == 0
    assert shell(tmp_path, redirection, "mistake").returncode == 2


def test_output_without_a_reader_is_status_141_without_a_word(tmp_path: Path) -> None:
    ended = shell(tmp_path, "| true; exit ${PIPESTATUS[0]}")
    assert ended.returncode == 141
    assert ended.stderr == b"on stderr\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_letters_that_a_stream_lacks_are_escaped(tmp_path: Path, encoding: str) -> None:
    ended = shell(tmp_path, "", PYTHONIOENCODING=encoding)
    assert ended.returncode == 0
    printed = ended.stdout.decode(encoding)
    assert "\\ud800" in printed
    assert ("蓝" if encoding == "utf-8" else "\\u84dd") in printed


def test_long_words_of_a_message_are_cut() -> None:
    assert len(shortened(f"the tag {'x' * 100_000!r} is repeated")) < 300
    assert len(shortened("a long tag " * 100_000)) < 11_000
    assert shortened("short; " * 20) == "short; " * 20


def test_trap_file_does_not_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    shell(tmp_path, ">&- 2>&-")
    assert (tmp_path / "done").read_bytes() == b""
