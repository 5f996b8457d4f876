"""`cgan dashboard`: create or update a W&B workspace with everything that a run logs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.dashboard import sections
from shards.core import cli
from shards.core.atomic_io import write_json
from shards.core.cli import option
from shards.core.errors import UserError
from trainer.tracking import wandb_run as account

COMMAND = "cgan dashboard"

_MAX_NAME = 128  # characters of a project or entity


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """Create a Weights & Biases workspace for a project: losses, label accuracy, images, throughput, guards, system.

    Run it again to update the workspace of that name. It needs the extra `dashboard`.
    """

    project: str | None = option(None, "Weights & Biases project (default: $WANDB_PROJECT, then cgan-trainer)")
    entity: str | None = option(
        None, "Weights & Biases team or user (default: $WANDB_ENTITY, then your default entity)"
    )
    name: str = option("cgan-trainer", "name of the workspace in the project")
    json: Path | None = option(None, "write the workspace to this file instead; needs neither account nor network")
    dry_run: bool = option(False, "list sections and panels, then exit")

    def __post_init__(self) -> None:
        """Validate the names against the rules of W&B.

        Raises:
            UserError: a name is invalid, or two options exclude each other.
        """
        cli.validate(self)
        for flag, value in (("--project", self.project), ("--entity", self.entity)):
            if value is not None and not (re.fullmatch(r"[^\x00-\x1f/\\#?%:]+", value) and len(value) <= _MAX_NAME):
                raise UserError(
                    "invalid-value",
                    f"{flag} {value!r}: W&B accepts names of 1 to {_MAX_NAME} characters without / \\ # ? % :",
                )
        if not self.name.strip() or any(ord(letter) < 32 for letter in self.name):
            raise UserError("invalid-value", f"--name {self.name!r}: a workspace needs a name of one line")
        if self.json is not None and self.dry_run:
            raise UserError("option-conflict", "--dry-run writes no file; leave out --dry-run or --json")


def main(argv: Sequence[str]) -> None:
    """Run ``cgan dashboard``.

    Raises:
        UserError: an option is invalid.
        Failure: W&B cannot be reached or refuses the workspace, or the file cannot be written.
    """
    asked = cli.parse(Dashboard, argv, command=COMMAND)
    if asked.dry_run:
        print("\n".join(_outline()))
        return
    from launch.dashboard import workspace

    project, entity = account.project_and_entity(asked.project, asked.entity)
    made = workspace.build(project, entity or "", asked.name)
    if asked.json is not None:
        if not asked.json.parent.is_dir():
            raise UserError("directory-missing", f"--json {asked.json}: directory {asked.json.parent} does not exist")
        write_json(asked.json, workspace.to_json(made))
        print(f"wrote {asked.json}: {len(sections.SECTIONS)} sections for {project}; nothing was sent")
        return
    url, new = workspace.save(made)
    print(f"{'created' if new else 'updated'}: {url}")


def _outline() -> list[str]:
    """Return the sections, their panels and what each panel shows, one per line."""
    lines = []
    for section in sections.SECTIONS:
        lines.append(section.name)
        for panel in section.panels:
            keys = getattr(panel, "keys", ())
            shown = ", ".join([*keys[:3], *(["…"] if keys[3:] else [])]) or getattr(panel, "pattern", None) or "text"
            lines.append(f"  {panel.title}: {shown}")
    return lines
