"""What tests share: the checkout, real jobs, servers, clusters, and small datasets."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
