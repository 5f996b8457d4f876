"""Build a W&B workspace from the sections, and save it to W&B."""

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
    """Return a new workspace. The same arguments give the same workspace, including all ids.

    Args:
        project: W&B project.
        entity: team or user; "" if unknown.
        name: name of the workspace.

    Raises:
        UserError: wandb-workspaces is not installed, or W&B does not accept the name.
    """
    _check_installed()
    import wandb_workspaces.workspaces as ws

    try:
        workspace = ws.Workspace(project=project, entity=entity, name=name)
    except ValueError:  # pydantic's; the only rule that the options have not checked
        raise UserError("invalid-value", f"--name {name!r}: W&B accepts no emoji in a name") from None
    workspace.settings = ws.WorkspaceSettings(x_axis=sections.CLOCK)
    workspace.sections = [_section(section) for section in sections.SECTIONS]
    # W&B identifies the workspace by this name. The library draws a random one, so a second run would create another.
    workspace._internal_name = f"nw-{_identifier(project, name)}-v"
    return workspace


def to_json(workspace: ws.Workspace) -> dict[str, Any]:
    """Return the workspace as plain values, as it would be sent to W&B."""
    return workspace._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)


def save(workspace: ws.Workspace) -> tuple[str, bool]:
    """Create the workspace at W&B, or update the one of this name.

    An update replaces sections, panels and the x axis; it keeps colours, filters and columns of runs. Without an
    entity, the account's default entity is used.

    Returns:
        The URL, and whether the workspace is new.

    Raises:
        UserError: there is no API key, or the project does not exist.
        Failure: W&B cannot be reached, or refuses the workspace.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its error reports would delay our exit
    import wandb

    known = wandb.setup(wandb.Settings(silent=True)).settings
    if not account.has_credentials(known):
        raise UserError(
            "wandb-key-missing",
            "no Weights & Biases API key found; set one with `wandb login`, or write the workspace with --json FILE",
        )
    with _translate_errors():
        account.check_connection(known.base_url)
        workspace.entity = workspace.entity or wandb.Api().default_entity or ""
        found = _existing(workspace)
        if found is not None:
            found.name, found.sections, found.settings = workspace.name, workspace.sections, workspace.settings
        saved = (found or workspace).save()
        return saved.url, found is None


def _existing(workspace: ws.Workspace) -> ws.Workspace | None:
    """Return the workspace of this internal name at W&B, or None.

    Raises:
        UserError: the project does not exist.
    """
    import wandb_workspaces.workspaces as ws
    from pydantic import ValidationError

    try:
        return ws.Workspace.from_url(workspace.url)
    except ValidationError:
        raise
    except ValueError as error:  # the library raises one type for both cases
        if str(error).startswith("Workspace"):
            return None
        if str(error).startswith("Project"):
            raise UserError(
                "wandb-project-missing",
                f"project {workspace.entity}/{workspace.project} does not exist or is not visible with this API key; "
                "W&B creates it with the first run",
            ) from None
        raise


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    """Turn the errors of W&B's libraries into a Failure."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # W&B's libraries raise many types, plain Exception included
        raise Failure(
            "wandb-failed",
            f"Weights & Biases did not accept the workspace ({account.reason(error)}); "
            "--json FILE writes it to a file instead",
        ) from None


def _check_installed() -> None:
    if find_spec("wandb_workspaces") is None:
        raise UserError(
            "package-missing",
            "wandb-workspaces is not installed; install it with: pip install 'cgan-trainer[dashboard]'",
        )


def _section(section: sections.Section) -> ws.Section:
    import wandb_workspaces.workspaces as ws

    panels = [_panel(panel, section) for panel in section.panels]
    return ws.Section(
        name=section.name,
        panels=panels,
        is_open=section.unfolded,
        layout_settings=ws.SectionLayoutSettings(columns=section.columns, rows=-(-len(panels) // section.columns)),
        panel_settings=ws.SectionPanelSettings(x_axis=sections.CLOCK),  # otherwise W&B's step overrides the workspace's
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
        case sections.Images():
            made = wr.MediaBrowser(title=panel.title, media_keys=list(panel.keys), num_columns=1, gallery_axis="step")
        case sections.Text():
            made = wr.MarkdownPanel(markdown=f"### {panel.title}\n\n{panel.text}")
    made._id = _identifier(section.name, panel.title)
    return made


def _identifier(*parts: str) -> str:
    """Return an identifier in W&B's format (eleven characters) that is a hash of the given names."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:11]
