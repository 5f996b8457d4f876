"""report.html: a complete page from partial runs, self-contained, escaped and bounded in size."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from support.errors import raises
from trainer.generation import image_grid
from trainer.reporting import run_report
from trainer.reporting.curves import Curve, curves
from trainer.reporting.number_format import format_count, format_duration
from trainer.reporting.plot import ticks
from trainer.run.metrics_file import MetricsFile

VOID = {"meta", "img", "br"}
NASTY = "</title><script>alert(1)</script> \"quoted\" 'single' & <b>bold"


@dataclass
class Page(HTMLParser):
    """A page that is parsed strictly: every element must be closed in order."""

    source: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    stack: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.source)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack:
            self.texts.setdefault(self.stack[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self) -> str:
        return " ".join(piece for pieces in self.texts.values() for piece in pieces)


def written(run: Path) -> Page:
    page = Page(run_report.write_report(run).read_text(encoding="utf-8"))
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "h1", "h2", "h3", "p", "div"),
        *("dl", "dt", "dd", "figure", "figcaption", "img", "svg", "line", "text", "polygon", "polyline", "circle"),
        *("table", "thead", "tbody", "tr", "th", "td", "code", "span", "b"),
    }
    for _, attributes in page.tags:  # nothing is fetched and no script runs
        assert not any(name.startswith("on") or name in ("href", "style", "srcset") for name in attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
    assert not re.search(r"url\(|@import", "".join(page.texts["style"]))
    return page


def save_grid(path: Path, titles: list[str], seed: int = 0) -> None:
    images = np.random.default_rng(seed).integers(0, 255, (2 * len(titles), 3, 8, 8), dtype=np.uint8)
    image_grid.save(image_grid.grid(images, 2, titles), path)


def full_run(run: Path, rows: int = 30, name: str = "loss/d") -> Path:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(
        yaml.safe_dump({"preset": "faces32", "total_images": 6400, "batch": 1, "ema": True, "betas": [0.0, 0.99]})
    )
    with MetricsFile(run / "metrics.jsonl") as log:
        for n in range(1, rows + 1):
            log.write(n * 64, {name: 1 / n, "grad/d": 2.0, "speed/images_per_second": 64.0})
    for n in range(3):
        save_grid(run / "samples" / f"{n * 640:012d}.png", ["blue hair", "red hair"], n)
    return run


def test_page_shows_samples_curves_and_options(tmp_path: Path) -> None:
    page = written(full_run(tmp_path / "first"))
    assert page.texts["title"][0] == page.texts["h1"][0] == "first"
    assert "1,920 of 6,400 (30%)" in page.texts["dd"]
    assert "30 s" in page.texts["dd"]  # 1,920 images at 64 a second
    assert len(page.all("svg")) == 3
    assert all(svg["role"] == "img" for svg in page.all("svg"))
    titles = page.texts["title"][1:]
    assert titles[0].startswith("loss/d over images seen: ")
    images = page.all("img")
    assert len(images) == 1 + 3
    assert images[0]["alt"] == "Generated images after 1,280 images seen; rows: blue hair; red hair"
    assert images[0]["src"].startswith("data:image/png;base64,")
    assert all({"width", "height", "alt"} <= set(image) for image in images)
    options = dict(zip(page.texts["th"][-5:], page.texts["code"], strict=True))
    assert (
        options
        == {"preset": "faces32", "total_images": "6400", "batch": "1", "ema": "yes", "betas": "0.0, 0.99"} | options
    )
    assert options["batch"] == "1"
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    assert "images seen" in page.texts["text"]
    assert "1.5k" in page.texts["text"]
    assert [p.name for p in (tmp_path / "first").iterdir() if p.name.startswith(".")] == []


def test_exhibits_are_shown_if_present(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    assert "Effect of labels and noise" not in written(run).texts["h2"]
    save_grid(run / "exhibits" / "noise.png", ["blue hair"])
    (run / "exhibits" / "<b>.png").write_bytes(b"not an image")
    page = written(run)
    assert "Effect of labels and noise" in page.texts["h2"] and "<b>.png is damaged." in page.texts["p"]
    shown = next(image for image in page.all("img") if image["alt"] == "Generated images: noise; rows: blue hair")
    assert shown["src"].startswith("data:image/jpeg")


def test_all_text_is_escaped(tmp_path: Path) -> None:
    run = full_run(tmp_path / "<script>alert('run')<", name=NASTY)
    (run / "config.yaml").write_text(yaml.safe_dump({NASTY: NASTY, "nested": {"a<b": [NASTY, None]}, "preset": NASTY}))
    save_grid(run / "samples" / "000000009999.png", [NASTY, "\x07bell"])
    (run / "samples" / "<img src=x>1.png").write_bytes(b"not an image")
    page = written(run)
    assert page.texts["title"][0] == run.name
    assert any(NASTY in text for text in page.texts["title"])
    assert NASTY in page.texts["code"]
    assert f"{NASTY}, none" in page.texts["code"]
    assert "nested.a<b" in page.texts["th"]
    assert NASTY in page.all("img")[0]["alt"]
    assert "<script" not in page.source


@given(name=st.text(min_size=1, max_size=40), value=st.text(max_size=40))
def test_no_text_breaks_the_page(tmp_path_factory: pytest.TempPathFactory, name: str, value: str) -> None:
    run = tmp_path_factory.mktemp("run")
    with MetricsFile(run / "metrics.jsonl") as log:
        log.write(1, {name: 1.0})
    (run / "config.yaml").write_text(yaml.safe_dump({"key": value}))
    page = written(run)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", page.source)


def test_empty_run_has_a_page(tmp_path: Path) -> None:
    text = written(tmp_path).text()
    assert "No samples yet." in text
    assert "No metrics yet." in text
    assert "config.yaml" in text


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [1\n", "!!python/object/apply:os.getcwd []\n", "\x00"])
def test_damaged_options_are_reported(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    text = written(tmp_path).text()
    assert "cannot be read" in text or "contains no options" in text


def test_nan_torn_lines_and_damaged_images_are_tolerated(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.jsonl") as log:
        log.write(64, {"loss/d": 1.5, "loss/g": math.nan})
        log.write(128, {"loss/d": math.inf, "loss/g": math.nan})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"images_seen": 192, "loss/d"')
    save_grid(tmp_path / "samples" / "000064.png", ["a"])
    whole = (tmp_path / "samples" / "000064.png").read_bytes()
    (tmp_path / "samples" / "000128.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "samples" / "notes.png").write_bytes(b"")
    page = written(tmp_path)
    assert len(page.all("svg")) == 1  # loss/g has nothing to draw
    assert "000128.png is damaged." in page.text()
    cells = page.texts["td"]
    assert cells == ["not finite", "1.5", "1.5", "1.5", "1", "not finite", "2"]
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"base64,[^\"]*", "", page.source.split("</style>")[1]))


def test_page_size_is_bounded_for_long_runs(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.jsonl") as log:
        for n in range(20_000):
            log.write(n, {"loss/d": math.sin(n / 1000)})
    save_grid(tmp_path / "samples" / "0.png", ["a"])
    for n in range(1, 200):
        shutil.copy(tmp_path / "samples" / "0.png", tmp_path / "samples" / f"{n * 100}.png")
    page = written(tmp_path)
    assert len(page.source) < 300_000
    assert len(page.all("img")) == 1 + 12
    polyline = page.all("polyline")[0]["points"].split()
    assert 200 <= len(polyline) <= 500
    labels = [text for text in page.texts["figcaption"] if "images seen" in text]
    assert labels[1] == "0 images seen"
    assert labels[-1] == labels[0] == "19.9k images seen"


def test_huge_grid_is_downscaled(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (1700, 1700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "samples" / "1.png")
    image = written(tmp_path).all("img")[0]
    assert image["src"].startswith("data:image/jpeg")
    assert int(image["width"]) == 1600


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000))
def test_curve_keeps_its_extremes_and_its_end(values: list[float]) -> None:
    curve = curves({"images_seen": n, "a": value} for n, value in enumerate(values))["a"]
    assert len(curve.x) <= 500
    assert min(curve.low) == min(values)
    assert max(curve.high) == max(values)
    assert curve.x == sorted(curve.x)
    assert curve.x[-1] == len(values) - 1
    assert curve.last == values[-1]
    slack = 1e-6
    assert all(
        low - slack <= mean <= high + slack for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True)
    )


def test_smoothing_is_unbiased_at_the_start() -> None:
    curve = Curve()
    for n in range(400):
        curve.add(n, 5.0)
    assert curve.smooth() == pytest.approx([5.0] * 400)


@given(low=st.floats(-1e9, 1e9), width=st.floats(1e-3, 1e9), most=st.integers(2, 8))
def test_ticks_are_few_even_and_inside(low: float, width: float, most: int) -> None:
    found = ticks(low, low + width, most)
    assert len(found) <= most + 1
    assert all(low - width * 1e-6 <= tick <= low + width * (1 + 1e-6) for tick in found)


def test_numbers_are_readable() -> None:
    assert [format_count(n) for n in (0, 950, 999.9, 12_345, 1_500_000, 2e9)] == [
        "0",
        "950",
        "1k",
        "12.3k",
        "1.5M",
        "2G",
    ]
    assert [format_duration(s) for s in (42, 480, 11_100)] == ["42 s", "8 min", "3 h 05 min"]


def test_command_rewrites_the_page_and_rejects_other_directories(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = full_run(tmp_path / "first")
    run_report.main([str(run)])
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    with raises("run-missing", tmp_path):
        run_report.main([str(tmp_path)])


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_browser_renders_the_page(tmp_path: Path) -> None:
    run = full_run(tmp_path / "<script>")
    path = run_report.write_report(run)
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync".split()
    )
    screenshot = tmp_path / "shot.png"
    subprocess.run(
        ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,900"]
        + [f"--screenshot={screenshot}", path.as_uri()],
        check=True,
        capture_output=True,
        timeout=100,
    )
    with Image.open(screenshot) as image:
        colours = image.convert("RGB").getcolors(1 << 20)
    assert colours
    assert len(colours) > 200  # noise images, curves and text; an error page has a few
