"""Tables are read in any dialect, with or without a header."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.core.problems import Problems
from shards.sources.text.tables import MAX_COLUMNS, Table, open_table
from support.errors import raises

NAMES = {f"{i:04}{ending}" for i in range(60) for ending in ("", ".png")} | {str(i) for i in range(60)}


def table(text: str, problems: Problems | None = None, encoding: str = "utf-8") -> Table:
    data = text.encode(encoding)
    return open_table("table.csv", data, is_image_name=NAMES.__contains__, problems=problems)


def cells(text: str, encoding: str = "utf-8") -> list[list[str]]:
    return [row for _, row in table(text, encoding=encoding).rows()]


def lines(pattern: str, count: int = 12) -> str:
    return "".join(pattern.format(i, i % 2, i / 8) for i in range(count))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends_are_told(delimiter: str, end: str) -> None:
    text = f"id{delimiter}tags\n" + "".join(f'{i:04}{delimiter}"blue hair, smile; a|b"\n' for i in range(5))
    found = table(text.replace("\n", end))
    assert found.columns == ["id", "tags"] and found.has_header
    assert list(found.rows())[3] == (5, ["0003", "blue hair, smile; a|b"])


def test_cells_with_counts_between_tabs_are_one_column() -> None:
    found = table(lines("{0},touhou:17705\tchibi:8490\thair:{0}\t\n"))
    assert not found.has_header and found.columns == ["column 1", "column 2"]
    assert next(found.rows()) == (1, ["0", "touhou:17705\tchibi:8490\thair:0\t"])


def test_attribute_list_begins_with_a_count_and_names_no_first_column() -> None:
    found = table("202599\nSmiling Male Pale_Skin \n" + lines("{:04}.png -1  1 -1\n"))
    assert found.columns == ["column 1", "Smiling", "Male", "Pale_Skin"]
    assert found.unnamed == {"column 1"}
    assert next(found.rows()) == (3, ["0000.png", "-1", "1", "-1"])


def test_list_file_with_blanks_has_no_header() -> None:
    assert cells(lines("{:04}.png {}\n"))[:2] == [["0000.png", "0"], ["0001.png", "1"]]


def test_file_names_with_blanks_in_a_list_stay_whole() -> None:
    text = "".join(f"my image{' of' * (i % 2)} {i}.png {i % 3}\n" for i in range(12))
    found = open_table("list.txt", text.encode(), is_image_name=lambda cell: cell.endswith(".png"))
    assert next(found.rows()) == (1, ["my image 0.png", "0"])


def test_separator_line_of_excel_is_obeyed() -> None:
    assert cells('sep=;\r\nid;tags\r\n0001;"a, b"\r\n') == [["0001", "a, b"]]


def test_decimal_commas_are_numbers_if_the_whole_column_allows_it() -> None:
    problems = Problems()
    text = "id;yaw;size;tags\n0001;0,5;1,2,3;1,2\n0002;-1,25;4;3\n0003;2;5;4\n0004;NA;;\n0005;-;;\n0006;None;;\n"
    rows = [row for _, row in table(text, problems).rows()]
    assert [row[1] for row in rows] == ["0.5", "-1.25", "2", "NA", "-", "None"]
    assert rows[0][2:] == ["1,2,3", "1,2"]
    assert problems.counts() == {"decimal-comma table.csv": 1}


def test_commas_in_a_comma_table_are_no_decimals() -> None:
    assert cells('id,pair\n0001,"0,5"\n0002,"1,5"\n')[0] == ["0001", "0,5"]


def test_comments_are_skipped_and_may_be_the_header() -> None:
    assert table("# made by a tool\n# id tags\n" + lines("{:04} a\n")).columns == ["id", "tags"]
    assert table("# made by a tool\nid,tags\n" + lines("{:04},a\n")).columns == ["id", "tags"]


def test_rows_with_a_comma_too_many_are_counted_and_left_out() -> None:
    problems = Problems()
    found = table("id,name,kind\n" + lines("{:04},shirt,{}\n") + "0020,pack of 2, navy,1\n", problems)
    assert len(list(found.rows())) == 12
    assert problems.counts() == {"row-too-long table.csv": 1}


def test_table_without_quotes_is_refused() -> None:
    with raises("too-many-cells", "line 2", "3 cells", "id, tags", "quotes"):
        table("id,tags\n" + lines("{:04},blue hair, smile\n"))


def test_short_rows_are_filled_and_counted() -> None:
    problems = Problems()
    assert list(table("id,tags\n0001,a\n0002\n0003,b,,\n", problems).rows())[1:] == [
        (3, ["0002", ""]),
        (4, ["0003", "b"]),
    ]
    assert problems.counts() == {"row-too-short table.csv": 1}


def test_index_of_pandas_is_an_unnamed_column() -> None:
    found = table(",id,tags\n" + lines("{0},{0:04},a\n"))
    assert found.columns == ["column 1", "id", "tags"] and found.unnamed == {"column 1"}


def test_repeated_column_names_get_a_number() -> None:
    problems = Problems()
    assert table("id,a, a ,a\n0001,1,2,3\n", problems).columns == ["id", "a", "a (2)", "a (3)"]
    assert problems.counts() == {"column-repeated": 2}


def test_quotes_after_backslashes_and_plain_quotes_are_read() -> None:
    assert cells("id,tags\n" + lines('{:04},"say \\"hi\\", b"\n'))[0] == ["0000", 'say "hi", b']
    assert cells("id\ttags\n" + lines('{:04}\t"a" b\n'))[0] == ["0000", '"a" b']


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("0001,aqua hair red eyes\n0002,blue hair\n", ["column 1", "column 2"]),
        ("missing.png,1\n0002.png,2\n", ["column 1", "column 2"]),
        ("99,1\n0002,2\n3,1\n", ["column 1", "column 2"]),
        ("bild,ton\n0002,2\n3,1\n", ["bild", "ton"]),
        ("id,0,1\n0002,2,1\n3,1,1\n", ["id", "0", "1"]),
    ],
)
def test_header_is_told_by_the_rows(text: str, columns: list[str]) -> None:
    assert table(text).columns == columns


@pytest.mark.parametrize(
    "text", ['id,tags\n0001,a\n0002,"b\n0003,c\n', "id,tags\n0001,a\n0002,b" + "b" * 200_000 + "\n0003,c\n"]
)
def test_broken_quotes_and_huge_cells_name_the_line(text: str) -> None:
    with raises("invalid-csv", "table.csv", "line 2"):
        table(text)


def test_too_many_columns_are_refused() -> None:
    with raises("too-many-columns", f"{MAX_COLUMNS:,}"):
        table(",".join(map(str, range(MAX_COLUMNS + 1))) + "\n" + "1," * MAX_COLUMNS + "1\n")


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_empty_tables_are_refused(text: str) -> None:
    with raises("table-empty", "table.csv"):
        table(text)


WORDS = st.lists(st.text("abcäöü微笑,;|'\" -", max_size=12).map(str.strip), min_size=2, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(2, 4).flatmap(
        lambda width: st.lists(st.lists(WORDS.map("".join), min_size=width, max_size=width), min_size=3, max_size=30)
    ),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]),
    header=st.booleans(),
)
def test_any_dialect_gives_the_same_rows(
    rows: list[list[str]], delimiter: str, end: str, encoding: str, header: bool
) -> None:
    rows = [[f"{i:04}.png", *row] for i, row in enumerate(rows)]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerows([["id", *(f"c{n}" for n in range(1, len(rows[0])))]] if header else [])
    writer.writerows(rows)
    found = table(out.getvalue(), encoding=encoding)
    assert found.has_header is header
    assert [row for _, row in found.rows()] == rows
