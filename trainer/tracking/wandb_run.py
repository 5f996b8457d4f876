"""A run at Weights & Biases: online if that works, else offline and ready for ``wandb sync``; one id over resumes."""

from __future__ import annotations

import contextlib
import glob
import json
import netrc
import os
import secrets
import shlex
import socket
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shards.core.atomic_io import write_json
from trainer import metric_names

DEFAULT_PROJECT = "cgan-trainer"

_KNOCK_SECONDS = 5.0
_INIT_SECONDS = 30.0  # a server that has not answered by then does not hold up the training: offline
_FINISH_SECONDS = 20.0


class WandbRun:
    """A W&B run. No ``step`` is given: W&B drops rows whose step is not above the last one it has, and a run that
    resumes from a checkpoint repeats some. The x axis is ``images_seen``, where repeated rows lie on each other."""

    name = "Weights & Biases"

    def __init__(self, active: Any, where: str, directory: Path) -> None:
        self._run = active
        self._directory = directory
        self.where = where
        active.define_metric(metric_names.CLOCK)
        active.define_metric("*", step_metric=metric_names.CLOCK)

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, metric_names.CLOCK: images_seen})

    def log_grid(self, images_seen: int, png: Path, caption: str) -> None:
        import wandb

        self._run.log({metric_names.GRID: wandb.Image(str(png), caption=caption), metric_names.CLOCK: images_seen})

    def close(self, exit_code: int) -> None:
        try:
            self._run.finish(exit_code=exit_code)
        except TimeoutError:
            raise TimeoutError(f"not all was uploaded in time; later: wandb sync {self._directory}") from None


def open_run(
    run: Path,
    config: Mapping[str, object],
    project: str | None,
    entity: str | None,
    group: str | None,
    mode: str | None,
    say: Callable[[str], None],
) -> WandbRun | None:
    """A W&B run, online if that is wanted and works, else offline; None when disabled."""
    # Its error reports would reach for the network also from an offline run, and hold up the exit of an online one.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    known = wandb.setup(wandb.Settings(silent=True)).settings  # with W&B's environment variables and settings files
    has_key = has_credentials(known)
    mode, note = _wandb_mode(mode, known.mode, has_key)
    if note:
        say(note)
    if mode == "disabled":
        return None

    base = Path(os.environ.get("WANDB_DIR") or run).resolve()
    (base / "wandb").mkdir(parents=True, exist_ok=True)  # else W&B takes a temporary folder, or a hidden one
    run_id = _run_id(run, known.run_id)
    _set_stubs_aside(base / "wandb", run_id)
    project, entity = place(project, entity)
    arguments = {
        "project": project,
        "entity": entity,
        "group": group or known.run_group,
        "name": known.run_name or run.resolve().name,
        "id": run_id,
        "resume": "allow",
        "dir": str(base),
        "config": dict(config),
    }

    if mode == "online":
        try:
            knock(known.base_url)
            active = wandb.init(mode="online", settings=_wandb_settings(), **arguments)
            return WandbRun(active, f"Weights & Biases: {active.url}", Path(active.dir).parent)
        except Exception as error:
            say(f"Weights & Biases cannot be reached ({reason(error)}); this run is kept offline")
            # Without this the next init would attach to what is left of the failed one.
            wandb.teardown()
    active = wandb.init(mode="offline", settings=_wandb_settings(), **arguments)
    directory = Path(active.dir).parent
    sync = f"wandb sync {shlex.quote(shown(base / 'wandb'))}/offline-run-*-{active.id}"
    return WandbRun(active, f"Weights & Biases: offline; upload with: {sync}", directory)


def _wandb_settings() -> Any:
    import wandb

    return wandb.Settings(
        console="off",  # the progress bar is not a log
        silent=True,
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT") or _INIT_SECONDS),
        finish_timeout=_FINISH_SECONDS,
        finish_timeout_raises=True,
        disable_code=True,
    )


def _wandb_mode(wanted: str | None, environment: str, has_key: bool) -> tuple[str, str | None]:
    """The mode to use, and a sentence if it is not the one that was wanted."""
    aliases = {"dryrun": "offline", "run": "online", "shared": "online"}
    explicit = wanted in ("online", "offline", "disabled")
    mode = str(wanted) if explicit else aliases.get(environment, environment)
    if mode == "online" and not has_key:
        # W&B would stop and ask for a key at the terminal.
        note = "Weights & Biases has no key here, so this run is kept offline; `wandb login` sets one"
        return "offline", note if explicit else None
    return mode, None


def place(project: str | None, entity: str | None) -> tuple[str, str | None]:
    """Project and entity: as given, else of W&B's own environment and settings, else ours and the account's (None)."""
    import wandb

    known = wandb.setup(wandb.Settings(silent=True)).settings
    return project or known.project or DEFAULT_PROJECT, entity or known.entity


def has_credentials(settings: Any) -> bool:
    """Whether W&B would find a key by itself: environment, its settings, or the netrc file of ``wandb login``."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings.api_key:
        return True
    try:
        entries = netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc")
    except (OSError, netrc.NetrcParseError, RuntimeError):
        return False
    host = urlsplit(settings.base_url).netloc
    found = entries.authenticators(host) or entries.authenticators(host.removeprefix("api."))
    return bool(found and found[2])


def knock(url: str) -> None:
    """See in a moment that there is no network or no server, where W&B would try for as long as it may.

    Raises:
        OSError: nothing listens there. Behind a proxy this cannot be told, and nothing is raised.
    """
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    if address.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    socket.create_connection((host, port), timeout=_KNOCK_SECONDS).close()


def _run_id(run: Path, from_environment: str | None) -> str:
    """The run's id at W&B, the same for as long as the run directory lives."""
    file = run / "tracking.json"
    with contextlib.suppress(OSError, ValueError, AttributeError):
        kept = json.loads(file.read_text()).get("wandb_run_id")
        if isinstance(kept, str) and from_environment in (None, "", kept):
            return kept
    new = from_environment or secrets.token_hex(4)
    write_json(file, {"wandb_run_id": new})
    return new


def _set_stubs_aside(directory: Path, run_id: str) -> None:
    """Rename files of this W&B run that a killed process left without one record (a 7-byte header).

    ``wandb sync`` of several runs uploads nothing at all, and says nothing, when one of them is such a stub.
    """
    for stub in directory.glob(f"*run-*-{glob.escape(run_id)}/run-*.wandb"):
        with contextlib.suppress(OSError):
            if stub.stat().st_size <= 7:
                stub.replace(stub.with_suffix(".empty"))


def shown(path: Path) -> str:
    """A path as a person at this prompt would type it."""
    with contextlib.suppress(ValueError):
        path = path.resolve().relative_to(Path.cwd())
    return str(path)


def reason(error: Exception) -> str:
    """The first line of an error, without anything that could be a key."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    for secret in (os.environ.get(name) for name in ("WANDB_API_KEY", "HF_TOKEN", "COMET_API_KEY", "SWANLAB_API_KEY")):
        text = text.replace(secret, "…") if secret else text
    return text[:200].rstrip(".")
