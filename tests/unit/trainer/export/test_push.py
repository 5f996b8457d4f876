"""A generator goes to the Hub with its card and comes back with the same pixels; no secret goes along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

import trainer
from shards.core.errors import Failure, UserError
from shards.dataset.schema import Attribute, Schema
from support.errors import raises
from support.generators import make_run
from support.hub import TOKEN, Hub, serving, use
from trainer.export.push import main
from trainer.export.secrets import check_no_secrets
from trainer.run import evaluation_file, lineage
from trainer.run.hub import parse_address
from trainer.run.lineage import Influence
from trainer.run.redaction import without_secrets
from trainer.sampling.command import main as sample

NAME = "ann/faces"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as server:
        use(server, tmp_path / "cache", monkeypatch)
        yield server


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "home" / "run")


def test_generator_comes_back_from_the_hub_with_the_same_pixels(run: Path, hub: Hub) -> None:
    main([str(run), NAME])
    assert set(hub.files(NAME)) == {
        ".gitattributes", "README.md", "config.json", "grid.png", "labels.safetensors", "model.safetensors",
        "schema.json",
    }  # fmt: skip
    expected = trainer.load(run).sample("blue hair", count=2)
    assert np.array_equal(trainer.load(f"hf://{NAME}").sample("blue hair", count=2), expected)


def test_cached_generator_needs_no_network(
    run: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main([str(run), NAME])
    first = hub.commits[NAME][-1][0]
    expected = trainer.load(f"hf://{NAME}").sample("hat", count=1)
    trainer.load(f"hf://{NAME}@{first}")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert np.array_equal(trainer.load(f"hf://{NAME}").sample("hat", count=1), expected)
    assert np.array_equal(trainer.load(f"hf://{NAME}@{first}").sample("hat", count=1), expected)
    with raises("hub-failed", "hf://ann/other", kind=Failure):
        trainer.load("hf://ann/other")


def test_revisions_and_the_command(run: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main([str(run), NAME])
    first = hub.commits[NAME][-1][0]
    other = make_run(tmp_path / "other", family="r3gan", size=12, channels=(16, 16))
    main([str(other), NAME])
    assert trainer.load(f"hf://{NAME}").saved.state.architecture.size == 12
    assert trainer.load(f"hf://{NAME}@{first}").saved.state.architecture.size == 8
    monkeypatch.chdir(tmp_path)
    sample([f"hf://{NAME}@{first}", "hat", "--count", "2"])
    sample([str(run), "hat", "--count", "2"])
    assert (tmp_path / "sample.png").read_bytes() == (run / "sample.png").read_bytes()
    with raises("hub-missing", "nothing"):
        trainer.load(f"hf://{NAME}@nothing")


def test_card_tells_what_was_recorded(run: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    words = json.loads((run / "schema.json").read_text())
    notes = {"name": "fa|ces", "pictures": "drawn by <b>Zoe</b>", "licence": "CC0 1.0", "samples": 5000, "size": 8}
    (run / "schema.json").write_text(json.dumps({**words, "dataset": {**notes, "fingerprint": "f00d"}}))
    (run / "metrics.jsonl").write_text('{"images_seen": 128, "speed/images_per_second": 0.01}\n')
    figures = {"figures": {"fid": 12.5}, "real": {"fid": 1.9}, "count": 500, "notes": ["a note"]}
    figures["marks"] = {"fid": ["training-images"]}
    evaluation_file.add(run, 128, figures)
    evaluation_file.add(run, 256, {**figures, "figures": {"fid": 99.9}})
    images = Influence("images", "training images", "fa|ces", "f00d")
    lineage.write(run, [images, Influence("network", "judge", "", "")])
    main([str(run), NAME, "--card-only", "--licence", "cc0-1.0"])
    card = capsys.readouterr().out
    assert not hub.seen
    for word in (
        "license: cc0-1.0", "f00d",
        "fa\\|ces", "drawn by &lt;b&gt;Zoe&lt;/b&gt;", "| licence of the images | CC0 1.0 |",
        "| hair | exclusive | blue hair, red hair, grey hair |",
        "| fid | 12.5\\* | 1.9 |", "\\* compared with images of the training",
        "a note", "128", "(abc)", "| training images | fa\\|ces | f00d |", "| judge | — | — |",
        f'trainer.load("hf://{NAME}")', "3 h 33 min", "5,000 of 8x8 pixels",
    ):  # fmt: skip
        assert word in card, word
    assert "99.9" not in card, "the evaluation of another checkpoint"
    main([str(run), NAME])
    sent = hub.files(NAME)["README.md"].decode()
    assert "![" in sent and "grid.png" in sent and "<b>" not in sent
    there = trainer.load(f"hf://{NAME}").saved.path
    assert evaluation_file.read(there)[128][0]["figures"] == {"fid": 12.5} and lineage.read(there)


def test_hub_reads_the_metadata_of_a_card(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(run), NAME, "--card-only", "--licence", "cc0-1.0"])
    card = ModelCard(capsys.readouterr().out)
    assert card.data.to_dict() == {
        "library_name": "cgan-trainer",
        "pipeline_tag": "text-to-image",
        "license": "cc0-1.0",
        "tags": ["gan", "conditional-gan", "image-generation"],
    }


def test_card_says_what_was_not_recorded(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(run), NAME, "--card-only"])
    card = capsys.readouterr().out
    assert "No evaluation" in card and "from words. It" in card
    assert "| licence of the images | not recorded |" in card and "license:" not in card


# ---------------------------------------------------------------- secrets


def test_no_secret_is_sent_or_printed(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = make_run(
        tmp_path / "home" / "run", config={"shards": "https://zoe:s3cret@h/d?sig=t0ken", "run": "/home/zoe/r"}
    )
    words = json.loads((run / "schema.json").read_text())
    notes = {"pictures": "https://zoe:s3cret@example.com/d?sig=t0ken in /home/zoe/faces", "fingerprint": "f00d"}
    (run / "schema.json").write_text(json.dumps({**words, "dataset": notes}))
    main([str(run), NAME])
    sent = b"".join(hub.files(NAME).values())
    printed = "".join(capfd.readouterr())
    for word in ("zoe", "s3cret", "t0ken", TOKEN, str(tmp_path)):
        assert word.encode() not in sent and word not in printed, word
    assert b"https://example.com/d" in sent


def test_known_secret_stops_the_upload(run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    words = json.loads((run / "schema.json").read_text())
    (run / "schema.json").write_text(json.dumps({**words, "aliases": {TOKEN: "hat"}}))
    with raises("secret-in-export", "schema.json") as caught:
        main([str(run), NAME])
    assert TOKEN not in str(caught.value) and not hub.commits
    monkeypatch.setenv("MY_API_KEY", "blue hair")
    (run / "schema.json").write_text(json.dumps(words))
    with raises("secret-in-export", "$MY_API_KEY"):
        main([str(run), NAME])


def test_notes_lose_keys_and_paths_only() -> None:
    text = "drawn with a/b testing, CC0 1.0 (https://ann:pw@x.org/a/b?token=1#f) from /data/ann/faces and ~/faces/x.png"
    assert without_secrets(text) == "drawn with a/b testing, CC0 1.0 (https://x.org/a/b from …/faces and …/x.png"
    assert without_secrets("from C:\\Users\\ann\\faces") == "from …/faces"
    assert without_secrets("see [https://a:pw@x.org](https://a:pw@x.org)") == "see [https://x.org](https://x.org)"
    assert without_secrets("see https://a:pw@x.org]") == "see …"


def test_notes_lose_a_home_directory_whose_name_has_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann lee")
    assert without_secrets("from /home/ann lee/runs/first and /home/ann lee") == "from …/first and ~"
    assert without_secrets("from file:///home/ann lee/x") == "from file://~/x"
    monkeypatch.setenv("HOME", "/root")
    assert without_secrets("in /data/root/faces and /root") == "in …/faces and ~"


def evaluated(run: Path, note: str) -> None:
    evaluation_file.add(run, 128, {"figures": {"fid": 1.5}, "real": {"fid": 1.0}, "count": 9, "notes": [note]})


def test_notes_of_an_evaluation_lose_paths(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(run, "fid is left out: the run was not trained on /data/zoe/private")
    main([str(run), NAME, "--card-only"])
    card = capsys.readouterr().out
    assert "zoe" not in card and "not trained on …/private" in card


@pytest.mark.parametrize("secret", [TOKEN, "pass*word<1>", "pässwörd-𝄞", 'back\\slash"quote'])
def test_secret_is_found_behind_escapes(
    secret: str, run: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_PASSWORD", secret)
    evaluated(run, f"measured with {secret}")
    with raises("secret-in-export", "README.md"):
        main([str(run), NAME])
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "schema.json").write_text(json.dumps({"aliases": secret}))
    with raises("secret-in-export", "schema.json"):
        check_no_secrets(tmp_path / "export")


def test_example_of_a_card_runs_nothing_in_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = Schema((Attribute("word", "exclusive", ("$(curl x|sh) `id` !1 \\", "other")),))
    main([str(make_run(tmp_path / "run", schema)), NAME, "--card-only"])
    card = capsys.readouterr().out
    command = card.partition("or `cgan sample ")[2].partition("--count")[0]
    assert "curl" in command and not set("$`!\\") & set(command)


def test_check_reads_texts_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff secret-secret")
    monkeypatch.setenv("SOME_TOKEN", "secret-secret")
    check_no_secrets(tmp_path)
    (tmp_path / "README.md").write_text("secret-secret")
    with raises("secret-in-export", "README.md", "$SOME_TOKEN"):
        check_no_secrets(tmp_path)


# ---------------------------------------------------------------- what goes wrong


def test_card_of_a_person_is_kept(run: Path, hub: Hub) -> None:
    hub.commit(NAME, {"README.md": b"by hand"})
    with raises("output-exists", NAME, "--force"):
        main([str(run), NAME])
    assert len(hub.commits[NAME]) == 1
    main([str(run), NAME, "--force"])
    assert b"by hand" not in hub.files(NAME)["README.md"]
    main([str(run), NAME])  # its own card needs no force


def test_card_that_cannot_be_looked_at_is_not_taken_for_missing(run: Path, hub: Hub) -> None:
    main([str(run), NAME])
    main([str(run), NAME])  # now the cache has a card of ours
    for name in (NAME, "ann/other"):
        hub.commit(name, {"README.md": b"by hand"})
        hub.broken = "/README.md"
        with raises("hub-failed", name, kind=Failure):
            main([str(run), name])
        assert hub.files(name)["README.md"] == b"by hand"
        hub.broken = ""


def test_private_repository(run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    main([str(run), NAME, "--private"])
    assert hub.private == {NAME}
    monkeypatch.delenv("HF_TOKEN")
    with raises("hub-missing", NAME, "logged in"):
        trainer.load(f"hf://{NAME}")


@pytest.mark.parametrize(("status", "code"), [(401, "hub-refused"), (403, "hub-refused"), (400, "hub-failed")])
def test_refusal_is_one_sentence(status: int, code: str, run: Path, hub: Hub) -> None:
    hub.refuse = status
    with raises(code, NAME, status, kind=Failure if code == "hub-failed" else UserError) as caught:
        main([str(run), NAME])
    assert TOKEN not in str(caught.value)


def test_hub_that_cannot_be_reached_is_one_sentence(
    run: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.url = "http://127.0.0.1:9"  # where nothing listens
    use(hub, tmp_path / "cache", monkeypatch)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's tries
    for action in (lambda: trainer.load(f"hf://{NAME}"), lambda: main([str(run), NAME])):
        with raises("hub-failed", f"hf://{NAME}", "try again", kind=Failure):
            action()


def test_foreign_repository_and_damaged_download(run: Path, hub: Hub, tmp_path: Path) -> None:
    hub.commit(NAME, {"config.json": b"{}"})
    with raises("not-an-export"):
        trainer.load(f"hf://{NAME}")
    hub.commit("ann/empty", {"README.md": b"x"})
    with raises("not-an-export", "ann/empty"):
        trainer.load("hf://ann/empty")
    main([str(run), "ann/good"])
    hub.commit("ann/good", {"schema.json": b"{}"})
    with raises("export-damaged", "schema.json"):
        trainer.load("hf://ann/good")


def test_missing_package_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for action in (lambda: trainer.load("hf://ann/faces"), lambda: main([str(run), NAME])):
        with raises("package-missing", 'pip install "cgan-trainer[hub]"'):
            action()


@pytest.mark.long
def test_commands_of_other_processes_use_the_hub(run: Path, hub: Hub, tmp_path: Path) -> None:
    """The stand-in is patched into this process above; here the library reads its own environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
    }
    printed = ""
    for words in (["push", str(run), NAME], ["sample", f"hf://{NAME}", "hat", "--count", "2", "--out", "hat.png"]):
        command = [sys.executable, "-m", "trainer", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        printed += done.stdout + done.stderr
    sample([str(run), "hat", "--count", "2", "--out", str(tmp_path / "own.png")])
    assert (tmp_path / "hat.png").read_bytes() == (tmp_path / "own.png").read_bytes()
    assert TOKEN not in printed and f"hf://{NAME}" in printed


@pytest.mark.parametrize(
    "address",
    ["hf://faces", "hf://a/b/c", "hf://a/b@", "hf://a/b@../x", "hf://../b", "hf:///b"]
    + ["hf://ann/faces.git", "hf://ann/fa--ces", "hf://ann/a..b"],
)
def test_address_that_is_none_is_one_sentence(address: str) -> None:
    with raises("invalid-address", address.rpartition("/")[2].partition("@")[0]):
        trainer.load(address)


def test_addresses_are_read_as_paths_too() -> None:
    assert parse_address(str(Path("hf://ann/faces@v1"))) == parse_address("hf://ann/faces@v1") == ("ann/faces", "v1")
    assert parse_address("hf://ann/faces") == ("ann/faces", None)


def test_invalid_names_and_licences(run: Path) -> None:
    with raises("invalid-address", "faces"):
        main([str(run), "faces"])
    with raises("invalid-value", "--licence"):
        main([str(run), NAME, "--licence", "mine\nx: y"])
