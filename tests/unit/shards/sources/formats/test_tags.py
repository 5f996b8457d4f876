"""Images with a tags.csv."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.errors import raises
from support.source_files import png_files, scan_source, tags_by_id, write_files


def tagged(folder: Path, table: str | bytes, *names: str) -> Path:
    """Write tags.csv and images."""
    return write_files(folder, png_files(*names) | {"tags.csv": table})


def test_ids_with_and_without_extension_in_any_folder(tmp_path: Path) -> None:
    table = (
        '\ufeffID, Tags ,by\r\na,"Red_Hair, long hair",x\r\nb.jpg,smile,\r\n'
        'sub/c,"smile,,smile, Hat",\r\n\r\nimages/d.PNG,,\r\n'
    )
    source = scan_source(tagged(tmp_path, table, "a.png", "images/b.jpg", "images/sub/c.png", "images/d.PNG"))
    assert source.kind == "tags" and not source.one_class
    assert source.problems.counts() == {"column-left-out tags.csv": 1}
    assert tags_by_id(source) == {
        "a.png": ("red hair", "long hair"),
        "images/b.jpg": ("smile",),
        "images/d.PNG": (),
        "images/sub/c.png": ("smile", "hat"),
    }


def test_problems_are_counted_and_named(tmp_path: Path) -> None:
    table = "id,tags\na,smile\na.png,hat\ngone,smile\ntwin,smile\n,smile\nb\n"
    source = scan_source(tagged(tmp_path, table, "a.png", "b.png", "x/twin.png", "y/twin.png"))
    assert tags_by_id(source) == {"a.png": ("smile",), "b.png": (), "x/twin.png": None, "y/twin.png": None}
    assert source.problems.found == {
        "id-repeated": ["a.png"],
        "row-without-image": ["gone"],
        "id-ambiguous": ["twin"],
        "row-without-id": ["line 6"],
        "row-too-short tags.csv": ["line 7"],
        "image-unlabelled row": ["x/twin.png", "y/twin.png"],
    }
    assert sorted(source.problems.counts().values()) == [1, 1, 1, 1, 1, 2]


def test_only_the_first_five_names_are_listed(tmp_path: Path) -> None:
    table = "id,tags\na,smile\n" + "".join(f"gone{i},hat\n" for i in range(1000))
    (line,) = scan_source(tagged(tmp_path, table, "a.png")).problems.lines()
    assert "1,000 (gone0, gone1, gone2, gone3, gone4 and 995 more)" in line


def test_exact_path_wins_over_file_name(tmp_path: Path) -> None:
    source = scan_source(tagged(tmp_path, "id,tags\na,smile\n", "a.png", "sub/a.png"))
    assert tags_by_id(source) == {"a.png": ("smile",), "sub/a.png": None}


@pytest.mark.parametrize(
    ("table", "code", "named"),
    [
        ("", "table-empty", "header"),
        ("id,tags\n", "table-empty", 'id,"tag, tag"'),
        ("a,b\nc,d\n", "column-missing", "its columns are"),
        ("id,tags\na,red hair, long hair\n", "too-many-cells", "line 2: 3 cells under 2 columns"),
        ('id,tags\na,"red hair\nb,x\n', "invalid-csv", "line 1"),
        ("id,tags\na," + "x" * 200_000 + "\n", "invalid-csv", "line 1"),
        ("id,tags\nz,smile\n", "no-row-matches", "its ids are like z"),
        ("id,by\na,x\nb,x\n", "no-label-column", "by: all rows have 'x'"),
    ],
)
def test_broken_tables_are_named_with_the_line(tmp_path: Path, table: str | bytes, code: str, named: str) -> None:
    with raises(code, "tags.csv", named) as caught:
        scan_source(tagged(tmp_path, table, "a.png"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        "name;tags\na;smile\n",
        "Image,Label\na.png,smile\n",
        "id,tags,by,by\na,smile,y,z\n",
        "id,tags\na,smile\n".encode("utf-16"),
        "a.png,smile\nb.png,hat\n",
    ],
)
def test_tables_in_any_dialect(tmp_path: Path, table: str | bytes) -> None:
    assert tags_by_id(scan_source(tagged(tmp_path, table, "a.png", "b.png")))["a.png"] == ("smile",)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_of_a_table(tmp_path: Path, separator: str) -> None:
    tags = "red hair, hat" if separator != "," else '"red hair, hat"'
    table = f"{separator.join(('id', 'by', 'tags'))}\n{separator.join(('a', 'x', tags))}\n"
    assert tags_by_id(scan_source(tagged(tmp_path, table, "a.png"))) == {"a.png": ("red hair", "hat")}


def test_file_names_with_spaces_at_their_ends(tmp_path: Path) -> None:
    table = "id,tags\n a,smile\nb.png,hat\nc,bow\nd,cap\n"
    source = scan_source(tagged(tmp_path, table, " a.png", "c.png", " c.png", "x/ d.png", "y/d .png"))
    tags = tags_by_id(source)
    assert tags[" a.png"] == ("smile",) and tags["c.png"] is None and tags[" c.png"] is None
    assert source.problems.found["id-ambiguous"] == ["c", "d"]


def test_tags_separated_by_spaces(tmp_path: Path) -> None:
    rows = ["1girl long_hair blue_eyes", "1girl long_hair", "solo blue_eyes", "solo", ""]
    expected = [("1girl", "long hair", "blue eyes"), ("1girl", "long hair"), ("solo", "blue eyes"), ("solo",)]
    images = [f"{i}.png" for i in range(5)]
    table = "id,tags\n" + "".join(f"{i},{row}\n" for i, row in enumerate(rows))
    source = scan_source(tagged(tmp_path / "table", table, *images))
    assert [item.tags for item in source.items] == [*expected, ()]
    assert source.problems.counts() == {"tags-split-at-blanks": 3}

    texts = write_files(tmp_path / "texts", {f"{i}.txt": row for i, row in enumerate(rows)} | png_files(*images))
    source = scan_source(texts)
    assert [item.tags for item in source.items] == [*expected, None]
    assert source.problems.counts() == {"tags-split-at-blanks": 3}
    assert scan_source(texts, labels="caption").items[0].caption == rows[0]

    source = scan_source(tagged(tmp_path / "table", table.replace("\n4,", '\n4,"a, b"')))
    assert [item.tags for item in source.items][:2] == [("1girl long hair blue eyes",), ("1girl long hair",)]
    source = scan_source(tagged(tmp_path / "table", "id,tags\n0,blue hair\n1,blue hair\n2,red_hair\n"))
    assert source.items[0].tags == ("blue hair",)


def test_a_header_that_fills_the_bytes_that_are_looked_at_first(tmp_path: Path) -> None:
    header = "id,tags" + "".join(f",remark {number} {'x' * 310}" for number in range(200))
    header += "x" * ((1 << 16) - 100 - len(header))
    rows = [f"{name},{hair} hair" + "," * 200 for name, hair in (("a", "red"), ("b", "blue"))]
    source = scan_source(tagged(tmp_path, "\n".join([header, *rows, ""]), "a.png", "b.png"))
    assert tags_by_id(source) == {"a.png": ("red hair",), "b.png": ("blue hair",)}
