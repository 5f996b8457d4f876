"""``RUN/evaluation.json``: what evaluations of a run found, by the checkpoint's images seen.

    {"format_version": 1, "evaluations": {"101056": [{"date": …, "count": 5000, "figures": {"fid": 12.3, …},
      "real": {"fid": 1.9, …}, …}]}}

``figures`` are of generated pictures; ``real`` are the same figures of real pictures, as far as there are any: what a
perfect generator would have. An evaluation replaces an earlier one that was asked for in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shards.errors import UserError
from shards.files import locked, write_json

FORMAT_VERSION = 1
_SAME = ("metrics", "extractor", "count", "seed", "data")  # what makes two evaluations of a checkpoint the same


def path_of(run: Path) -> Path:
    """Where a run's evaluations are kept."""
    return run / "evaluation.json"


def read(run: Path) -> dict[int, list[dict[str, Any]]]:
    """All evaluations of a run, by images seen, ascending; the newest of a checkpoint is the last. A run may have none.

    Raises:
        UserError: the file is damaged, or of a later format.
    """
    path = path_of(run)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format_version"] > FORMAT_VERSION:
            raise UserError(f"{path} has format {content['format_version']}, this version reads up to {FORMAT_VERSION}")
        found = {int(seen): list(entries) for seen, entries in content["evaluations"].items()}
        if not all(isinstance(e.get("figures"), dict) for entries in found.values() for e in entries):
            raise ValueError("an evaluation without figures")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); move it away and evaluate again") from None
    return dict(sorted(found.items()))


def add(run: Path, images_seen: int, entry: Mapping[str, Any]) -> None:
    """Keep an evaluation of the checkpoint of that moment.

    Args:
        entry: plain values with "figures"; those of an entry that say how it was asked for decide what it replaces.

    Raises:
        UserError: the file is damaged, or being written by another process.
        Failure: it cannot be written.
    """
    with locked(run / ".evaluation.lock", f"{path_of(run)} is being written by another evaluation; run this one again"):
        found = read(run)
        kept = [e for e in found.get(images_seen, []) if any(e.get(key) != entry.get(key) for key in _SAME)]
        found[images_seen] = [*kept, dict(entry)]
        entries = {str(seen): found[seen] for seen in sorted(found)}
        write_json(path_of(run), {"format_version": FORMAT_VERSION, "evaluations": entries})


def newest(run: Path) -> tuple[int, dict[str, Any]] | None:
    """Images seen and the last evaluation of the latest checkpoint that was evaluated; None if none was.

    Raises:
        UserError: see `read`.
    """
    found = read(run)
    seen = max((seen for seen, entries in found.items() if entries), default=None)
    return None if seen is None else (seen, found[seen][-1])
