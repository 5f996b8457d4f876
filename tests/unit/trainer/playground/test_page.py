"""The page holds what it needs, asks for nothing, and takes no text of a dataset for HTML."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from shards.dataset.schema import Attribute
from support.browsers import answers_of, document_of, evaluate, text_of
from support.errors import raises
from support.small_runs import write_run
from trainer.export import command as export
from trainer.generation.sampler import load
from trainer.playground import asset_files, command

HOSTILE = "</script><img src=x onerror=document.title='taken'>"
HAIR = Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair"))
SMILE = Attribute("smile", "tag", ("smile",))
SIZES = Attribute("sizes", "vector", (), 2)


class Elements(HTMLParser):
    """Collects start tags, and the content of scripts and styles by (tag, id)."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[tuple[str, str | None], str] = {}
        self.open: tuple[str, str | None] | None = None
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = (tag, dict(attrs).get("id")) if tag in ("script", "style") else None

    def handle_data(self, data: str) -> None:
        if self.open:
            self.raw[self.open] = self.raw.get(self.open, "") + data

    def handle_endtag(self, tag: str) -> None:
        self.open = None


def write_page(run: Path, *attributes: Attribute, title: str = "A run") -> str:
    write_run(run, attributes)
    command.main([str(run), "--title", title])
    return (run / "playground.html").read_text()


def test_page_is_written_and_linked_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [HAIR, SMILE])
    (run / "report.html").write_text("")
    command.main([str(run)])
    said = capsys.readouterr().out
    size = (run / "playground.html").stat().st_size
    assert str(run / "playground.html") in said and f"{size / 1e6:.1f} MB" in said
    assert '<a href="playground.html">' in (run / "report.html").read_text()


def test_exported_generator_has_a_page_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", [HAIR, SMILE])
    export.main([str(run), str(tmp_path / "exported")])
    monkeypatch.chdir(tmp_path)
    command.main([str(tmp_path / "exported"), "--title", "run"])
    command.main([str(run)])
    assert (tmp_path / "playground.html").read_bytes() == (run / "playground.html").read_bytes()


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [HAIR])
    with raises("invalid-output-name", "page.png"):
        command.main([str(run), "--out", str(tmp_path / "page.png")])
    captioned = write_run(tmp_path / "captioned", [HAIR, Attribute("caption", "text", (), 4)])
    with raises("sentences-need-encoder"):
        command.main([str(captioned)])
    assert not list(tmp_path.rglob("*.html"))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hair = Attribute(HOSTILE, "exclusive", (HOSTILE, "<!-- <script>", "{{weights}}"))
    plain = Elements(write_page(tmp_path / "plain", HAIR))
    found = Elements(write_page(tmp_path / "hostile", hair, title=HOSTILE))
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    data = json.loads(found.raw["script", "page-data"])
    assert data["attributes"][0]["name"] == HOSTILE
    assert data["attributes"][0]["values"][2] == "{{weights}}"


def test_policy_admits_the_page_s_own_script_and_style_and_no_request(tmp_path: Path) -> None:
    document = write_page(tmp_path / "run", HAIR)
    found = Elements(document)
    policy = next(a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(found.raw[kind, None].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "http" not in policy
    assert not [a for _, a in found.tags if {"src", "href", "style", "onclick"} & set(a)]
    script = found.raw["script", None]
    assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|innerHTML|outerHTML|insertAdjacentHTML|\beval\(", script)


PLAY_AGAIN = """
globalThis.requestAnimationFrame = (then) => setTimeout(then, 1);
const view = Object.assign(Object.create(WalkView.prototype), { slider: { value: 0 }, play: {} });
let [now, most] = [0, 0]; // drawings at once
view.showPlace = async () => {
  most = Math.max(most, ++now);
  await new Promise((then) => setTimeout(then, 5));
  now--;
};
for (const playing of given) view.setPlaying(playing);
setTimeout(() => (most = 0), 100); // of the loops that go on
setTimeout(() => { console.log(most); process.exit(); }, 300);
"""


@pytest.mark.parametrize(("presses", "loops"), [([True], 1), ([True, False, True, False, True], 1), ([True, False], 0)])
def test_play_pressed_again_within_a_drawing_starts_no_second_loop(presses: list[bool], loops: int) -> None:
    assert evaluate(asset_files.read("interface/walk.js") + PLAY_AGAIN, presses) == loops


# ---------------------------------------------------------------- in Chromium


def drawn(page: Path, fragment: str, shape: tuple[int, ...], profile: Path) -> np.ndarray:
    """Return the first drawings of the page, of a shape (count, C, H, W)."""
    count, channels, height, width = shape
    result = json.loads(text_of(document_of(page, f"selftest={count}{fragment}", profile), "selftest"))
    pixels = np.frombuffer(base64.b64decode(result["pixels"]), np.uint8)
    return pixels.reshape(count, height, width, channels).transpose(0, 3, 1, 2).astype(int)


@pytest.mark.long
def test_chromium_draws_what_cgan_sample_draws(tmp_path: Path) -> None:
    write_page(tmp_path / "run", HAIR, SMILE, SIZES)
    page, sampler = tmp_path / "run" / "playground.html", load(tmp_path / "run", device="cpu")
    for fragment, phrase, count in (("", "anything", 64), ("&words=red+hair&without=smile", "red hair, no smile", 4)):
        found = drawn(page, fragment, (count, 3, 16, 16), tmp_path / "profile")
        expected = np.concatenate([sampler.sample(phrase, 1, seed) for seed in range(count)]).astype(int)
        assert expected.std() > 10 and len(np.unique(expected, axis=0)) > count / 2
        assert np.abs(found - expected).max() <= 2


@pytest.mark.long
@pytest.mark.parametrize(("channels", "aspect"), [(4, (3, 4)), (1, (4, 3))])
def test_chromium_draws_images_of_other_shapes(tmp_path: Path, channels: int, aspect: tuple[int, int]) -> None:
    run = write_run(tmp_path / "run", [HAIR], image_channels=channels, aspect=aspect)
    command.main([str(run)])
    sampler = load(run, device="cpu")
    expected = np.concatenate([sampler.sample("anything", 1, seed) for seed in range(8)]).astype(int)
    assert expected.shape[2:] == (aspect[1] * 4, aspect[0] * 4) and expected.std() > 10
    shown = (len(expected), max(3, channels), *expected.shape[2:])
    found = drawn(run / "playground.html", "", shown, tmp_path / "profile")
    if channels == 4:  # colours count as far as they are seen: an alpha of 1 in place of 0 shows any
        for pixels in (found, expected):
            pixels[:, :3] = pixels[:, :3] * pixels[:, 3:] // 255
    assert np.abs(found - expected).max() <= 2
    places = answers_of(run / "playground.html", [CANVAS, SEEN_THROUGH], tmp_path / "profile")
    assert places[0][:2] == list(expected.shape[:1:-1]) and places[0][2] == pytest.approx(aspect[0] / aspect[1], 0.02)
    assert places[1] == (channels == 4)


@pytest.mark.long
def test_chromium_shows_hostile_names_as_text(tmp_path: Path) -> None:
    hair = Attribute(HOSTILE, "exclusive", (HOSTILE, "red hair"))
    write_page(tmp_path / "run", hair, SMILE, title="A run")
    document = document_of(tmp_path / "run" / "playground.html", "seed=3&without=smile&view=grid", tmp_path / "profile")
    assert text_of(document, "attributes").count(HOSTILE) >= 2  # the attribute's name and its value
    assert "no smile" in text_of(document, "words")
    found = Elements(document)
    assert not [tag for tag, _ in found.tags if tag == "img"]
    assert "<title>A run</title>" in document


CLICK = "document.getElementById({!r}).click(); return location.hash;"
CHOOSE = """
const menu = document.querySelector("#attributes select");
menu.value = "1";
menu.dispatchEvent(new Event("change"));
return location.hash;
"""
SWITCH_TO_NO = "document.querySelectorAll('#attributes input[type=radio]')[1].click(); return location.hash;"
SLIDE = """
const slider = document.querySelector("#attributes input[type=range]");
slider.value = 0.5;
slider.dispatchEvent(new Event("input"));
return location.hash;
"""
OPEN = "window.location.hash = {!r};"
SHOWN = "return [document.body.dataset.view, document.getElementById('seed').value, document.title];"
UNNAMED = """
const named = (e) => e && (e.labels?.length || e.ariaLabel || (e.tagName === "BUTTON" && e.textContent.trim()));
return [...document.querySelectorAll("input, select, button, canvas")]
  .filter((e) => !named(e) && !named(e.closest("button"))).map((e) => e.outerHTML);
"""
REFUSE = """
window.history.replaceState = window.history.pushState = () => {
  throw new window.DOMException("The operation is insecure.", "SecurityError");
};
"""
CANVAS = """
const canvas = document.getElementById("image");
const box = canvas.getBoundingClientRect();
return [canvas.width, canvas.height, box.width / box.height];
"""
SEEN_THROUGH = """
const canvas = document.getElementById("image");
const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
return data.some((value, i) => i % 4 === 3 && value < 255);
"""
BLANK = """
const canvas = document.getElementById("image");
return new Set(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data).size < 20;
"""


@pytest.mark.long
def test_controls_change_the_drawing_and_its_address(tmp_path: Path) -> None:
    write_page(tmp_path / "run", HAIR, SMILE, SIZES)
    page = tmp_path / "run" / "playground.html"
    steps = [
        *(CLICK.format("another"), CHOOSE, SWITCH_TO_NO, SLIDE, BLANK),
        *(CLICK.format("view-walk"), "return document.getElementById('image').getAttribute('aria-label');"),
        *(CLICK.format("view-grid"), "return document.querySelectorAll('#grid-table button').length;"),
        "document.querySelectorAll('#grid-table button')[2].click(); return location.hash;",
        *("window.history.back();", SHOWN, CLICK.format("view-draw"), CLICK.format("clear")),
        *(OPEN.format("#seed=-1&words=zzz,<b>&vector.sizes=1,x&view=toString"), SHOWN),
        *(OPEN.format("#seed=9007199254740991"), CLICK.format("view-walk"), CLICK.format("view-grid"), UNNAMED),
        *(REFUSE, CLICK.format("view-draw"), CHOOSE, SHOWN),
        "return document.getElementById('image').getAttribute('aria-label');",
    ]
    answers = answers_of(page, steps, tmp_path / "profile")
    assert answers[0] == "#seed=1"
    assert answers[1] == "#seed=1&words=red+hair"
    assert answers[2] == "#seed=1&words=red+hair&without=smile"
    assert re.fullmatch(r"#seed=1&vector.sizes=0.5,[-\d.]+&words=red\+hair&without=smile", answers[3])
    assert answers[4] is False
    assert "&view=walk&from=seed%3D1" in answers[5] and answers[5].startswith("#seed=2&")
    assert answers[6].startswith("Drawing: red hair, no smile, sizes 0.5,")
    assert "view=grid&over=hair" in answers[7]
    assert answers[8] == 3 * 4
    assert "words=green+hair" in answers[9] and "view" not in answers[9]
    assert answers[11][0] == "grid"
    assert answers[13] == "#seed=2"
    assert answers[15] == ["draw", "0", "A run"]
    assert answers[17].startswith("#seed=9007199254740991&view=walk")
    assert answers[19] == [], "every control has a name"
    assert answers[23][:1] == ["draw"] and answers[24].startswith("Drawing: red hair"), "a browser may keep the address"
    assert '"polite"' in page.read_text()


@pytest.mark.long
def test_page_without_anything_to_vary_has_no_grid(tmp_path: Path) -> None:
    write_page(tmp_path / "run", Attribute("numbers", "vector", (), 17))
    document = document_of(tmp_path / "run" / "playground.html", "view=grid&selftest=1", tmp_path / "profile")
    assert text_of(document, "selftest") and 'data-view="draw"' in document
    assert re.search('<label hidden="">(?:(?!</label>).)*id="view-grid"', document)
