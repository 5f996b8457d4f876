"""Where `cgan sample` writes: the ending of --out says whether that is a grid or a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.errors import raises
from trainer.sampling.command import SampleOptions, _checked_output


@pytest.mark.parametrize("name", ["images", "images.v2", "epoch.110000"])
def test_a_folder_may_have_a_dot_in_its_name(tmp_path: Path, name: str) -> None:
    asked = SampleOptions(run=tmp_path / "run", phrases=("red",))
    assert _checked_output(asked, tmp_path / name, is_grid=False) == tmp_path / name


@pytest.mark.parametrize("name", ["grid.jpg", "grid.WEBP", "grid.svg", "grid.pdf"])
def test_other_image_formats_are_refused(tmp_path: Path, name: str) -> None:
    asked = SampleOptions(run=tmp_path / "run", phrases=("red",))
    with raises("invalid-output-name", f"--out {tmp_path / name}", ".png"):
        _checked_output(asked, tmp_path / name, is_grid=False)
