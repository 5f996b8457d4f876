"""`python -m launch dashboard`: a workspace at W&B with everything that a run logs; running it again updates it."""

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

COMMAND = "python -m launch dashboard"

_LONGEST = 128  # characters of a name of a project or an entity


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """Make a project's workspace at Weights & Biases: losses, label fidelity, pictures, speed, guards, the machine.

    Running it again brings the workspace of that name up to date. It needs the extra `dashboard`.
    """

    project: str | None = option(None, "Weights & Biases project; the default is WANDB_PROJECT, then cgan-trainer")
    entity: str | None = option(None, "team or user; the default is WANDB_ENTITY, then your own")
    name: str = option("cgan-trainer", "of the workspace in the project")
    json: Path | None = option(None, "write the workspace to this file instead, without account and network")
    dry_run: bool = option(False, "list sections and panels, and do nothing")

    def __post_init__(self) -> None:
        """Hold the names against what W&B takes.

        Raises:
            UserError: one cannot be, or two options exclude each other.
        """
        cli.validate(self)
        for flag, value in (("--project", self.project), ("--entity", self.entity)):
            if value is not None and not (re.fullmatch(r"[^\x00-\x1f/\\#?%:]+", value) and len(value) <= _LONGEST):
                raise UserError(
                    f"{flag} {value!r}: W&B takes names of 1 to {_LONGEST} characters, none of / \\ # ? % :"
                )
        if not self.name.strip() or any(ord(letter) < 32 for letter in self.name):
            raise UserError(f"--name {self.name!r}: a workspace needs a name, on one line")
        if self.json is not None and self.dry_run:
            raise UserError("--dry-run writes nothing; leave it out, or --json")


def main(argv: Sequence[str]) -> None:
    """``python -m launch dashboard``.

    Raises:
        UserError: something asked for cannot be.
        Failure: W&B cannot be reached or refuses, or the file cannot be written.
    """
    asked = cli.parse(Dashboard, argv, command=COMMAND)
    if asked.dry_run:
        print("\n".join(_outline()))
        return
    from launch.dashboard import workspace

    project, entity = account.place(asked.project, asked.entity)
    made = workspace.build(project, entity or "", asked.name)
    if asked.json is not None:
        if not asked.json.parent.is_dir():
            raise UserError(f"--json {asked.json}: there is no folder {asked.json.parent}; make it first")
        write_json(asked.json, workspace.to_json(made))
        print(f"wrote {asked.json}: {len(sections.SECTIONS)} sections for {project}; nothing was sent")
        return
    url, new = workspace.save(made)
    print(f"{'made' if new else 'brought up to date'}: {url}")


def _outline() -> list[str]:
    """Sections, panels and what each panel shows."""
    lines = []
    for section in sections.SECTIONS:
        lines.append(section.name)
        for panel in section.panels:
            keys = getattr(panel, "keys", ())
            shown = ", ".join([*keys[:3], *(["…"] if keys[3:] else [])]) or getattr(panel, "pattern", None) or "words"
            lines.append(f"  {panel.title}: {shown}")
    return lines
