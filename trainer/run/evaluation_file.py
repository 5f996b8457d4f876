"""``RUN/evaluation.json``: results of a run's evaluations, by the images seen of the checkpoint.

    {"format_version": 1, "evaluations": {"101056": [{"date": …, "count": 5000, "figures": {"fid": 12.3, …},
      "real": {"fid": 1.9, …}, …}]}}

``figures`` are metrics of generated images; ``real`` are the same metrics of real images, where they exist: the values
that a perfect generator would have. An evaluation replaces an earlier one with the same options.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shards.core import file_lock, format_version, text_files
from shards.core.atomic_io import write_json
from shards.core.errors import Failure, UserError
from trainer.run import exported

FORMAT_VERSION = 1
_PATIENCE = 30.0  # seconds
# Evaluations that agree in these replace each other.
_SAME = ("metrics", "extractor", "other_extractors", "count", "seed", "data")


def path_of(run: Path) -> Path:
    """Return the path of a run's evaluations."""
    return run / "evaluation.json"


def read(run: Path) -> dict[int, list[dict[str, Any]]]:
    """Return all evaluations of a run by images seen, ascending; the newest of each checkpoint comes last.

    Raises:
        UserError: the file is damaged, or has a later format.
    """
    path = path_of(run)
    try:
        content = text_files.read_json(path)
        format_version.check(content, FORMAT_VERSION, f"{path} has format")
        found = {int(seen): list(entries) for seen, entries in content["evaluations"].items()}
        for entry in (entry for entries in found.values() for entry in entries):
            _check(entry)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("file-damaged", f"{path} is damaged ({error}); move it away and evaluate again") from None
    return dict(sorted(found.items()))


def _check(entry: Any) -> None:
    """Raise ValueError unless the entries that a report shows have their types."""
    for part in ("figures", "real"):
        values = entry.get(part, None if part == "figures" else {})
        if not isinstance(values, dict) or not all(v is None or isinstance(v, int | float) for v in values.values()):
            raise ValueError(f"an evaluation whose {part} are not numbers by name")
    for part in ("notes", "pictures"):
        texts = entry.get(part, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"an evaluation whose {part} are not a list of texts")
    marks = entry.get("marks", {})
    if not isinstance(marks, dict) or not all(isinstance(mark, str) for each in marks.values() for mark in each):
        raise ValueError("an evaluation whose marks are not lists of names by figure")
    if not all(isinstance(entry.get(name, 0), int) for name in ("count", "compared", "seed")):
        raise ValueError("an evaluation whose counts are not numbers")
    for extractor in (entry.get("extractor"), *(entry.get("other_extractors") or ())):
        if extractor is not None and not (isinstance(extractor, dict) and isinstance(extractor.get("name"), str)):
            raise ValueError("an evaluation whose extractor has no name")
    for judge in (entry.get("judge"), entry.get("second_judge")):
        if judge is not None and not (isinstance(judge, dict) and isinstance(judge.get("data", ""), str)):
            raise ValueError("an evaluation whose judge is not described")


def extractors(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the networks whose features an evaluation compared images by, the one of plain keys first."""
    first = entry.get("extractor")
    return [*([first] if first else []), *(entry.get("other_extractors") or [])]


def check_writable(run: Path) -> None:
    """Check that an evaluation can be stored, before time is spent on it.

    Raises:
        UserError, Failure: see `add`.
    """
    with _exclusive(run):
        read(run)


def add(run: Path, images_seen: int, entry: Mapping[str, Any]) -> None:
    """Store an evaluation of the checkpoint at ``images_seen``.

    Args:
        run: the run directory, or the folder of an exported generator.
        images_seen: names the checkpoint.
        entry: plain values with "figures"; replaces an earlier entry with the same options.

    Raises:
        UserError: the file is damaged, or another process is writing it.
        Failure: the file cannot be written.
    """
    with _exclusive(run):
        found = read(run)
        kept = [e for e in found.get(images_seen, []) if any(e.get(key) != entry.get(key) for key in _SAME)]
        found[images_seen] = [*kept, dict(entry)]
        with exported.changing_record(run, path_of(run).name):
            write(run, found)


def write(run: Path, evaluations: Mapping[int, list[dict[str, Any]]]) -> None:
    """Replace all evaluations of a run by these, by images seen.

    Raises:
        Failure: the file cannot be written.
    """
    entries = {str(seen): evaluations[seen] for seen in sorted(evaluations)}
    write_json(path_of(run), {"format_version": FORMAT_VERSION, "evaluations": entries})


@contextlib.contextmanager
def _exclusive(run: Path) -> Iterator[None]:
    """Lock out other evaluations; wait for one that is writing, as an evaluation may have taken an hour."""
    busy = f"{path_of(run)} is being written by another evaluation; run this one again"
    end = time.monotonic() + _PATIENCE
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(file_lock.locked(run / ".evaluation.lock", busy))
                break
            except UserError as error:
                if isinstance(error, Failure) or time.monotonic() > end:
                    raise
                time.sleep(0.1)
        yield


def newest(run: Path) -> tuple[int, dict[str, Any]] | None:
    """Return the images seen and the last evaluation of the latest evaluated checkpoint; None if there is none.

    Raises:
        UserError: see `read`.
    """
    found = read(run)
    seen = max((seen for seen, entries in found.items() if entries), default=None)
    return None if seen is None else (seen, found[seen][-1])
