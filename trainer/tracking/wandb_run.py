"""A Weights & Biases run: online if possible, otherwise offline for ``wandb sync``; its id is kept over resumes."""

from __future__ import annotations

import contextlib
import glob
import netrc
import os
import secrets
import shlex
import socket
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shards.core import text_files
from shards.core.atomic_io import write_json
from trainer import metric_names

if TYPE_CHECKING:
    from trainer.tracking.artifacts import Artifact

DEFAULT_PROJECT = "cgan-trainer"

_CONNECT_SECONDS = 5.0
_INIT_SECONDS = 30.0  # if the server has not answered by then, the run is offline
_FINISH_SECONDS = 20.0
_MAX_RECORD = 1 << 24  # bytes


class WandbRun:
    """A W&B run, with ``images_seen`` as its x axis.

    It logs without ``step``: W&B drops rows whose step does not increase, and a run that resumes from a checkpoint
    repeats some rows.
    """

    name = "Weights & Biases"

    def __init__(
        self, active: Any, where: str, directory: Path, record: Path, environment: contextlib.ExitStack
    ) -> None:
        self._run = active
        self._environment = environment  # of the process, as the run needs it until it is closed
        self._record = record
        self._directory = directory
        self.where = where
        active.define_metric(metric_names.CLOCK)
        active.define_metric("*", step_metric=metric_names.CLOCK)

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, metric_names.CLOCK: images_seen})

    def log_grid(self, images_seen: int, png: Path, caption: str) -> None:
        import wandb

        self._run.log({metric_names.GRID: wandb.Image(str(png), caption=caption), metric_names.CLOCK: images_seen})

    def log_table(self, images_seen: int, rows: Sequence[tuple[str, Any]]) -> None:
        import wandb

        if self._is_new(f"table {images_seen}"):
            data = [[images_seen, words, wandb.Image(images)] for words, images in rows]
            table = wandb.Table(columns=[metric_names.CLOCK, "words", "images"], data=data)
            self._run.log({metric_names.TABLE: table, metric_names.CLOCK: images_seen})
            self._remember(f"table {images_seen}")

    def log_artifact(self, artifact: Artifact) -> None:
        import wandb

        if not self._is_new(artifact.key):
            return
        name = artifact.name if artifact.kind == "dataset" else f"{artifact.name}-{self._run.id}"
        made = wandb.Artifact(name, artifact.kind, metadata=artifact.metadata)
        try:
            _add_files(made, artifact)
        except (OSError, ValueError):
            if artifact.is_there:
                raise
            return  # a checkpoint that was deleted meanwhile
        if artifact.kind == "dataset":
            _use(self._run, made)
        else:
            self._run.log_artifact(made, aliases=list(artifact.aliases))
        self._remember(artifact.key)

    def alert(self, title: str, text: str, level: str) -> None:
        self._run.alert(title, text, level=level.upper())

    def _is_new(self, key: str) -> bool:
        return key not in _read_record(self._record).get("wandb_logged", ())

    def _remember(self, key: str) -> None:
        record = _read_record(self._record)
        write_json(self._record, {**record, "wandb_logged": [*record.get("wandb_logged", ()), key]})

    def close(self, exit_code: int) -> None:
        with self._environment:
            self._finish(exit_code)

    def _finish(self, exit_code: int) -> None:
        try:
            self._run.finish(exit_code=exit_code)
        except TimeoutError:
            raise TimeoutError(f"the upload did not finish in time; later run: wandb sync {self._directory}") from None


def _add_files(made: Any, artifact: Artifact) -> None:
    for file, content in artifact.files.items():
        if isinstance(content, Path):
            made.add_file(str(content), name=file)
        else:
            with made.new_file(file, mode="wb") as out:
                out.write(content)


@contextlib.contextmanager
def _provided(name: str, value: str) -> Iterator[None]:
    """Set an environment variable, unless it is set, for as long as the context lasts."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


def open_run(
    run: Path,
    config: Mapping[str, object],
    project: str | None,
    entity: str | None,
    group: str | None,
    mode: str | None,
    warn: Callable[[str], None],
) -> WandbRun | None:
    """Open a W&B run, online if requested and possible, otherwise offline; return None if disabled."""
    # W&B's error reporting would use the network from an offline run too, and delay the exit of an online one.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    _forget_earlier_settings()
    known = wandb.setup(wandb.Settings(silent=True)).settings  # from W&B's environment variables and settings files
    has_key = has_credentials(known)
    mode, note = _wandb_mode(mode, known.mode, has_key)
    if note:
        warn(note)
    if mode == "disabled":
        return None

    base = Path(os.environ.get("WANDB_DIR") or run).resolve()
    (base / "wandb").mkdir(parents=True, exist_ok=True)  # otherwise W&B uses a temporary or a hidden folder
    run_id = _run_id(run, known.run_id)
    _rename_stubs(base / "wandb", run_id)
    project, entity = project_and_entity(project, entity)
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

    with contextlib.ExitStack() as environment:
        # Where files of artifacts are until they are uploaded.
        environment.enter_context(_provided("WANDB_DATA_DIR", str(base / "wandb")))
        active, where = _init(mode, arguments, known.base_url, base / "wandb", warn)
        return WandbRun(active, where, Path(active.dir).parent, run / "tracking.json", environment.pop_all())


def _forget_earlier_settings() -> None:
    """Have W&B read its environment variables again if they have changed since an earlier run of this process.

    It reads them once, so that a second training would get the first one's project or group. A run that is still open
    would be ended, and keeps them.
    """
    import wandb

    session = wandb.setup(wandb.Settings(silent=True))
    if session.most_recent_active_run is None and session.did_environment_change():
        wandb.teardown()


def _init(
    mode: str, arguments: Mapping[str, Any], base_url: str, directory: Path, warn: Callable[[str], None]
) -> tuple[Any, str]:
    """Return W&B's run, and a sentence that says where its curves and images are."""
    import wandb

    if mode == "online":
        try:
            check_connection(base_url)
            active = wandb.init(mode="online", settings=_wandb_settings(), **arguments)
            return active, f"Weights & Biases: {active.url}"
        except Exception as error:
            warn(f"warning: Weights & Biases is unreachable ({reason(error)}); the run is offline [wandb-unreachable]")
            # Otherwise the next init would attach to the remains of the failed one.
            wandb.teardown()
    active = wandb.init(mode="offline", settings=_wandb_settings(), **arguments)
    sync = f"wandb sync {shlex.quote(display_path(directory))}/offline-run-*-{active.id}"
    return active, f"Weights & Biases: offline; upload with: {sync}"


def _wandb_settings() -> Any:
    import wandb

    return wandb.Settings(
        console="off",  # do not capture the progress bar
        silent=True,
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT") or _INIT_SECONDS),
        finish_timeout=_FINISH_SECONDS,
        finish_timeout_raises=True,
        disable_code=True,
    )


def _wandb_mode(wanted: str | None, environment: str, has_key: bool) -> tuple[str, str | None]:
    """Return the mode to use, and a warning if it is not the requested one."""
    aliases = {"dryrun": "offline", "run": "online", "shared": "online"}
    explicit = wanted in ("online", "offline", "disabled")
    mode = str(wanted) if explicit else aliases.get(environment, environment)
    if mode == "online" and not has_key:
        # W&B would prompt for a key on the terminal.
        note = (
            "warning: no API key for Weights & Biases; the run is offline; run `wandb login` to set one [wandb-no-key]"
        )
        return "offline", note if explicit else None
    return mode, None


def project_and_entity(project: str | None, entity: str | None) -> tuple[str, str | None]:
    """Return project and entity: as given, from W&B's settings, or the defaults (None: the account's entity)."""
    import wandb

    known = wandb.setup(wandb.Settings(silent=True)).settings
    return project or known.project or DEFAULT_PROJECT, entity or known.entity


def has_credentials(settings: Any) -> bool:
    """Return whether W&B will find an API key: in its environment, settings, or the netrc file of ``wandb login``."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings.api_key:
        return True
    try:
        entries = netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc")
    except (OSError, netrc.NetrcParseError, RuntimeError):
        return False
    host = urlsplit(settings.base_url).netloc
    found = entries.authenticators(host) or entries.authenticators(host.removeprefix("api."))
    return bool(found and found[2])


def check_connection(url: str) -> None:
    """Fail within seconds if there is no network or no server, where W&B itself would retry until its timeout.

    Raises:
        OSError: the connection failed. Not raised behind a proxy, where this cannot be checked.
    """
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    if address.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()


def _use(run: Any, artifact: Any) -> None:
    """Log an artifact as one that the run uses.

    `Run.use_artifact` refuses to do so offline, and online it waits for the server; what it calls does neither.
    """
    if hasattr(run, "_log_artifact"):
        run._log_artifact(artifact, aliases=[], is_user_created=True, use_after_commit=True)
    else:
        run.log_artifact(artifact)


def _read_record(file: Path) -> dict[str, Any]:
    """Return what a run directory says of the run at W&B: its id, and the keys of what was logged."""
    with contextlib.suppress(OSError, ValueError):
        record = text_files.read_json(file, _MAX_RECORD)
        if isinstance(record, dict) and isinstance(record.get("wandb_logged", []), list):
            return record
    return {}


def _run_id(run: Path, from_environment: str | None) -> str:
    """Return the run's W&B id, which is stored in the run directory."""
    file = run / "tracking.json"
    kept = _read_record(file).get("wandb_run_id")
    if isinstance(kept, str) and from_environment in (None, "", kept):
        return kept
    new = from_environment or secrets.token_hex(4)
    write_json(file, {"wandb_run_id": new})
    return new


def _rename_stubs(directory: Path, run_id: str) -> None:
    """Rename files of this W&B run that a killed process left without any record (a 7-byte header).

    If one of several runs is such a stub, ``wandb sync`` silently uploads none of them.
    """
    for stub in directory.glob(f"*run-*-{glob.escape(run_id)}/run-*.wandb"):
        with contextlib.suppress(OSError):
            if stub.stat().st_size <= 7:
                stub.replace(stub.with_suffix(".empty"))


def display_path(path: Path) -> str:
    """Return a path relative to the current directory if it is inside."""
    with contextlib.suppress(ValueError):
        path = path.resolve().relative_to(Path.cwd())
    return str(path)


def reason(error: Exception) -> str:
    """Return the first line of an error, with API keys removed."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    for secret in (os.environ.get(name) for name in ("WANDB_API_KEY", "HF_TOKEN", "COMET_API_KEY", "SWANLAB_API_KEY")):
        text = text.replace(secret, "…") if secret else text
    return text[:200].rstrip(".")
