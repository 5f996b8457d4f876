"""The workspace at W&B: what it shows is what a run logs, its JSON, and saving it to a server on this machine.

golden_dashboard.json is the workspace as it is sent. If a change was meant, write it anew and say why in the commit:

    python -m launch dashboard --project cgan-trainer --json tests/unit/launch/golden_dashboard.json
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
from launch.dashboard.sections import CLOCK, SECTIONS, Bars, Lines, Pictures
from shards.core.errors import UserError
from support import ROOT
from support.fake_wandb import FakeWandb
from support.launching import TINY, make_dataset, train
from trainer import metric_names

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb_workspaces")

GOLDEN = Path(__file__).resolve().parent / "golden_dashboard.json"
CURVES = ROOT / "tests" / "contracts" / "golden_curves.json"
INNER = {"spread/real", "spread/fake"}  # of a step; a run logs their ratio

KEYS = {key for s in SECTIONS for p in s.panels if isinstance(p, Lines | Bars | Pictures) for key in p.keys}
PATTERNS = [p.pattern for s in SECTIONS for p in s.panels if isinstance(p, Lines) and p.pattern]
SYSTEM = {key for key in KEYS if key.startswith("system/")}


def shown(key: str) -> bool:
    return key in KEYS or any(re.search(pattern, key) for pattern in PATTERNS)


# ---------------------------------------------------------------- what it shows


@pytest.fixture(scope="module")
def logged_keys(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """All that runs log: a real one with what can be added to it, and the stored curves of those with a classifier."""
    folder = tmp_path_factory.mktemp("logged")
    make_dataset(folder, 160)
    further = "--augment ada --interpolate 1 --decay cosine --decay-images 64 --evaluate-every 64".split()
    words = (*TINY, "--shards", folder / "data", "--run", folder / "run", "--total-images", 64, *further)
    train(*words, XDG_CACHE_HOME=str(tmp_path_factory.getbasetemp() / "evaluate-cache"))
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    curves = json.loads(CURVES.read_text())
    return {key for row in [*rows, *curves.values()] for key in row} - INNER


@pytest.mark.long
def test_it_shows_what_is_logged_and_nothing_else(logged_keys: set[str]) -> None:
    assert not KEYS - SYSTEM - {metric_names.GRID} - logged_keys, "nothing logs these: their panels stay empty"
    assert not {key for key in logged_keys if not shown(key)}, "no panel shows these"
    for pattern in PATTERNS:
        assert any(re.search(pattern, key) for key in logged_keys), f"nothing logged matches {pattern}"


def test_every_name_is_shown_and_explained() -> None:
    names = {value for name, value in vars(metric_names).items() if name.isupper()}
    assert not {name for name in names if not name.endswith("/") and not shown(name)}, "no panel shows these"
    documented = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
    assert not {name for name in names if f"`{name}" not in documented}, "docs/tracking.md does not tell of these"


def test_curves_stand_over_images_seen() -> None:
    assert CLOCK == metric_names.CLOCK
    spec = workspace.to_json(workspace.build("p", "e", "n"))["spec"]["section"]
    assert spec["settings"]["xAxis"] == CLOCK
    for section in spec["panelBankConfig"]["sections"]:
        assert section["localPanelSettings"]["xAxis"] == CLOCK
        for panel in section["panels"]:
            config = panel["config"]
            over_time = section["name"] == "System" or config.get("metrics") == [CLOCK]
            assert config.get("xAxis", CLOCK) == ("_absolute_runtime" if over_time else CLOCK)


# ---------------------------------------------------------------- its JSON


def launch(*words: object, **extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch", "dashboard", *map(str, words)]
    return subprocess.run(
        command, env={**os.environ, **extra}, capture_output=True, text=True, timeout=110, check=False
    )


def test_the_json_is_the_stored_one(tmp_path: Path) -> None:
    done = launch("--project", "cgan-trainer", "--json", tmp_path / "made.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "made.json").read_text()) == json.loads(GOLDEN.read_text())
    assert (tmp_path / "made.json").read_bytes() == GOLDEN.read_bytes(), "the same to the byte, each time"
    assert "wrote" in done.stdout and "nothing was sent" in done.stdout


def test_each_panel_has_an_id_of_its_own() -> None:
    sections = workspace.to_json(workspace.build("p", "e", "n"))["spec"]["section"]["panelBankConfig"]["sections"]
    ids = [panel["__id__"] for section in sections for panel in section["panels"]]
    assert len(set(ids)) == len(ids) == sum(len(section.panels) for section in SECTIONS)
    assert workspace.build("p", "e", "n")._internal_name != workspace.build("p", "e", "m")._internal_name


def test_the_environment_names_the_project(tmp_path: Path) -> None:
    launch("--json", tmp_path / "made.json", "--entity", "me", WANDB_PROJECT="theirs", WANDB_ENTITY="team")
    made = json.loads((tmp_path / "made.json").read_text())
    assert (made["project"], made["entity"]) == ("theirs", "me"), "an option stands above it"


def test_a_dry_run_lists_every_panel(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(SECTIONS) + sum(len(section.panels) for section in SECTIONS)
    assert "Losses" in lines and any(metric_names.FIDELITY in line for line in lines)


def test_no_torch_is_loaded() -> None:
    code = "import sys; from launch.dashboard import command, workspace; workspace.build('p', 'e', 'n'); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- saving it


@pytest.fixture
def server() -> Iterator[FakeWandb]:
    fake = FakeWandb()
    fake.projects.add("cgan-trainer")
    yield fake
    fake.stop()


def online(server: FakeWandb) -> dict[str, str]:
    return {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "k3y" * 13 + "z"}


def test_running_twice_makes_one_workspace_and_keeps_what_is_a_persons_own(server: FakeWandb) -> None:
    done = launch("--entity", "team", **online(server))
    assert done.returncode == 0 and done.stdout.startswith(f"made: {server.url}/team/cgan-trainer?nw="), done.stderr
    ((name, view),) = server.views.items()
    golden = json.loads(GOLDEN.read_text())
    assert (name, view["displayName"], json.loads(view["spec"])) == (golden["name"], "cgan-trainer", golden["spec"])

    touched: dict[str, Any] = json.loads(view["spec"])
    touched["section"]["customRunColors"] = {"abc": "#ff0000"}
    touched["section"]["runSets"][0]["search"]["query"] = "first"
    touched["section"]["panelBankConfig"]["sections"] = []
    view["spec"] = json.dumps(touched)
    done = launch("--entity", "team", **online(server))
    assert done.returncode == 0 and done.stdout.startswith(f"brought up to date: {server.url}/team/cgan"), done.stderr
    ((again, after),) = server.views.items()
    assert (again, after["id"]) == (name, view["id"])
    now = json.loads(after["spec"])["section"]
    assert now["customRunColors"] == {"abc": "#ff0000"} and now["runSets"][0]["search"]["query"] == "first"
    assert now["panelBankConfig"] == golden["spec"]["section"]["panelBankConfig"]


def test_without_an_entity_it_is_the_account_s_own(server: FakeWandb) -> None:
    assert f"{server.url}/local/cgan-trainer?nw=" in launch(**online(server)).stdout


def complaint(done: subprocess.CompletedProcess[str], status: int) -> str:
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_project_that_is_not_there(server: FakeWandb) -> None:
    line = complaint(launch("--project", "elsewhere", **online(server)), 2)
    assert "there is no project local/elsewhere that this key may see" in line and server.views == {}


def test_a_server_that_is_not_there(server: FakeWandb) -> None:
    server.stop()
    line = complaint(launch(**online(server)), 1)
    assert "did not take the workspace" in line and "refused" in line and "--json FILE" in line


def test_a_key_that_the_server_does_not_know(server: FakeWandb) -> None:
    server.status = 401
    line = complaint(launch(**online(server)), 1)
    assert "401" in line and "k3y" not in line


def test_a_workspace_that_cannot_be_read_is_left_as_it_is(server: FakeWandb) -> None:
    name = json.loads(GOLDEN.read_text())["name"]
    strange = {"id": "v", "name": name, "entityName": "local", "projectName": "cgan-trainer", "displayName": "x"}
    server.views[name] = {**strange, "spec": '{"section": {}}'}
    assert "did not take the workspace" in complaint(launch(**online(server)), 1)
    assert server.views == {name: {**strange, "spec": '{"section": {}}'}}


def test_without_a_key() -> None:
    assert "no key here; `wandb login` sets one" in complaint(launch(), 2)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed.*pip install 'cgan-trainer\[dashboard\]'"):
        workspace.build("p", "e", "n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"project": "a/b"}, "--project 'a/b': W&B takes"),
        ({"project": ""}, "--project '': W&B takes"),
        ({"entity": "e" * 200}, "--entity '"),
        ({"name": " "}, "--name ' ': a workspace needs a name"),
        ({"dry_run": True, "json": Path("x.json")}, "--dry-run writes nothing"),
    ],
)
def test_names_that_cannot_be(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        Dashboard(**words)
    assert str(caught.value).startswith(sentence)


def test_a_name_with_an_emoji_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="W&B takes no emoji"):
        workspace.build("p", "e", "\N{SMILING FACE WITH SUNGLASSES}")
    line = complaint(launch("--json", tmp_path / "none" / "x.json"), 2)
    assert "there is no folder" in line and not list(tmp_path.iterdir())
