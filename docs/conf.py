"""Build the documentation site: `make docs` writes it to build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import shards  # noqa: E402

project = "cgan-trainer"
author = "The cgan-trainer authors"
copyright = "2026, the cgan-trainer authors"
release = version = shards.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["images"]
html_theme = "furo"
html_title = "cgan-trainer"

# The pages are read on GitHub too: plain Markdown, mermaid fences, and GitHub's anchors of headings.
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
