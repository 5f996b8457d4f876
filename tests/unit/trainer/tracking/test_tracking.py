"""Trackers: real W&B runs, offline and against a local server with typical faults."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from support import ROOT
from support.errors import assert_printed, raises
from support.fake_wandb import FakeWandb
from support.generators import make_run
from support.launching import make_dataset
from trainer.generation import image_grid
from trainer.run import checkpoint
from trainer.tracking import artifacts, trackers, wandb_run
from trainer.tracking.artifacts import Artifact
from trainer.tracking.trackers import Sink, Trackers, open_trackers

KEY = "k3y" * 13 + "z"  # as long as a real one

# Opens the trackers, logs five rows and a grid from `start` on, and reports warnings and times.
CHILD = """
import json, sys, time
from pathlib import Path
from trainer.tracking.trackers import open_trackers
run, png, start, options = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
begin, warnings = time.monotonic(), []
trackers = open_trackers(run, config={"batch": 16, "run": run, "betas": (0.0, 0.9)}, resumed_at=start,
                         **({"log_with": ("wandb",), "warn": warnings.append} | options))
opened = time.monotonic() - begin
try:
    for n in range(1, 6):
        trackers.log(start + 100 * n, {"loss/d": 1 / n, "loss/g": float("nan")})
    trackers.log_grid(start + 500, png, ["blue hair", "red hair"])
    BODY
finally:
    begin = time.monotonic()
    trackers.close()
print(json.dumps({"where": trackers.where, "warnings": warnings, "opened": opened, "closed": time.monotonic() - begin}))
"""


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "000500.png"
    image_grid.save(image_grid.grid(np.full((2, 3, 8, 8), 90, np.uint8), 1, ["blue hair", "red hair"]), path)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment without this machine's own W&B settings."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "TRACKIO_")) and "proxy" not in k.lower()
    }
    places = {}
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "HOME", "HF_HOME"):
        (tmp_path / "home" / name).mkdir(parents=True)
        places[name] = str(tmp_path / "home" / name)
    return {**kept, **places, "PYTHONPATH": str(ROOT), "NETRC": str(tmp_path / "home" / "netrc")}


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[FakeWandb]:
    fake = FakeWandb()
    environment |= {"WANDB_BASE_URL": fake.url, "WANDB_API_KEY": KEY}
    yield fake
    fake.stop()


def train(
    environment: Mapping[str, str], run: Path, png: Path, start: int = 0, body: str = "pass", **options: object
) -> SimpleNamespace:
    """Run a training that only logs, in a subprocess; return its warnings, times and output."""
    run.mkdir(exist_ok=True)
    words = [run, png, str(start), json.dumps(options)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD.replace("BODY", body), *words],
        env=environment,
        cwd=run.parent,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(**json.loads(done.stdout.splitlines()[-1]), output=done.stdout, errors=done.stderr)


def wandb(environment: Mapping[str, str], *words: object) -> str:
    command = [sys.executable, "-m", "wandb", *map(str, words)]
    home = environment["HOME"]  # W&B's logs go to the working directory, which the checkout must not be
    return subprocess.run(
        command, cwd=home, env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def records(environment: Mapping[str, str], directory: Path) -> dict[str, list[dict]]:
    """Return an offline run's records by kind, as read by W&B."""
    found: dict[str, list[dict]] = {}
    for line in wandb(environment, "leet", "inspect", "--json", directory).splitlines():
        record = json.loads(line)
        found.setdefault(record["type"], []).append(record[record["type"]])
    return found


def offline_runs(run: Path) -> list[Path]:
    return sorted((run / "wandb").glob("offline-run-*"))


def files_hold(folder: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- offline


def test_run_without_a_key_is_offline_and_readable(environment: dict, tmp_path: Path, png: Path) -> None:
    run = tmp_path / "first"
    done = train(environment, run, png)
    assert done.warnings == []
    assert done.errors == ""
    assert len(done.output.splitlines()) == 1  # W&B itself prints nothing
    (directory,) = offline_runs(run)
    found = records(environment, directory)
    (start,) = found["run"]
    kept = json.loads((run / "tracking.json").read_text())["wandb_run_id"]
    assert (start["project"], start["display_name"], start["run_id"]) == ("cgan-trainer", "first", kept)
    assert done.where == [f"Weights & Biases: offline; upload with: wandb sync first/wandb/offline-run-*-{kept}"]
    options = {key: value for key, value in start["config"]["update"].items() if key != "_wandb"}
    assert options == {"batch": 16, "run": str(run), "betas": "0.0, 0.9"}
    rows = [row["item"] for row in found["history"]]
    assert [row["images_seen"] for row in rows] == [100, 200, 300, 400, 500, 500]
    assert [row.get("loss/d") for row in rows[:5]] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert rows[0]["loss/g"] == "NaN"
    assert rows[5]["samples/grid.caption"] == "blue hair; red hair"
    assert (directory / "files" / rows[5]["samples/grid.path"]).read_bytes() == png.read_bytes()
    assert {"glob_name": "*", "step_metric": "images_seen"}.items() <= found["metric"][1].items()
    assert "exit" in found


def test_trap_resumed_offline_run_keeps_its_id_and_syncs_completely(
    server: FakeWandb, environment: dict, tmp_path: Path, png: Path
) -> None:
    run = tmp_path / "first"
    train(environment, run, png, mode="offline")
    kept = json.loads((run / "tracking.json").read_text())["wandb_run_id"]
    stub, other = (
        run / "wandb" / f"offline-run-20200101_000000-{name}" / f"run-{name}.wandb" for name in (kept, "other")
    )
    for file in (stub, other):  # a killed process left the one; the other may be just starting
        file.parent.mkdir()
        file.write_bytes(b":W&B\x7a\xe1\x00")
    time.sleep(1.1)  # W&B names its folders by the second
    train(environment, run, png, start=300, mode="offline")
    assert not stub.exists()
    assert other.exists()
    assert server.runs == {}
    wandb(environment, "sync", *(run / "wandb").glob(f"offline-run-*-{kept}"))
    ((run_id, seen),) = server.runs.items()
    assert run_id == kept
    expected = [100, 200, 300, 400, 500, 500, 400, 500, 600, 700, 800, 800]
    assert [row["images_seen"] for row in seen.history] == expected
    assert [row["_step"] for row in seen.history] == list(range(12))


def test_trap_sigterm_loses_no_offline_row(environment: dict, tmp_path: Path, png: Path) -> None:
    run = tmp_path / "first"
    run.mkdir()
    wait = "print('ready', flush=True); time.sleep(60)"
    handler = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    child = subprocess.Popen(
        [sys.executable, "-c", handler + CHILD.replace("BODY", wait), run, png, "0", "{}"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 143
    child.stdout.close()
    (directory,) = offline_runs(run)
    rows = [row["item"]["images_seen"] for row in records(environment, directory)["history"]]
    assert rows == [100, 200, 300, 400, 500, 500]


# ---------------------------------------------------------------- online


def test_trap_run_with_a_key_is_online_and_one_run_over_a_resume(
    server: FakeWandb, environment: dict, tmp_path: Path, png: Path
) -> None:
    run = tmp_path / "first"
    environment |= {"WANDB_PROJECT": "from-environment", "WANDB_ENTITY": "team", "WANDB_RUN_GROUP": "theirs"}
    done = train(environment, run, png, group="ours")
    assert done.warnings == []
    assert done.errors == ""
    run_id = json.loads((run / "tracking.json").read_text())["wandb_run_id"]
    assert done.where == [f"Weights & Biases: {server.url}/team/from-environment/runs/{run_id}"]
    train(environment, run, png, start=300, group="ours")
    assert list(server.runs) == [run_id]
    seen = server.runs[run_id]
    assert (seen.project, seen.entity, seen.group, seen.display_name) == ("from-environment", "team", "ours", "first")
    # Rows after the checkpoint come twice, under steps that go on: none is dropped.
    expected = [100, 200, 300, 400, 500, 500, 400, 500, 600, 700, 800, 800]
    assert [row["images_seen"] for row in seen.history] == expected
    assert [row["_step"] for row in seen.history] == list(range(12))
    assert seen.history[5]["samples/grid"]["caption"] == "blue hair; red hair"
    assert seen.files[seen.history[5]["samples/grid"]["path"]] == png.read_bytes()
    assert seen.config["batch"]["value"] == 16
    assert seen.exit_code == 0
    assert not files_hold(run, KEY)
    assert KEY not in done.output + done.errors


def fails_over(environment: dict, run: Path, png: Path) -> SimpleNamespace:
    """Train with a server that fails; assert that the run is offline and complete, with one warning."""
    done = train(environment, run, png)
    (warning,) = done.warnings
    assert_printed(warning, "wandb-unreachable")
    assert done.where[0].startswith("Weights & Biases: offline")
    assert done.errors == ""
    (directory,) = offline_runs(run)
    assert len(records(environment, directory)["history"]) == 6
    assert environment["WANDB_API_KEY"] not in done.output
    assert not files_hold(run, environment["WANDB_API_KEY"])
    return done


def test_server_that_refuses_connections_costs_no_time(
    server: FakeWandb, environment: dict, tmp_path: Path, png: Path
) -> None:
    server.stop()
    assert fails_over(environment, tmp_path / "first", png).opened < 15


@pytest.mark.long
def test_key_that_the_server_rejects(server: FakeWandb, environment: dict, tmp_path: Path, png: Path) -> None:
    server.status = 401
    assert "401" in fails_over(environment, tmp_path / "first", png).warnings[0]


def test_invalid_key(server: FakeWandb, environment: dict, tmp_path: Path, png: Path) -> None:
    environment["WANDB_API_KEY"] = "not a key at all"
    fails_over(environment, tmp_path / "first", png)


@pytest.mark.parametrize(("status", "delay"), [(500, 0.0), pytest.param(None, 30.0, marks=pytest.mark.long)])
def test_trap_failing_or_slow_server_makes_the_run_offline(
    server: FakeWandb, environment: dict, tmp_path: Path, png: Path, status: int | None, delay: float
) -> None:
    server.status, server.delay = status, delay
    environment["WANDB_INIT_TIMEOUT"] = "2"
    assert fails_over(environment, tmp_path / "first", png).opened < 20


@pytest.mark.long
def test_server_lost_during_training_is_left_in_bounded_time(
    server: FakeWandb, environment: dict, tmp_path: Path, png: Path
) -> None:
    lose = "import urllib.request; urllib.request.urlopen(options_url)".replace(
        "options_url", repr(server.url + "/lose")
    )
    done = train(environment, tmp_path / "first", png, body=lose + "; trackers.log(start + 600, {'loss/d': 0.1})")
    assert done.closed < 30
    (warning,) = done.warnings
    assert_printed(warning, "tracker-failed", "wandb sync")
    (directory,) = (tmp_path / "first" / "wandb").glob("run-*")
    assert records(environment, directory)["history"][-1]["item"]["images_seen"] == 600


# ---------------------------------------------------------------- mode, key and id


@pytest.mark.parametrize(
    ("requested", "from_environment", "has_key", "mode", "warned"),
    [
        (None, "online", False, "offline", False),
        ("auto", "online", True, "online", False),
        (None, "offline", True, "offline", False),
        (None, "dryrun", True, "offline", False),
        (None, "disabled", True, "disabled", False),
        ("online", "disabled", True, "online", False),
        ("offline", "online", True, "offline", False),
        ("disabled", "online", True, "disabled", False),
        ("online", "online", False, "offline", True),
    ],
)
def test_option_overrides_the_environment(
    requested: str | None, from_environment: str, has_key: bool, mode: str, warned: bool
) -> None:
    chosen, note = wandb_run._wandb_mode(requested, from_environment, has_key)
    assert (chosen, note is not None) == (mode, warned)


def test_key_of_wandb_login_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(file))
    settings = SimpleNamespace(api_key=None, base_url="https://api.wandb.ai")
    assert not wandb_run.has_credentials(settings)
    file.write_text(f"machine elsewhere.example\n  login user\n  password {KEY}\n")
    file.chmod(0o600)
    assert not wandb_run.has_credentials(settings)
    file.write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    assert wandb_run.has_credentials(settings)
    file.write_text("this is ( no netrc")
    assert not wandb_run.has_credentials(settings)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_run.has_credentials(settings)


def test_run_id_is_kept_unless_the_environment_has_another(tmp_path: Path) -> None:
    first = wandb_run._run_id(tmp_path, None)
    assert wandb_run._run_id(tmp_path, None) == first
    assert wandb_run._run_id(tmp_path, "theirs") == "theirs"
    assert wandb_run._run_id(tmp_path, None) == "theirs"
    (tmp_path / "tracking.json").write_text("{torn")
    assert wandb_run._run_id(tmp_path, None) not in (first, "theirs")


def test_disabled_and_none_write_nothing(environment: dict, tmp_path: Path, png: Path) -> None:
    run = tmp_path / "first"
    done = train(environment, run, png, mode="disabled")
    assert done.where == ["Weights & Biases: off"]
    assert list(run.iterdir()) == []
    assert open_trackers(run, config={}, log_with=("none",)).where == []


def test_unknown_or_missing_trackers_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with raises("unknown-tracker", "--log-with tensorbord", "wandb, tensorboard"):
        open_trackers(tmp_path, config={}, log_with=("tensorbord",))
    with raises("invalid-value", "--wandb-mode never"):
        open_trackers(tmp_path, config={}, log_with=(), mode="never")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with raises("package-missing", "pip install trackio"):
        open_trackers(tmp_path, config={}, log_with=("trackio",))


# ---------------------------------------------------------------- other trackers


def test_tensorboard_hides_rows_that_a_resume_repeats(tmp_path: Path, png: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "first"
    for start in (0, 300):
        trackers = open_trackers(run, config={"batch": 16}, log_with=("tensorboard",), resumed_at=start)
        for n in range(1, 6):
            trackers.log(start + 100 * n, {"loss/d": n / 4})
        trackers.log_grid(start + 500, png, ["blue hair"])
        trackers.close()
        time.sleep(1.1)  # event files are ordered by the second in their names
    assert trackers.where[0].startswith("TensorBoard: tensorboard --logdir ")
    events = reader.EventAccumulator(str(run / "tensorboard" / "first"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss/d")] == [100, 200, 300, 400, 500, 600, 700, 800]
    assert [event.step for event in events.Images("samples/grid")] == [800]


def test_trackio_uses_no_network(environment: dict, tmp_path: Path, png: Path) -> None:
    pytest.importorskip("trackio")
    run = tmp_path / "first"
    guard = tmp_path / "guard"
    guard.mkdir()
    # Python imports this at startup: it records host look-ups and connections.
    (guard / "sitecustomize.py").write_text(
        "import sys\n"
        f"file = open({str(tmp_path / 'network')!r}, 'a')\n"
        "seen = ('socket.connect', 'socket.getaddrinfo', 'subprocess.Popen')\n"
        "sys.addaudithook(lambda e, a: e in seen and print(e, a, file=file, flush=True))\n"
    )
    done = train({**environment, "PYTHONPATH": f"{guard}:{ROOT}"}, run, png, log_with=["trackio"])
    noted = (tmp_path / "network").read_text().splitlines()
    assert [line for line in noted if line.startswith("socket")] == []
    assert done.warnings == []
    assert done.closed < 20
    assert done.where == ["Trackio: TRACKIO_DIR=first/trackio trackio show --project cgan-trainer"]
    (database,) = (run / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
    assert [step for step, _ in rows] == [100, 200, 300, 400, 500, 500]
    assert json.loads(rows[0][1])["loss/d"] == 1.0
    assert json.loads(rows[5][1])["samples/grid"]["caption"] == "blue hair; red hair"


def test_other_trackers_get_numbers_and_cannot_prompt(
    tmp_path: Path, png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerate = pytest.importorskip("accelerate.tracking")
    received: list[tuple[object, ...]] = []

    class Quiet(accelerate.GeneralTracker):
        """A tracker class like those of Accelerate."""

        name, requires_logging_directory, tracker = "dvclive", True, None

        def __init__(self, project: str, directory: Path) -> None:
            super().__init__()
            received.append((project, directory))

        def store_init_configuration(self, values: dict) -> None:
            received.append(("config", values))

        def log(self, values: dict, step: int | None = None, **kwargs: object) -> None:
            received.append((step, values))

        def finish(self) -> None:
            received.append(("finish",))

    class Asking(Quiet):
        def start(self) -> None:
            input("your key? ")

    warnings: list[str] = []
    monkeypatch.setattr("trainer.tracking.trackers.find_spec", lambda name: name)
    for kind in (Quiet, Asking):
        monkeypatch.setitem(accelerate.LOGGER_TYPE_TO_CLASS, "dvclive", kind)
        trackers = open_trackers(
            tmp_path, config={"a": (1, 2)}, log_with=("dvclive",), project="mine", warn=warnings.append
        )
        trackers.log(64, {"loss/d": 0.5, "loss/g": float("inf")})
        trackers.log_grid(64, png, ["red hair"])
        trackers.close()
    opened = ("mine", tmp_path / "dvclive")
    assert received == [opened, ("config", {"a": "1, 2"}), (64, {"loss/d": 0.5}), ("finish",), opened]
    (warning,) = warnings
    assert_printed(warning, "tracker-failed", "dvclive")


# ---------------------------------------------------------------- trackers that fail


class Broken(Sink):
    """A tracker that raises on its second row."""

    name, where = "Broken", ""

    def __init__(self) -> None:
        self.rows = 0

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        self.rows += 1
        if self.rows == 2:
            raise ConnectionError("the line is cut\nand more")

    def log_grid(self, images_seen: int, png: Path, caption: str) -> None: ...
    def close(self, exit_code: int) -> None: ...


class Sound(Broken):
    name = "Sound"
    closed: int | None = None

    def log(self, images_seen: int, values: Mapping[str, float]) -> None:
        self.rows += 1

    def close(self, exit_code: int) -> None:
        self.closed = exit_code


def test_mlflow_gets_valid_names() -> None:
    other = trackers._Other.__new__(trackers._Other)
    other.name = "mlflow"
    assert other._key("evaluate/fidelity/hair (long…/short): 1") == "evaluate/fidelity/hair _long_/short__ 1"
    assert other._key("loss/d") == "loss/d" and len(other._key("x" * 999)) == 250


def test_tracker_that_fails_is_disabled_with_one_warning() -> None:
    broken, sound, warnings = Broken(), Sound(), []
    trackers = Trackers([broken, sound], [], warnings.append)
    for n in range(5):
        trackers.log(n, {"loss/d": 1.0})
    trackers.close(3)
    trackers.close()
    (warning,) = warnings
    assert_printed(warning, "tracker-failed", "Broken", "(the line is cut)")
    assert (broken.rows, sound.rows, sound.closed) == (2, 5, 3)


def test_second_run_in_one_process_has_its_own_files(environment: dict, tmp_path: Path) -> None:
    """Files of artifacts wait in W&B's data directory, which is the run's, unless the user has named one."""
    program = """
import os, sys
from pathlib import Path
from trainer.tracking.wandb_run import open_run

for name in sys.argv[1:]:
    run = open_run(Path(name), {}, None, None, None, "offline", print)
    print(name, os.environ["WANDB_DATA_DIR"], flush=True)
    run.close(0)
print("after", os.environ.get("WANDB_DATA_DIR"))
"""
    runs = [tmp_path / "one", tmp_path / "two"]
    for named in (None, str(tmp_path / "named")):
        variables = {**environment, "WANDB_DATA_DIR": named or ""}
        if named is None:
            del variables["WANDB_DATA_DIR"]
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, runs)], env=variables, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        expected = [f"{run} {named or run.resolve() / 'wandb'}" for run in runs] + [f"after {named}"]
        assert [line for line in done.stdout.splitlines() if line in expected] == expected, done.stdout


def test_second_run_in_one_process_has_its_own_settings(environment: dict, tmp_path: Path) -> None:
    """W&B reads its environment variables once per process, but not while a run of somebody else is open."""
    program = """
import os, sys
from pathlib import Path
import wandb
from trainer.tracking.wandb_run import open_run

for name in ("one", "two", "three"):
    if name == "three":
        other = wandb.init(mode="offline", dir=sys.argv[1], settings=wandb.Settings(silent=True, console="off"))
    os.environ |= {"WANDB_PROJECT": f"project-{name}", "WANDB_RUN_GROUP": f"group-{name}"}
    run = open_run(Path(sys.argv[1], name), {}, None, None, None, "offline", print)
    print(name, run._run.project, run._run.group, flush=True)
    run.close(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stdout.splitlines() if " project-" in line]
    assert found[:2] == ["one project-one group-one", "two project-two group-two"]
    assert found[2] == "three project-two group-two", "the open run is not ended"


def test_dataset_is_logged_without_paths_and_keys(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    key = f"s3://{KEY}@bucket/faces"
    dataset.manifest |= {"source": {"folder": "/home/ann/faces", key: [key, ("/home/ann/faces", 7)]}}
    made = artifacts.of_dataset(dataset)
    manifest = made.files["manifest.json"]
    assert isinstance(manifest, bytes) and KEY not in manifest.decode() and "ann" not in manifest.decode()
    expected = {"folder": "…/faces", "s3://bucket/faces": ["s3://bucket/faces", ["…/faces", 7]]}
    assert json.loads(manifest)["source"] == expected


def test_checkpoint_that_is_deleted_meanwhile_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (made,) = artifacts.of_checkpoints(run)
    logged: list[object] = []
    active = SimpleNamespace(
        id="abc", define_metric=lambda *_, **__: None, log_artifact=lambda *a, **_: logged.append(a)
    )
    tracker = wandb_run.WandbRun(active, "", run, run / "tracking.json", contextlib.ExitStack())
    shutil.rmtree(next((run / "checkpoints").glob("*128")))
    tracker.log_artifact(made)
    assert not logged and not (run / "tracking.json").exists() and not made.is_there


def test_damaged_checkpoint_leaves_the_generators_of_the_others(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    first = next((run / "checkpoints").glob("*128"))
    shutil.copytree(first, first.with_name("0" * (len(first.name) - 3) + "256"))  # says 128, so it is damaged
    checkpoint.mark_best(run, checkpoint.Best(128, "distance", 1.0))
    warned: list[str] = []
    found = list(artifacts.of_generators(run, tmp_path / "files", lambda what, error: warned.append(what)))
    assert [made.key for made in found] == ["generator 128"] and warned == ["the generator of 256 images"]


def test_tracker_that_takes_no_artifact_keeps_its_metrics() -> None:
    class Refusing(Sound):
        asked = 0

        def log_artifact(self, artifact: Artifact) -> None:
            self.asked += 1
            raise OSError(f"no space, {KEY}")

    sink, warnings = Refusing(), []
    trackers = Trackers([sink], [], warnings.append)
    for n in range(3):
        trackers.log_artifact(Artifact("dataset 1", "faces", "dataset", {}))
        trackers.log_table(n, [])
        trackers.log(n, {"loss/d": 1.0})
        trackers.alert("title", "text")
    (warning,) = warnings
    assert_printed(warning, "tracker-failed", "Sound", "no space")
    assert (sink.asked, sink.rows) == (1, 3)


def test_reason_hides_api_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_run.reason(ValueError(f"bad key {KEY}.\nmore")) == "bad key …"
    assert wandb_run.reason(TimeoutError()) == "TimeoutError"
