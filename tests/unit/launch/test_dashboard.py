"""The W&B workspace: it shows what a run logs, its JSON, and saving it to a local server.

golden_dashboard.json is the workspace as it is sent. After an intended change, regenerate it and say why in the commit:

    cgan dashboard --project cgan-trainer --json tests/unit/launch/golden_dashboard.json
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.dashboard import workspace
from launch.dashboard.command import Dashboard, main
from launch.dashboard.sections import CLOCK, SECTIONS, Bars, Images, Lines
from support import ROOT
from support.errors import assert_printed, raises
from support.fake_wandb import FakeWandb
from support.launching import TINY, make_dataset, train
from trainer import metric_names

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb_workspaces")

GOLDEN = Path(__file__).resolve().parent / "golden_dashboard.json"
CURVES = ROOT / "tests" / "contracts" / "golden_curves.json"
INNER = {"spread/real", "spread/fake"}  # metrics of a step; a run logs their ratio

KEYS = {key for s in SECTIONS for p in s.panels if isinstance(p, Lines | Bars | Images) for key in p.keys}
PATTERNS = [p.pattern for s in SECTIONS for p in s.panels if isinstance(p, Lines) and p.pattern]
SYSTEM = {key for key in KEYS if key.startswith("system/")}


def shown(key: str) -> bool:
    return key in KEYS or any(re.search(pattern, key) for pattern in PATTERNS)


# ---------------------------------------------------------------- panels


@pytest.fixture(scope="module")
def logged_keys(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """All metric keys of a real run with all extras, and of the golden curves (which include a classifier)."""
    folder = tmp_path_factory.mktemp("logged")
    make_dataset(folder, 160)
    further = "--augment ada --interpolate 1 --mode-seeking 1 --decay cosine --decay-images 64".split()
    further += "--evaluate-every 64 --grid-every 64 --label-loss 0.5 --pseudo-labels 0.9".split()
    words = (*TINY, "--shards", folder / "data", "--run", folder / "run", "--total-images", 64, *further)
    train(*words, XDG_CACHE_HOME=str(tmp_path_factory.getbasetemp() / "evaluate-cache"))
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    curves = json.loads(CURVES.read_text())
    return {key for row in [*rows, *curves.values()] for key in row} - INNER


@pytest.mark.long
def test_panels_show_exactly_what_is_logged(logged_keys: set[str]) -> None:
    assert not KEYS - SYSTEM - {metric_names.GRID} - logged_keys, "nothing logs these, so their panels stay empty"
    assert not {key for key in logged_keys if not shown(key)}, "no panel shows these"
    for pattern in PATTERNS:
        assert any(re.search(pattern, key) for key in logged_keys), f"nothing logged matches {pattern}"


def test_every_metric_is_shown_and_documented() -> None:
    names = {value for name, value in vars(metric_names).items() if name.isupper()}
    curves = names - {metric_names.TABLE}  # W&B shows a table by itself
    assert not {name for name in curves if not name.endswith("/") and not shown(name)}, "no panel shows these"
    documented = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
    assert not {name for name in names if f"`{name}" not in documented}, "docs/tracking.md does not document these"


def test_the_x_axis_is_images_seen() -> None:
    assert CLOCK == metric_names.CLOCK
    spec = workspace.to_json(workspace.build("p", "e", "n"))["spec"]["section"]
    assert spec["settings"]["xAxis"] == CLOCK
    for section in spec["panelBankConfig"]["sections"]:
        assert section["localPanelSettings"]["xAxis"] == CLOCK
        for panel in section["panels"]:
            config = panel["config"]
            over_time = section["name"] == "System" or config.get("metrics") == [CLOCK]
            assert config.get("xAxis", CLOCK) == ("_absolute_runtime" if over_time else CLOCK)


# ---------------------------------------------------------------- JSON


def launch(*words: object, **extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch", "dashboard", *map(str, words)]
    return subprocess.run(
        command, env={**os.environ, **extra}, capture_output=True, text=True, timeout=110, check=False
    )


def test_json_equals_the_golden_file(tmp_path: Path) -> None:
    done = launch("--project", "cgan-trainer", "--json", tmp_path / "made.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "made.json").read_text()) == json.loads(GOLDEN.read_text())
    assert (tmp_path / "made.json").read_bytes() == GOLDEN.read_bytes(), "equal to the byte"
    assert str(tmp_path / "made.json") in done.stdout


def test_panel_ids_are_unique() -> None:
    sections = workspace.to_json(workspace.build("p", "e", "n"))["spec"]["section"]["panelBankConfig"]["sections"]
    ids = [panel["__id__"] for section in sections for panel in section["panels"]]
    assert len(set(ids)) == len(ids) == sum(len(section.panels) for section in SECTIONS)
    assert workspace.build("p", "e", "n")._internal_name != workspace.build("p", "e", "m")._internal_name


def test_project_and_entity_come_from_options_before_the_environment(tmp_path: Path) -> None:
    launch("--json", tmp_path / "made.json", "--entity", "me", WANDB_PROJECT="theirs", WANDB_ENTITY="team")
    made = json.loads((tmp_path / "made.json").read_text())
    assert (made["project"], made["entity"]) == ("theirs", "me"), "an option overrides the environment"


def test_dry_run_lists_every_panel(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(SECTIONS) + sum(len(section.panels) for section in SECTIONS)
    assert "Losses" in lines and any(metric_names.FIDELITY in line for line in lines)


def test_torch_is_not_imported() -> None:
    code = "import sys; from launch.dashboard import command, workspace; workspace.build('p', 'e', 'n'); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- saving


@pytest.fixture
def server() -> Iterator[FakeWandb]:
    fake = FakeWandb()
    fake.projects.add("cgan-trainer")
    yield fake
    fake.stop()


def online(server: FakeWandb) -> dict[str, str]:
    return {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "k3y" * 13 + "z"}


def test_running_twice_updates_the_workspace_and_keeps_personal_settings(server: FakeWandb) -> None:
    done = launch("--entity", "team", **online(server))
    assert done.returncode == 0 and done.stdout.startswith(f"created: {server.url}/team/cgan-trainer?nw="), done.stderr
    ((name, view),) = server.views.items()
    golden = json.loads(GOLDEN.read_text())
    assert (name, view["displayName"], json.loads(view["spec"])) == (golden["name"], "cgan-trainer", golden["spec"])

    touched: dict[str, Any] = json.loads(view["spec"])
    touched["section"]["customRunColors"] = {"abc": "#ff0000"}
    touched["section"]["runSets"][0]["search"]["query"] = "first"
    touched["section"]["panelBankConfig"]["sections"] = []
    view["spec"] = json.dumps(touched)
    done = launch("--entity", "team", **online(server))
    assert done.returncode == 0 and done.stdout.startswith(f"updated: {server.url}/team/cgan"), done.stderr
    ((again, after),) = server.views.items()
    assert (again, after["id"]) == (name, view["id"])
    now = json.loads(after["spec"])["section"]
    assert now["customRunColors"] == {"abc": "#ff0000"} and now["runSets"][0]["search"]["query"] == "first"
    assert now["panelBankConfig"] == golden["spec"]["section"]["panelBankConfig"]


def test_without_an_entity_the_account_s_default_is_used(server: FakeWandb) -> None:
    assert f"{server.url}/local/cgan-trainer?nw=" in launch(**online(server)).stdout


def assert_failed(done: subprocess.CompletedProcess[str], status: int, code: str, *named: str) -> None:
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert_printed(done.stderr, code, *named)


def test_a_missing_project(server: FakeWandb) -> None:
    assert_failed(launch("--project", "elsewhere", **online(server)), 2, "wandb-project-missing", "local/elsewhere")
    assert server.views == {}


def test_an_unreachable_server(server: FakeWandb) -> None:
    server.stop()
    assert_failed(launch(**online(server)), 1, "wandb-failed", "refused", "--json FILE")


def test_an_invalid_key(server: FakeWandb) -> None:
    server.status = 401
    done = launch(**online(server))
    assert_failed(done, 1, "wandb-failed", "401")
    assert "k3y" not in done.stderr


def test_an_unreadable_workspace_is_left_unchanged(server: FakeWandb) -> None:
    name = json.loads(GOLDEN.read_text())["name"]
    strange = {"id": "v", "name": name, "entityName": "local", "projectName": "cgan-trainer", "displayName": "x"}
    server.views[name] = {**strange, "spec": '{"section": {}}'}
    assert_failed(launch(**online(server)), 1, "wandb-failed")
    assert server.views == {name: {**strange, "spec": '{"section": {}}'}}


def test_a_missing_key() -> None:
    assert_failed(launch(), 2, "wandb-key-missing", "wandb login")


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "find_spec", lambda name: None)
    with raises("package-missing", "cgan-trainer[dashboard]"):
        workspace.build("p", "e", "n")


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ({"project": "a/b"}, "invalid-value", "--project 'a/b'"),
        ({"project": ""}, "invalid-value", "--project ''"),
        ({"entity": "e" * 200}, "invalid-value", "--entity '"),
        ({"name": " "}, "invalid-value", "--name ' '"),
        ({"dry_run": True, "json": Path("x.json")}, "option-conflict", "--dry-run"),
    ],
)
def test_invalid_names(options: dict[str, Any], code: str, named: str) -> None:
    with raises(code, named):
        Dashboard(**options)


def test_a_name_with_an_emoji_and_a_missing_directory(tmp_path: Path) -> None:
    with raises("invalid-value", "--name"):
        workspace.build("p", "e", "\N{SMILING FACE WITH SUNGLASSES}")
    missing = tmp_path / "none"
    assert_failed(launch("--json", missing / "x.json"), 2, "directory-missing", str(missing))
    assert not list(tmp_path.iterdir())
