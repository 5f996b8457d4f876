"""The command `cgan push RUN user/name`: send a generator with its model card to the Hugging Face Hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from shards.core import cli
from shards.core.cli import argument, flag, option
from shards.core.errors import Failure, UserError
from shards.core.version import __version__
from trainer import metric_names
from trainer.export.folder import describe, write_folder
from trainer.export.model_card import MARK, Facts, write_card
from trainer.export.records import public_records
from trainer.export.secrets import check_no_secrets
from trainer.generation import image_grid
from trainer.generation.sampler import Sampler, load
from trainer.generation.showcase import showcase
from trainer.reporting.curves import curves, training_seconds
from trainer.run import hub, metrics_file

_ROWS, _COLUMNS = 8, 8
_EXHIBITS = 4  # at most, of those that `cgan exhibits` drew
_CARD, _GRID = "README.md", "grid.png"


@dataclass(frozen=True)
class PushOptions:
    """Send a generator to the Hugging Face Hub, with a model card that is written from what the run recorded."""

    run: Path = argument("run directory, or the folder of an exported generator")
    repository: str = argument("repository at the Hub, user/name; it is created if it does not exist")
    checkpoint: str | None = option(None, "images seen of the checkpoint to send, or best (default: the newest)")
    licence: str | None = option(
        None, "licence of the generator, as an identifier of the Hub such as cc0-1.0 (default: none is stated)"
    )
    private: bool = option(False, "make a new repository private")
    force: bool = option(False, "replace a model card that this command did not write")
    card_only: bool = option(False, "print the model card; nothing is sent")

    def __post_init__(self) -> None:
        """Check every value."""
        cli.validate(self)
        hub.check_repository(self.repository)
        if self.licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,40}", self.licence):
            raise UserError("invalid-value", f"{flag('licence')} {self.licence!r}: give an identifier such as cc0-1.0")


def main(argv: Sequence[str]) -> None:
    """Run `cgan push`.

    Raises:
        UserError: there is no such run or checkpoint, or the Hub refuses access; nothing was sent.
        Failure: the Hub does not answer.
    """
    options = cli.parse(PushOptions, argv, command="cgan push")
    if not options.card_only:
        hub.require_package()
    source = hub.located(options.run)
    sampler = load(source, options.checkpoint, device="cpu")
    if options.card_only:
        print(write_card(_facts(options, sampler, source, [])), end="")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "export"
        write_folder(sampler, source, folder)
        images = _write_images(sampler, source, folder)
        (folder / _CARD).write_text(write_card(_facts(options, sampler, source, images)), "utf-8")
        print(f"sent to {_send(folder, options, sampler.saved.images_seen)}")


def _facts(options: PushOptions, sampler: Sampler, source: Path, images: list[tuple[str, str]]) -> Facts:
    records = public_records(source, sampler.saved)
    speeds = curves(
        row
        for row in metrics_file.rows(source / "metrics.jsonl")
        if row[metric_names.CLOCK] <= sampler.saved.images_seen
    )
    speed = speeds.get(metric_names.SPEED)
    return Facts(
        name=options.repository,
        content=describe(sampler, source),
        schema=sampler.schema,
        example=_example(sampler),
        licence=options.licence,
        evaluation=records.evaluation,
        influences=records.influences or (),
        seconds=training_seconds(speed) if speed else 0.0,
        images=images,
    )


def _example(sampler: Sampler) -> str:
    """Return a phrase: the first value of at most two attributes."""
    words = [attribute.values[0] for attribute in sampler.schema.attributes if attribute.values]
    return ", ".join(words[:2]) or "anything"


def _write_images(sampler: Sampler, source: Path, folder: Path) -> list[tuple[str, str]]:
    """Draw a grid, copy the first exhibits by name, and return their names with captions."""
    count = max(_ROWS * _COLUMNS, len(sampler.vocabulary.labels.label))
    labels, titles = showcase(sampler.schema, sampler.labels_for("anything", count), _ROWS, _COLUMNS)
    image_grid.save(image_grid.grid(sampler.generate(labels), _COLUMNS, row_titles=titles), folder / _GRID)
    found = [(_GRID, "One row per label, one column per noise")]
    for path in sorted((source / "exhibits").glob("*.png"))[:_EXHIBITS]:
        with Image.open(path) as image:
            image_grid.save(image.convert("RGB"), folder / path.name)  # without what else the file may hold
        found.append((path.name, path.stem.replace("-", " ")))
    return found


def _send(folder: Path, options: PushOptions, images_seen: int) -> str:
    """Create the repository if necessary, upload the folder as one commit, and return its address."""
    from huggingface_hub import HfApi, errors, get_token

    check_no_secrets(folder, get_token())
    api = HfApi(library_name=hub.LIBRARY, library_version=__version__)
    shown = f"hf://{options.repository}"
    try:
        api.create_repo(options.repository, private=options.private or None, exist_ok=True)
        if not options.force and not _card_is_ours(options.repository):
            raise UserError(
                "output-exists",
                f"{shown} has a {_CARD} that this command did not write; add --force to replace it (the Hub keeps the "
                "earlier one in its history)",
            )
        api.upload_folder(
            repo_id=options.repository,
            folder_path=folder,
            commit_message=f"Generator at {images_seen:,} images seen (cgan-trainer {__version__})",
        )
    except errors.HfHubHTTPError as error:
        raise hub.http_failure(shown, error) from None
    except (*hub.network_errors(), ValueError) as error:
        raise Failure("hub-failed", f"{shown}: the upload failed ({type(error).__name__}); try again") from None
    return shown


def _card_is_ours(repository: str) -> bool:
    """Return whether the card in a repository, if there is one, was written by this command."""
    from huggingface_hub import errors, hf_hub_download

    try:
        # Not from the cache: it answers as well if the Hub does not, and an unreachable card is not a missing one.
        path = hf_hub_download(repository, _CARD, force_download=True)
    except errors.EntryNotFoundError:
        return True
    return MARK in Path(path).read_text("utf-8", "replace")
