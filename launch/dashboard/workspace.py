"""The sections as a workspace of W&B's, and the way to get it there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from launch.dashboard import sections
from shards.core.errors import Failure, UserError
from trainer.tracking import wandb_run as account

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws


def build(project: str, entity: str, name: str) -> ws.Workspace:
    """The workspace, as a fresh one. The same arguments give the same workspace, to the last id.

    Args:
        entity: team or user; "" where none is known.

    Raises:
        UserError: the package that knows W&B's format is not installed; W&B takes no such name.
    """
    _check_installed()
    import wandb_workspaces.workspaces as ws

    try:
        workspace = ws.Workspace(project=project, entity=entity, name=name)
    except ValueError:  # pydantic's; the only one that what was checked before can come to
        raise UserError(f"--name {name!r}: W&B takes no emoji there") from None
    workspace.settings = ws.WorkspaceSettings(x_axis=sections.CLOCK)
    workspace.sections = [_section(section) for section in sections.SECTIONS]
    # By this name W&B knows it again. The library draws one at random, and a second run would make a second workspace.
    workspace._internal_name = f"nw-{_identifier(project, name)}-v"
    return workspace


def to_json(workspace: ws.Workspace) -> dict[str, Any]:
    """What would be sent to W&B, as plain values."""
    return workspace._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)


def save(workspace: ws.Workspace) -> tuple[str, bool]:
    """Make the workspace at W&B, or bring the one of this name up to date.

    Of one that is there, sections, panels and the x axis are replaced; colours, filters and columns of runs are kept.
    A workspace without an entity goes to the account's own.

    Returns:
        Its address, and whether it is new.

    Raises:
        UserError: there is no key, or no such project.
        Failure: W&B cannot be reached, or refuses.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its error reports would hold up our exit
    import wandb

    known = wandb.setup(wandb.Settings(silent=True)).settings
    if not account.has_credentials(known):
        raise UserError(
            "Weights & Biases has no key here; `wandb login` sets one (--json FILE writes the workspace without)"
        )
    with _explained():
        account.knock(known.base_url)
        workspace.entity = workspace.entity or wandb.Api().default_entity or ""
        found = _there(workspace)
        if found is not None:
            found.name, found.sections, found.settings = workspace.name, workspace.sections, workspace.settings
        saved = (found or workspace).save()
        return saved.url, found is None


def _there(workspace: ws.Workspace) -> ws.Workspace | None:
    """The workspace of this internal name at W&B, if there is one.

    Raises:
        UserError: there is no such project.
    """
    import wandb_workspaces.workspaces as ws
    from pydantic import ValidationError

    try:
        return ws.Workspace.from_url(workspace.url)
    except ValidationError:
        raise
    except ValueError as error:  # the library has one kind of error for both
        if str(error).startswith("Workspace"):
            return None
        if str(error).startswith("Project"):
            raise UserError(
                f"there is no project {workspace.entity}/{workspace.project} that this key may see; "
                "W&B makes it with its first run"
            ) from None
        raise


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Answer what goes wrong between here and W&B by a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # W&B's libraries raise many kinds, some of them plain Exceptions
        raise Failure(
            f"Weights & Biases did not take the workspace ({account.reason(error)}); "
            "--json FILE writes it without a network"
        ) from None


def _check_installed() -> None:
    if find_spec("wandb_workspaces") is None:
        raise UserError(
            "wandb-workspaces is not installed, and only it knows W&B's format; "
            "install it with: pip install 'cgan-trainer[dashboard]'"
        )


def _section(section: sections.Section) -> ws.Section:
    import wandb_workspaces.workspaces as ws

    panels = [_panel(panel, section) for panel in section.panels]
    return ws.Section(
        name=section.name,
        panels=panels,
        is_open=section.unfolded,
        layout_settings=ws.SectionLayoutSettings(columns=section.columns, rows=-(-len(panels) // section.columns)),
        panel_settings=ws.SectionPanelSettings(x_axis=sections.CLOCK),  # else W&B's step stands above the workspace's
    )


def _panel(panel: sections.Panel, section: sections.Section) -> Any:
    import wandb_workspaces.reports.v2 as wr

    match panel:
        case sections.Lines():
            made = wr.LinePlot(
                title=panel.title,
                x=panel.x,
                y=list(panel.keys),
                metric_regex=panel.pattern,
                range_y=(panel.low, panel.high),
                log_y=panel.logarithmic or None,
                smoothing_type="exponentialTimeWeighted" if panel.smooth else None,
                smoothing_factor=panel.smooth or None,
                smoothing_show_original=True if panel.smooth else None,
            )
        case sections.Bars():
            made = wr.BarPlot(title=panel.title, metrics=list(panel.keys), orientation="h")
        case sections.Pictures():
            made = wr.MediaBrowser(title=panel.title, media_keys=list(panel.keys), num_columns=1, gallery_axis="step")
        case sections.Words():
            made = wr.MarkdownPanel(markdown=f"### {panel.title}\n\n{panel.text}")
    made._id = _identifier(section.name, panel.title)
    return made


def _identifier(*parts: str) -> str:
    """A name of W&B's kind, eleven letters and digits, that follows from what it is the name of."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:11]
