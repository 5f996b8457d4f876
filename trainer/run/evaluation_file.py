"""``RUN/evaluation.json``: what evaluations of a run found, by the checkpoint's images seen.

    {"format_version": 1, "evaluations": {"101056": [{"date": …, "count": 5000, "figures": {"fid": 12.3, …},
      "real": {"fid": 1.9, …}, …}]}}

``figures`` are of generated pictures; ``real`` are the same figures of real pictures, as far as there are any: what a
perfect generator would have. An evaluation replaces an earlier one that was asked for in the same way.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shards.core.atomic_io import file_lock, write_json
from shards.core.errors import Failure, UserError

FORMAT_VERSION = 1
_PATIENCE = 30.0  # seconds
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
        for entry in (entry for entries in found.values() for entry in entries):
            _check(entry)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); move it away and evaluate again") from None
    return dict(sorted(found.items()))


def _check(entry: Any) -> None:
    """Raise ValueError unless what is shown of an evaluation has the types that it should have."""
    for part in ("figures", "real"):
        values = entry.get(part, None if part == "figures" else {})
        if not isinstance(values, dict) or not all(v is None or isinstance(v, int | float) for v in values.values()):
            raise ValueError(f"an evaluation whose {part} are no numbers by name")
    for part in ("notes", "pictures"):
        texts = entry.get(part, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"an evaluation whose {part} are no list of texts")
    if not all(isinstance(entry.get(name, 0), int) for name in ("count", "compared", "seed")):
        raise ValueError("an evaluation whose counts are no numbers")
    extractor = entry.get("extractor")
    if extractor is not None and not (isinstance(extractor, dict) and isinstance(extractor.get("name"), str)):
        raise ValueError("an evaluation whose extractor has no name")


def ready(run: Path) -> None:
    """Make sure that an evaluation can be kept, before any time is spent on it.

    Raises:
        UserError, Failure: see `add`.
    """
    with _alone(run):
        read(run)


def add(run: Path, images_seen: int, entry: Mapping[str, Any]) -> None:
    """Keep an evaluation of the checkpoint of that moment.

    Args:
        entry: plain values with "figures"; those of an entry that say how it was asked for decide what it replaces.

    Raises:
        UserError: the file is damaged, or being written by another process.
        Failure: it cannot be written.
    """
    with _alone(run):
        found = read(run)
        kept = [e for e in found.get(images_seen, []) if any(e.get(key) != entry.get(key) for key in _SAME)]
        found[images_seen] = [*kept, dict(entry)]
        entries = {str(seen): found[seen] for seen in sorted(found)}
        write_json(path_of(run), {"format_version": FORMAT_VERSION, "evaluations": entries})


@contextlib.contextmanager
def _alone(run: Path) -> Iterator[None]:
    """No other evaluation writes meanwhile; one that does is soon done, and what took an hour is not thrown away."""
    busy = f"{path_of(run)} is being written by another evaluation; run this one again"
    end = time.monotonic() + _PATIENCE
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(file_lock(run / ".evaluation.lock", busy))
                break
            except UserError as error:
                if isinstance(error, Failure) or time.monotonic() > end:
                    raise
                time.sleep(0.1)
        yield


def newest(run: Path) -> tuple[int, dict[str, Any]] | None:
    """Images seen and the last evaluation of the latest checkpoint that was evaluated; None if none was.

    Raises:
        UserError: see `read`.
    """
    found = read(run)
    seen = max((seen for seen, entries in found.items() if entries), default=None)
    return None if seen is None else (seen, found[seen][-1])
