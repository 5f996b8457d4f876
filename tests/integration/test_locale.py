"""Everything is UTF-8 whatever the locale says: names of files, words of commands, labels, runs; output never fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shards.dataset.dataset import Dataset
from support import ROOT
from support.source_files import png_files, write_files

WORDS = ("蓝发", "红发")


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the locales zh_CN.GBK and en_US.ISO-8859-1."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("needs localedef")
    for name, charset in (("zh_CN", "GBK"), ("en_US", "ISO-8859-1")):
        made = subprocess.run(
            ["localedef", "-i", name, "-f", charset, folder / f"{name}.{charset}"], capture_output=True
        )
        if made.returncode > 1:
            pytest.skip(f"localedef cannot make {name}.{charset}")
    return folder


def _run(*words: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    removed = ("LC_ALL", "LANG", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, env={**kept, **environment}, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "zh_CN.GBK"},
        {"LC_ALL": "en_US.ISO-8859-1"},
        pytest.param({"LC_ALL": "zh_CN.GBK", "PYTHONUTF8": "0"}, marks=pytest.mark.exhaustive),
        pytest.param({"LC_ALL": "C"}, marks=pytest.mark.exhaustive),
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"},
    ],
)
def test_names_and_labels_are_utf8_in_every_locale(tmp_path: Path, locales: Path, environment: dict[str, str]) -> None:
    rows = "".join(f"é{i},{WORDS[i % 2]}\n" for i in range(8))
    src = write_files(
        tmp_path / "图像", {**png_files(*(f"é{i}.png" for i in range(8))), "tags.csv": f"id,tags\n{rows}"}
    )
    chosen = {**environment, "LOCPATH": str(locales)}
    packed = _run("-m", "shards", "pack", src, tmp_path / "数据", "--workers", "2", "--size", "8", **chosen)
    assert packed.returncode == 0, packed.stderr.decode(errors="replace")
    dataset = Dataset.open(tmp_path / "数据")
    assert set(dataset.schema.values) == set(WORDS)
    assert len(dataset) == 8
    shown = _run("-m", "shards", "preview", src, **chosen)
    assert shown.returncode == 0
    if "PYTHONIOENCODING" not in environment:
        assert f"é0.png: {WORDS[0]}" in shown.stdout.decode()
    wrong = _run("-m", "shards", "pack", src, tmp_path / "b", "--labels", WORDS[0], **chosen)
    assert wrong.returncode == 2
    assert b"[invalid-value]" in wrong.stderr
    if "PYTHONIOENCODING" not in environment:
        assert WORDS[0] in wrong.stderr.decode()
