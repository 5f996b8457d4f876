"""Experiment trackers: Weights & Biases, TensorBoard, Trackio, and the others that Accelerate supports.

``metrics.jsonl`` and ``samples/`` are the record of a run; trackers receive copies. A tracker never blocks the training
for long and never ends it: one that fails is disabled with one warning, and the others continue.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from PIL import Image

from shards.core.errors import UserError
from trainer import metric_names
from trainer.process.timeouts import run_with_timeout
from trainer.tracking.wandb_run import DEFAULT_PROJECT, WandbRun, display_path, open_run, reason

if TYPE_CHECKING:
    from trainer.tracking.artifacts import Artifact

MODES = ("auto", "online", "offline", "disabled")

_FINISH_SECONDS = 20.0
_ARTIFACT_SECONDS = 60.0

Level = Literal["info", "warn", "error"]
Row = tuple[str, Image.Image]  # the words of a label, and images of it

# Accelerate's names, and the names of the packages.
_PACKAGES = {
    "wandb": "wandb",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "aim": "aim",
    "clearml": "clearml",
    "comet_ml": "comet_ml",
    "dvclive": "dvclive",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
}


class Sink(Protocol):
    """One tracker. An exception in a method disables it; in `log_artifact` and `log_table`, these alone.

    Methods after `close` are optional; by default they do nothing.
    """

    name: str
    where: str

    def log(self, images_seen: int, values: Mapping[str, float]) -> None: ...
    def log_grid(self, images_seen: int, png: Path, caption: str) -> None: ...
    def close(self, exit_code: int) -> None: ...

    def log_table(self, images_seen: int, rows: Sequence[Row]) -> None:
        """Log words and images of the rows of a grid."""

    def log_artifact(self, artifact: Artifact) -> None:
        """Log files, if this run has not logged them before."""

    def alert(self, title: str, text: str, level: Level) -> None:
        """Notify people."""


class Trackers:
    """The open trackers of a run.

    Attributes:
        where: one sentence per tracker that says where its curves and images are.
    """

    def __init__(self, sinks: Sequence[Sink], where: Sequence[str], warn: Callable[[str], None]) -> None:
        self._sinks = list(sinks)
        self._warn = warn
        self._without_artifacts: set[str] = set()
        self.where = list(where)

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Log numbers at ``images_seen`` to every tracker. Never raises."""
        numbers = {key: float(value) for key, value in values.items()}
        self._each(lambda sink: sink.log(images_seen, numbers))

    def log_grid(self, images_seen: int, png: Path, captions: Sequence[str]) -> None:
        """Log a sample grid as ``samples/grid``, with the labels of its rows, to every tracker. Never raises."""
        caption = "; ".join(captions)
        self._each(lambda sink: sink.log_grid(images_seen, png, caption))

    @property
    def keep_artifacts(self) -> bool:
        """Whether a tracker does something with artifacts."""
        return any(isinstance(sink, WandbRun) for sink in self._sinks)

    def log_table(self, images_seen: int, rows: Sequence[Row]) -> None:
        """Log the rows of a grid as ``samples/table``: words and images. Never raises."""
        self._each_in_time(lambda sink: sink.log_table(images_seen, rows))

    def log_artifact(self, artifact: Artifact) -> None:
        """Log files, unless this run has logged them before. Never raises."""
        self._each_in_time(lambda sink: sink.log_artifact(artifact))

    def alert(self, title: str, text: str, level: Level = "info") -> None:
        """Notify the people who follow the run. Never raises."""
        self._each(lambda sink: sink.alert(title, text, level))

    def _each_in_time(self, action: Callable[[Sink], None]) -> None:
        """Do something that may ask a server; where it fails or takes long, artifacts are off, and metrics go on."""
        for sink in self._sinks:
            if sink.name in self._without_artifacts:
                continue
            try:
                run_with_timeout(_ARTIFACT_SECONDS, lambda sink=sink: action(sink))
            except Exception as error:
                self._without_artifacts.add(sink.name)
                self._warn(
                    f"warning: {sink.name} takes no artifacts any more ({reason(error)}); metrics are logged as before "
                    "[tracker-failed]"
                )

    def close(self, exit_code: int = 0) -> None:
        """Flush and close every tracker, each in bounded time; closing twice is harmless. Never raises."""
        while self._sinks:
            sink = self._sinks.pop()
            try:
                sink.close(exit_code)
            except Exception as error:
                self._warn(f"warning: {sink.name} did not close properly: {reason(error)} [tracker-failed]")

    def _each(self, action: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                action(sink)
            except Exception as error:
                self._sinks.remove(sink)
                self._warn(f"warning: {sink.name} failed and is disabled ({reason(error)}) [tracker-failed]")


def check(log_with: Sequence[str]) -> None:
    """Check that trackers exist and are installed.

    Raises:
        UserError: one does not exist or is not installed.
    """
    for name in log_with:
        if name != "none":
            _check_available(name)


def open_trackers(
    run: Path,
    *,
    config: Mapping[str, object],
    log_with: Sequence[str],
    project: str | None = None,
    entity: str | None = None,
    group: str | None = None,
    mode: str | None = None,
    resumed_at: int = 0,
    warn: Callable[[str], None] | None = None,
) -> Trackers:
    """Open the trackers named by ``log_with``; call it on rank 0 only.

    Args:
        run: the run directory, where trackers write their files.
        config: the run's options, logged with the curves.
        log_with: names such as "wandb", "tensorboard" and "trackio"; () or "none" for no tracker.
        project, entity, group, mode: for W&B. None: from W&B's environment variables and settings, otherwise project
            "cgan-trainer" and mode "auto" (online if there is an API key, otherwise offline).
        resumed_at: images seen by the checkpoint that this run resumes from; 0 for a new run.
        warn: receives warnings about trackers that fail (default: print above the progress bar).

    Raises:
        UserError: a tracker is unknown or not installed, or the mode is unknown.
    """
    warn = warn or _print_above_bar
    names = [name for name in dict.fromkeys(log_with) if name != "none"]
    check(names)
    if mode is not None and mode not in MODES:
        raise UserError("invalid-value", f"--wandb-mode {mode} is not one of {', '.join(MODES)}")

    plain = {key: _plain(value) for key, value in config.items()}
    sinks: list[Sink] = []
    where: list[str] = []
    for name in names:
        try:
            if name == "wandb":
                sink = open_run(run, plain, project, entity, group, mode, warn)
            elif name == "tensorboard":
                sink = _TensorBoard(run, plain, resumed_at)
            elif name == "trackio":
                sink = _Trackio(run, plain, project, group)
            else:
                sink = _Other(name, run, plain, project)
        except Exception as error:
            warn(f"warning: {name} could not be opened and is disabled ({reason(error)}) [tracker-failed]")
            continue
        where.append(sink.where if sink else "Weights & Biases: off")
        sinks += [sink] if sink else []
    return Trackers(sinks, where, warn)


def _check_available(name: str) -> None:
    if name not in _PACKAGES:
        raise UserError("unknown-tracker", f"--log-with {name}: unknown tracker; known are {', '.join(_PACKAGES)}")
    if find_spec(name) is None:
        raise UserError(
            "package-missing", f"--log-with {name}: the package is not installed; run: pip install {_PACKAGES[name]}"
        )


# ---------------------------------------------------------------- trackers through Accelerate


class _TensorBoard(Sink):
    name = "TensorBoard"

    def __init__(self, run: Path, config: Mapping[str, object], resumed_at: int) -> None:
        from accelerate.tracking import TensorBoardTracker

        directory = run / "tensorboard"
        # TensorBoard hides events after the checkpoint: the resumed run repeats them.
        purge = {"purge_step": resumed_at + 1} if resumed_at else {}
        self._tracker = TensorBoardTracker(run.resolve().name, directory, **purge)
        self._tracker.start()
        lines = "\n".join(f"    {key}: {value}" for key, value in config.items())
        self._tracker.writer.add_text("options", lines, global_step=resumed_at)
        self.where = f"TensorBoard: tensorboard --logdir {shlex.quote(display_path(directory))}"

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        self._tracker.log(dict(values), step=images_seen)

    def log_grid(self, images_seen: int, png: Path, caption: str) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(png) as image:
            pixels = np.asarray(image.convert("RGB"))[None]  # NHWC uint8
        self._tracker.log_images({metric_names.GRID: pixels}, step=images_seen, dataformats="NHWC")
        self._tracker.writer.add_text(f"{metric_names.GRID}/caption", caption, global_step=images_seen)
        self._tracker.writer.flush()

    def close(self, exit_code: int) -> None:
        run_with_timeout(_FINISH_SECONDS, self._tracker.finish)


class _Trackio(Sink):
    name = "Trackio"

    def __init__(self, run: Path, config: Mapping[str, object], project: str | None, group: str | None) -> None:
        directory = Path(
            os.environ.setdefault("TRACKIO_DIR", str((run / "trackio").resolve()))
        )  # read when trackio is imported
        from accelerate import PartialState
        from accelerate.tracking import TrackioTracker

        PartialState()  # the tracker's logging needs it; no effect if an Accelerator exists
        project = project or DEFAULT_PROJECT
        self._tracker = TrackioTracker(
            project,
            name=run.resolve().name,
            group=group,
            config=dict(config),
            resume="allow",
            embed=False,  # do not start a dashboard server from the training process
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        with _quiet():
            self._tracker.start()
        self.where = (
            f"Trackio: TRACKIO_DIR={shlex.quote(display_path(directory))} trackio show --project {shlex.quote(project)}"
        )

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        self._tracker.log(dict(values), step=images_seen)

    def log_grid(self, images_seen: int, png: Path, caption: str) -> None:
        import trackio

        self._tracker.log({metric_names.GRID: trackio.Image(str(png), caption=caption)}, step=images_seen)

    def close(self, exit_code: int) -> None:
        import trackio

        with _quiet():
            trackio.finish()  # in bounded time; the tracker's finish would run again at exit


class _Other(Sink):
    """Any other tracker of Accelerate; it receives numbers only, and images stay in ``samples/``."""

    def __init__(self, name: str, run: Path, config: Mapping[str, object], project: str | None) -> None:
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()
        self.name = name
        tracker_class = LOGGER_TYPE_TO_CLASS[name]
        arguments = [run / name] if tracker_class.requires_logging_directory else []
        self._tracker: Any = tracker_class(project or DEFAULT_PROJECT, *arguments)
        with _quiet():
            self._tracker.start()
            self._tracker.store_init_configuration(dict(config))
        self.where = f"{name}: see its own settings"

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        finite = {self._key(key): value for key, value in values.items() if math.isfinite(value)}
        self._tracker.log(finite, step=images_seen)

    def _key(self, key: str) -> str:
        """Replace characters that make MLflow reject a whole row: an attribute may be named "hair (long/short)"."""
        return re.sub(r"[^\w./ -]", "_", key)[:250] if self.name == "mlflow" else key

    def log_grid(self, images_seen: int, png: Path, caption: str) -> None:
        pass

    def close(self, exit_code: int) -> None:
        with _quiet():
            run_with_timeout(_FINISH_SECONDS, self._tracker.finish)


# ---------------------------------------------------------------- output


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress a tracker's output, and make its prompts fail instead of waiting for an answer."""
    stdin = sys.stdin
    sys.stdin = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.stdin = stdin


def _print_above_bar(sentence: str) -> None:
    from tqdm import tqdm

    tqdm.write(sentence, file=sys.stderr)


def _plain(value: object) -> object:
    """Return an option's value as a type that every tracker can show."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return str(value)
