"""Tables with a row per label, and a column that says whether the label applies to the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.sources.item import Source
from support.errors import raises
from support.source_files import by_id, png_files, scan_source, tags_by_id, write_files

COUNT = 12
CLASSES = ("cat", "dog", "owl")


def long_table(folder: Path, header: str, yes: str, no: str, more: tuple[str, ...] = ()) -> Path:
    """Write images of a class each, and a table that affirms it and denies the next one."""
    rows = [header, *more]
    for n in range(COUNT):
        rows += [f"{n}.png,{CLASSES[n % 3]},{yes}", f"{n}.png,{CLASSES[(n + 1) % 3]},{no}"]
    write_files(folder, png_files(*(f"{n}.png" for n in range(COUNT))))
    return write_files(folder, {"labels.csv": "\n".join(rows) + "\n"})


def labels(source: Source, id: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    item = by_id(source)[id]
    return item.tags, item.denied


@pytest.mark.parametrize(
    ("header", "yes", "no"),
    [
        ("image,tag,present", "yes", "no"),
        ("image,tag,value", "1", "-1"),
        ("image,tag,is_correct", "True", "False"),
        ("ImageID,LabelName,Confidence", "1", "0"),
        ("image,tag,label", "1.0", "0.0"),
    ],
)
def test_trap_rows_that_reject_a_label_deny_it(tmp_path: Path, header: str, yes: str, no: str) -> None:
    source = scan_source(long_table(tmp_path, header, yes, no))
    assert labels(source, "0.png") == (("cat",), ("dog",)) and labels(source, "2.png") == (("owl",), ("cat",))
    column = header.rpartition(",")[2]
    assert source.problems.counts()[f"rows-denied {column}"] == COUNT
    assert [use.name for use in source.columns if not use.becomes] == [column]


def test_an_image_whose_labels_are_all_denied_has_none_of_them(tmp_path: Path) -> None:
    rows = ("0.png,owl,no", "12.png,cat,no", "12.png,dog,no")
    folder = long_table(tmp_path, "image,label,present", "yes", "no", rows)
    source = scan_source(write_files(folder, png_files("12.png")))
    assert labels(source, "12.png") == ((), ("cat", "dog"))
    assert labels(source, "0.png") == (("cat",), ("owl", "dog"))


def test_empty_verdicts_say_nothing_and_contradictions_are_counted(tmp_path: Path) -> None:
    rows = ("0.png,owl,", "1.png,dog,no", "1.png,owl,unknown")
    source = scan_source(long_table(tmp_path, "image,tag,present", "yes", "no", rows))
    assert labels(source, "0.png") == (("cat",), ("dog",)) and labels(source, "1.png") == (("dog",), ("owl",))
    counts = source.problems.counts()
    assert counts["rows-undecided present"] == 2 and counts["rows-conflicting present"] == 1


def test_signs_that_may_mean_something_else_are_a_question(tmp_path: Path) -> None:
    folder = long_table(tmp_path, "image,label,occluded", "1", "0")
    with raises("verdict-unclear", "labels.csv", "occluded", "present", "--columns label"):
        scan_source(folder)
    assert tags_by_id(scan_source(folder, columns=("label",)))["0.png"] == ("cat", "dog")


def test_scores_need_a_limit(tmp_path: Path) -> None:
    folder = long_table(tmp_path, "image,label,score", "0.91", "0.06")
    with raises("score-without-limit", "labels.csv", "score", "0.06 to 0.91", "--min-weight"):
        scan_source(folder)
    source = scan_source(folder, min_weight=0.5)
    assert labels(source, "0.png") == (("cat",), ())
    assert source.problems.counts()["tags-light 0.5"] == COUNT


def test_tables_without_a_verdict_are_joined_as_they_are(tmp_path: Path) -> None:
    assert tags_by_id(scan_source(long_table(tmp_path, "image,label,width", "64", "64")))["0.png"] == ("cat", "dog")
