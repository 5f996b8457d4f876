"""Where a run is seen while it trains: Weights & Biases, TensorBoard, Trackio, and what else Accelerate knows.

``metrics.jsonl`` and ``samples/`` are the record; everything here is a sink beside it. A sink never blocks the
training for long and never fails it: one that breaks is left out with one sentence, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from shards.core.errors import UserError
from trainer import metric_names
from trainer.tracking.wandb_run import DEFAULT_PROJECT, open_run, reason, shown

MODES = ("auto", "online", "offline", "disabled")

_FINISH_SECONDS = 20.0

# Accelerate's names, and the package that pip knows each by.
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
    """One tracker. Any exception that a method raises turns the sink off."""

    name: str
    where: str

    def log(self, images_seen: int, values: Mapping[str, float]) -> None: ...
    def log_grid(self, images_seen: int, png: Path, caption: str) -> None: ...
    def close(self, exit_code: int) -> None: ...


class Trackers:
    """The open sinks of a run, as one.

    Attributes:
        where: sentences that say where curves and pictures are seen.
    """

    def __init__(self, sinks: Sequence[Sink], where: Sequence[str], say: Callable[[str], None]) -> None:
        self._sinks = list(sinks)
        self._say = say
        self.where = list(where)

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Hand numbers to every sink, at ``images_seen``. Never raises."""
        numbers = {key: float(value) for key, value in values.items()}
        self._each(lambda sink: sink.log(images_seen, numbers))

    def log_grid(self, images_seen: int, png: Path, captions: Sequence[str]) -> None:
        """Hand a picture grid to every sink, under ``samples/grid`` with its label words. Never raises."""
        caption = "; ".join(captions)
        self._each(lambda sink: sink.log_grid(images_seen, png, caption))

    def close(self, exit_code: int = 0) -> None:
        """Write out and leave every sink, each within a bounded time; closing twice is harmless. Never raises."""
        while self._sinks:
            sink = self._sinks.pop()
            try:
                sink.close(exit_code)
            except Exception as error:
                self._say(f"{sink.name} did not close as it should: {reason(error)}")

    def _each(self, action: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                action(sink)
            except Exception as error:
                self._sinks.remove(sink)
                self._say(f"{sink.name} is left out from here on ({reason(error)}); the run's own files go on")


def check(log_with: Sequence[str]) -> None:
    """Make sure that the named trackers exist and are installed, before anything starts.

    Raises:
        UserError: one is not.
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
    say: Callable[[str], None] | None = None,
) -> Trackers:
    """Open the trackers that ``log_with`` names; call it on the first process only.

    Args:
        run: the run directory; the trackers' files lie in it.
        config: the run's options, shown beside the curves.
        log_with: names such as "wandb", "tensorboard", "trackio"; () or "none" for none.
        project, entity, group, mode: for W&B. What is None is taken from W&B's own environment and settings, then
            from the defaults: project "cgan-trainer", mode "auto" (online if there is a key, else offline).
        resumed_at: images seen at the checkpoint that this run goes on from; 0 for a new run.
        say: receives the sentences about sinks that fail; by default they are printed above the progress bar.

    Raises:
        UserError: a name that no tracker has, a package that is not installed, an unknown mode.
    """
    say = say or _print_above_bar
    names = [name for name in dict.fromkeys(log_with) if name != "none"]
    check(names)
    if mode is not None and mode not in MODES:
        raise UserError(f"--wandb-mode {mode}: it is one of {', '.join(MODES)}")

    plain = {key: _plain(value) for key, value in config.items()}
    sinks: list[Sink] = []
    where: list[str] = []
    for name in names:
        try:
            if name == "wandb":
                sink = open_run(run, plain, project, entity, group, mode, say)
            elif name == "tensorboard":
                sink = _TensorBoard(run, plain, resumed_at)
            elif name == "trackio":
                sink = _Trackio(run, plain, project, group)
            else:
                sink = _Other(name, run, plain, project)
        except Exception as error:
            say(f"{name} could not be opened ({reason(error)}); the training goes on without it")
            continue
        where.append(sink.where if sink else "Weights & Biases: off")
        sinks += [sink] if sink else []
    return Trackers(sinks, where, say)


def _check_available(name: str) -> None:
    if name not in _PACKAGES:
        raise UserError(f"--log-with {name}: there is no such tracker; known are {', '.join(_PACKAGES)}")
    if find_spec(name) is None:
        raise UserError(
            f"--log-with {name}: the package is not installed; install it with: pip install {_PACKAGES[name]}"
        )


# ---------------------------------------------------------------- trackers by way of Accelerate


class _TensorBoard:
    name = "TensorBoard"

    def __init__(self, run: Path, config: Mapping[str, object], resumed_at: int) -> None:
        from accelerate.tracking import TensorBoardTracker

        directory = run / "tensorboard"
        # Events after the checkpoint belong to a past that did not happen: TensorBoard then hides them.
        purge = {"purge_step": resumed_at + 1} if resumed_at else {}
        self._tracker = TensorBoardTracker(run.resolve().name, directory, **purge)
        self._tracker.start()
        lines = "\n".join(f"    {key}: {value}" for key, value in config.items())
        self._tracker.writer.add_text("options", lines, global_step=resumed_at)
        self.where = f"TensorBoard: tensorboard --logdir {shlex.quote(shown(directory))}"

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
        _bounded(self._tracker.finish)


class _Trackio:
    name = "Trackio"

    def __init__(self, run: Path, config: Mapping[str, object], project: str | None, group: str | None) -> None:
        directory = Path(os.environ.setdefault("TRACKIO_DIR", str((run / "trackio").resolve())))  # read at its import
        from accelerate import PartialState
        from accelerate.tracking import TrackioTracker

        PartialState()  # the tracker's own messages need it; a no-op once there is an Accelerator
        project = project or DEFAULT_PROJECT
        self._tracker = TrackioTracker(
            project,
            name=run.resolve().name,
            group=group,
            config=dict(config),
            resume="allow",
            embed=False,  # no dashboard server out of the training process
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        with _quiet():
            self._tracker.start()
        self.where = (
            f"Trackio: TRACKIO_DIR={shlex.quote(shown(directory))} trackio show --project {shlex.quote(project)}"
        )

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        self._tracker.log(dict(values), step=images_seen)

    def log_grid(self, images_seen: int, png: Path, caption: str) -> None:
        import trackio

        self._tracker.log({metric_names.GRID: trackio.Image(str(png), caption=caption)}, step=images_seen)

    def close(self, exit_code: int) -> None:
        import trackio

        with _quiet():
            trackio.finish()  # bounded by itself; the tracker's finish would be run again at exit


class _Other:
    """The numbers, to any tracker that Accelerate has a class for; pictures stay in ``samples/``."""

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
        self.where = f"{name}: as its own settings say"

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        finite = {self._key(key): value for key, value in values.items() if math.isfinite(value)}
        self._tracker.log(finite, step=images_seen)

    def _key(self, key: str) -> str:
        """MLflow refuses a whole row for a letter of one name, and an attribute may be called "hair (long/short)"."""
        return re.sub(r"[^\w./ -]", "_", key)[:250] if self.name == "mlflow" else key

    def log_grid(self, images_seen: int, png: Path, caption: str) -> None:
        pass

    def close(self, exit_code: int) -> None:
        with _quiet():
            _bounded(self._tracker.finish)


# ---------------------------------------------------------------- manners


def _bounded(action: Callable[[], object], seconds: float = _FINISH_SECONDS) -> None:
    """Run ``action``, and go on without it after ``seconds``.

    Raises:
        TimeoutError: it was not done by then.
    """
    failure: list[Exception] = []

    def attempt() -> None:
        try:
            action()
        except Exception as error:
            failure.append(error)

    worker = threading.Thread(target=attempt, daemon=True)
    worker.start()
    worker.join(seconds)
    if worker.is_alive():
        raise TimeoutError(f"it was not done after {seconds:g} s")
    if failure:
        raise failure[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep a tracker's chatter off the terminal, and let its questions fail instead of waiting for an answer."""
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
    """An option's value as something every tracker can show."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return str(value)
