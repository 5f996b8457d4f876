"""Comparison of runs: options that differ, results, and blanks for what a run does not have."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from unit.trainer.reporting.test_run_report import NASTY, Page

from shards.core.errors import UserError
from support.errors import raises
from trainer.config import Config
from trainer.reporting import comparison, plot
from trainer.reporting.plot import Line, Plot
from trainer.reporting.run_report import write_report
from trainer.run import evaluation_file
from trainer.run.metrics_file import MetricsFile


def run(folder: Path, rows: int = 4, speed: float = 32.0, key: str = "loss/d", **different: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(Config().to_dict() | {"run": str(folder)} | different))
    with MetricsFile(folder / "metrics.jsonl") as log:
        for n in range(1, rows + 1):
            log.write(n * 64, {key: float(n), "speed/images_per_second": speed})
    return folder


def evaluated(folder: Path, fid: float, real: float | None) -> None:
    found = {"figures": {"fid": fid}, "real": {} if real is None else {"fid": real}, "count": 500}
    evaluation_file.add(folder, 256, found | {"extractor": {"name": "judge"}})


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> list[list[str]]:
    """The table's cells, by line."""
    comparison.main([str(word) for word in words])
    return [[cell for cell in line.split("  ") if cell] for line in capsys.readouterr().out.splitlines()]


def test_table_shows_options_that_differ_and_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = run(tmp_path / "one", seed=1), run(tmp_path / "two", 8, speed=64, lr_g=0.002)
    evaluated(one, 12.5, 1.25)
    lines = printed(capsys, one, other)
    cells = {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines if line}
    assert lines[0] == ["one", " two"] or [c.strip() for c in lines[0] if c.strip()] == ["one", "two"]
    assert cells["images seen"] == ["256", "512"] and cells["training time"] == ["8 s", "8 s"]
    assert cells["seed"] == ["1", "0"] and cells["lr-g"] == ["0.001", "0.002"]
    assert not {"batch", "run", "lr-d"} & cells.keys(), "these are equal, or differ between any two runs"
    assert cells["fid"] == ["12.5 (real 1.25)"], "a run without an evaluation has blanks"
    assert cells["loss/d"] == ["4", "8"]


def test_marks_stand_behind_their_figures_with_their_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = run(tmp_path / "one"), run(tmp_path / "two")
    entry = {"figures": {"fid": 12.5, "kid": 0.5}, "real": {"fid": 1.25}, "count": 500}
    evaluation_file.add(one, 256, entry | {"marks": {"fid": ["training-images", "teaching-network"]}})
    evaluation_file.add(other, 256, entry)
    monkeypatch.setenv("COLUMNS", "1000")
    cells = {line[0].strip(): [cell.strip() for cell in line[1:]] for line in printed(capsys, one, other) if line}
    assert cells["fid"] == ["12.5*† (real 1.25)", "12.5 (real 1.25)"] and cells["kid"] == ["0.5", "0.5"]
    (explained,) = cells["marks"]
    assert explained.startswith("* compared with images of the training") and "; † measured in features" in explained
    write_report(one)
    texts = " ".join(Page((one / "report.html").read_text(encoding="utf-8")).texts.get("p", []))
    assert "† measured in features of a network that took part in the training" in texts


def test_judges_that_learned_from_different_images_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run(tmp_path / name) for name in ("one", "two", "three")]
    for folder, judge in zip(runs, ({"data": "1723ac68ff"}, {"data": "90ab12cdff"}, None), strict=True):
        evaluation_file.add(folder, 256, {"figures": {"fidelity": 0.9}, "data": "1723ac68ff", "judge": judge})
    learned = [line for line in printed(capsys, *runs) if line and line[0] == "judge learned from"]
    assert [cell.strip() for cell in learned[0][1:]] == ["all images (1723ac68)", "validation (90ab12cd)"]
    assert not [line for line in printed(capsys, runs[0], runs[2]) if line and line[0] == "judge learned from"]


@pytest.mark.parametrize("judge", ["a name", {"data": 7}])
def test_judge_that_is_not_described_is_damage(tmp_path: Path, judge: object) -> None:
    evaluation_file.add(tmp_path, 64, {"figures": {"fidelity": 0.9}, "second_judge": judge})
    with raises("file-damaged", "judge"):
        evaluation_file.read(tmp_path)


def test_missing_option_has_its_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = run(tmp_path / "a"), run(tmp_path / "b")
    (other / "config.yaml").write_text(f"batch: 64\ngamma: {Config().method.gamma}\n")
    assert not [line for line in printed(capsys, one, other) if line and line[0] in ("gamma", "lr-g")]


def test_csv_has_one_row_per_run(tmp_path: Path) -> None:
    one, other = run(tmp_path / "one", seed=1), run(tmp_path / "two")
    evaluated(other, 3.0, 0.5)
    comparison.main([str(one), str(other), "--out", str(tmp_path / "new" / "table.csv")])
    with (tmp_path / "new" / "table.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["run"], first["images seen"], first["seconds"], first["option seed"]) == ("one", "256", "8.0", "1")
    assert (first["evaluation fid"], second["evaluation fid"], second["evaluation fid (real)"]) == ("", "3.0", "0.5")


def test_page_plots_every_curve_over_both_clocks_and_escapes_names(tmp_path: Path) -> None:
    one, other = run(tmp_path / "one", key=NASTY), run(tmp_path / "<b>two", seed=1)
    out = tmp_path / "page.html"
    comparison.main([str(one), str(other), "--out", str(out)])
    page = Page(out.read_text(encoding="utf-8"))
    figures = page.texts["figcaption"] if "figcaption" in page.texts else page.texts["span"]
    assert "script" not in {tag for tag, _ in page.tags} and "<b>two" in page.texts["th"]
    titles = page.texts["title"][1:]
    assert len(titles) == 2 * 3 and any("over minutes of training" in title for title in titles)
    assert any(title.startswith("speed/images_per_second over images seen: one 32 at 256") for title in titles)
    assert figures and len(page.all("polyline")) == 2 * 4  # two keys of one run each, one of both


def test_image_draws_each_run_in_its_colour(tmp_path: Path) -> None:
    out = tmp_path / "curves.png"
    comparison.main([str(run(tmp_path / "one")), str(run(tmp_path / "two", speed=16)), "--out", str(out)])
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for colour in plot.COLOURS[:2]:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == wanted).all(1).sum() > 500
    with raises("unknown-metric", "loss/e", "loss/d"):
        comparison.main([str(tmp_path / "one"), "--out", str(out), "--metrics", "loss/e"])


def test_runs_with_one_directory_name_are_named_by_path(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a" / "run"), run(tmp_path / "b" / "run")
    assert [r.name for r in comparison.read_runs([one, other, one])] == [str(one), str(other)]


def test_invalid_runs_and_outputs_are_errors(tmp_path: Path) -> None:
    one = run(tmp_path / "one")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.yaml").write_text("- a list")
    for words, code, named in (
        ([str(one), str(tmp_path)], "run-missing", f"{tmp_path} "),
        ([str(tmp_path / "bad")], "run-damaged", tmp_path / "bad" / "config.yaml"),
        ([str(one), "--out", "x.pdf"], "invalid-output-name", "--out x.pdf"),
    ):
        with raises(code, named):
            comparison.main(words)
    with pytest.raises(UserError, match="RUNS"):
        comparison.main([])
    (one / "metrics.jsonl").unlink()
    with raises("no-metrics", "x.png"):
        comparison.main([str(one), "--out", str(tmp_path / "x.png")])
    evaluation_file.path_of(one).write_text('{"format_version": 1, "evaluations": {"3": [{}]}}')
    with raises("file-damaged"):
        comparison.main([str(one)])


def test_evaluations_are_kept_by_checkpoint_and_replaced_by_equal_ones(tmp_path: Path) -> None:
    ask = {"metrics": ["fid"], "extractor": {"name": "judge"}, "count": 10, "seed": 0, "data": "x"}
    assert evaluation_file.newest(tmp_path) is None
    evaluation_file.add(tmp_path, 640, ask | {"figures": {"fid": 1}})
    evaluation_file.add(tmp_path, 64, ask | {"figures": {"fid": 2}})
    evaluation_file.add(tmp_path, 640, ask | {"figures": {"fid": 3}, "seed": 1})
    evaluation_file.add(tmp_path, 640, ask | {"figures": {"fid": 4}})
    found = evaluation_file.read(tmp_path)
    assert list(found) == [64, 640] and [e["figures"]["fid"] for e in found[640]] == [3, 4]
    assert evaluation_file.newest(tmp_path) == (640, found[640][-1])
    content = json.loads(evaluation_file.path_of(tmp_path).read_text())
    evaluation_file.path_of(tmp_path).write_text(json.dumps(content | {"format_version": 2}))
    with raises("newer-format", "format 2"):
        evaluation_file.read(tmp_path)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e9, 1e9)), min_size=1, max_size=40))
def test_every_point_is_inside_the_frame(points: list[tuple[float, float]]) -> None:
    xs, ys = zip(*sorted(points), strict=True)
    across, down = Plot("k", "images seen", [Line("run", 0, xs, ys)]).scales()
    assert all(0 <= across(x) <= 460 for x in xs) and all(0 <= down(y) <= 220 for y in ys)
