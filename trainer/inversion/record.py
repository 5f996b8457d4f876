"""The result of an inversion as JSON; with its noise and labels the images can be drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shards.core import text_files
from shards.core.atomic_io import sha256
from shards.core.errors import UserError
from shards.dataset.label_rows import Labels
from shards.dataset.schema import Schema
from trainer.inversion.search import Inversion

KIND = "cgan-trainer inversion"


def record(
    schema: Schema, found: Inversion, reached: Mapping[str, Sequence[Inversion]], changed: Mapping[str, Labels]
) -> dict[str, Any]:
    """Return the noise, the labels and the distances of an inversion.

    Args:
        schema: of the labels.
        found: of the image.
        reached: of the images that it is compared with.
        changed: labels by the phrases that changed them.
    """
    return {
        "kind": KIND,
        "noise": found.z.tolist(),
        **_plain(schema, found.label),
        **_distances(found),
        "references": {kind: [_distances(each) for each in inversions] for kind, inversions in reached.items()},
        "changes": [{"phrase": phrase, **_plain(schema, label)} for phrase, label in changed.items()],
    }


def require_free(panel: Path, image: Path) -> None:
    """Check that a panel and the .json next to it replace nothing but those of an earlier inversion of the image.

    Raises:
        UserError: they would replace the image, or something else.
    """
    notes = panel.with_suffix(".json")
    if image.resolve() in (panel.resolve(), notes.resolve()):
        raise UserError("output-exists", f"{image}: the result would replace the image itself; choose another --out")
    if not notes.exists():
        if panel.exists():
            raise UserError(
                "output-exists",
                f"{panel} exists and was not written by cgan invert; choose another --out (nothing was changed)",
            )
        return
    try:
        content = text_files.read_json(notes)
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(
            "output-exists",
            f"{notes} exists and was not written by cgan invert; choose another --out (nothing was changed)",
        )
    if image.is_file() and content.get("image_sha256") != sha256(image):
        raise UserError(
            "output-exists",
            f"{panel} was drawn from another image of the name {content.get('image')}; choose another --out (nothing "
            "was changed)",
        )


def _plain(schema: Schema, labels: Labels) -> dict[str, Any]:
    label, known = labels.label[0], labels.known[0]
    return {"words": schema.words(label, known), "label": label.tolist(), "known": known.astype(int).tolist()}


def _distances(found: Inversion) -> dict[str, float | int | None]:
    return {
        "psnr": round(found.psnr, 3),
        "nearest_random_psnr": round(found.nearest_psnr, 3),
        "feature_distance": None if found.feature_distance is None else round(found.feature_distance, 6),
        "steps_taken": found.steps,
    }
