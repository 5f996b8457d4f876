"""The tutorial, as a newcomer walks through it: its commands in a shell, its page in a browser, and its notebook.

`docs/tutorial.ipynb` is committed without outputs, so none can be out of date; here it is run, and looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

import trainer
from support import ROOT
from support.browsers import require_chromium, screenshot_of
from support.documents import BLOCK_TIMEOUT, environment, run_all
from support.launching import copy_of_the_checkout, untracked
from trainer.run import evaluation_file, lineage
from trainer.run.redaction import public_evaluation

TUTORIAL, NOTEBOOK = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "tutorial.ipynb"
IMAGES = "total_images=6_000"  # of the notebook


@pytest.mark.long
@pytest.mark.timeout(3 * BLOCK_TIMEOUT)
def test_tutorial(tmp_path: Path) -> None:
    require_chromium()
    checkout = copy_of_the_checkout(tmp_path / "checkout")
    run_all(TUTORIAL, checkout)
    assert untracked(checkout) == []

    run, export = checkout / "runs" / "faces", checkout / "generators" / "faces"
    phrase = "blue hair, long hair"
    expected = trainer.load(run, device="cpu").sample(phrase, count=4)
    assert np.array_equal(trainer.load(export, device="cpu").sample(phrase, count=4), expected)
    seen, entry = evaluation_file.newest(run) or (0, {})
    assert evaluation_file.newest(export) == (seen, public_evaluation(entry)) and lineage.read(export)
    assert entry["figures"]["fidelity/hair"] > 0.5, "hair colours are learned first; guessing is right in 8 %"

    screenshot_of(run / "playground.html", tmp_path / "page.png", tmp_path / "profile")
    with Image.open(tmp_path / "page.png") as image:
        assert_is_drawn(image)


def assert_is_drawn(image: Image.Image) -> None:
    """Assert that an image is neither blank nor two colours of text on a background."""
    colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3) // 16, axis=0)
    assert len(colours) > 200, f"{len(colours)} colours"  # the page without its drawing has 75


def test_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.long
@pytest.mark.timeout(3 * BLOCK_TIMEOUT)
def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = copy_of_the_checkout(tmp_path / "checkout")
    own = {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"), "IPYTHONDIR": str(tmp_path / "ipython")}
    for name, value in (environment(checkout) | own).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(checkout / "docs" / NOTEBOOK.name, as_version=4)
    training = next(cell for cell in notebook.cells if IMAGES in cell.source)
    training.source = training.source.replace(IMAGES, "total_images=1_000")  # the tutorial's test trains the whole
    resources = {"metadata": {"path": str(checkout / "docs")}}
    NotebookClient(notebook, timeout=BLOCK_TIMEOUT, kernel_name="python3", resources=resources).execute()
    assert untracked(checkout) == []

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = {kind for cell in cells for output in cell.outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= shown
    text = {cell.source.partition("(")[0]: _text(cell) for cell in cells}
    assert "fidelity/hair" in text["evaluation = trainer.evaluate"]
    assert "True" in text["!cgan export runs/faces generators/faces --force\nelsewhere = trainer.load"]
    assert (checkout / "docs" / "playground.html").stat().st_size > 100_000


def _text(cell: Any) -> str:
    return "".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in cell.outputs)
