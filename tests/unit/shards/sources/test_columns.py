"""Further columns of tables: attributes, tags, numbers and groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.dataset.schema import Attribute
from support.errors import raises
from support.source_files import by_id, png_bytes, png_files, scan_source, write_files

CELEBA = "id,tags,hair,Eye_Glasses,pose,yaw,film\na,hat,Blue,1,-1,0.5,x\nb,,blond hair,-1,1,-2,x\nc,,,,,,y\n"


def celeba(tmp_path: Path) -> Path:
    return write_files(tmp_path, {"tags.csv": CELEBA} | {f"{name}.png": png_bytes() for name in "abcd"})


def write_table(folder: Path, count: int, table: str) -> Path:
    """Write tags.csv and images named by number."""
    return write_files(folder, {"tags.csv": table} | {f"{i}.png": png_bytes() for i in range(count)})


def test_columns_become_attributes_tags_and_numbers(tmp_path: Path) -> None:
    source = scan_source(celeba(tmp_path), columns=("hair", "Eye_Glasses", "yaw", "pose"), group="film")
    assert source.attributes == (
        Attribute("hair", "exclusive", ("blue hair", "blond hair")),
        Attribute("eye glasses", "tag", ("eye glasses",)),
        Attribute("pose", "tag", ("pose",)),
    )
    a, b, c, d = source.items
    assert a.tags == ("hat", "blue hair", "eye glasses") and a.denied == ("pose",) and a.vector == (0.5,)
    assert b.tags == ("blond hair", "pose") and b.denied == ("eye glasses",) and b.vector == (-2.0,)
    assert (c.tags, c.denied, c.vector) == ((), (), None)
    assert (d.tags, d.denied, d.vector, d.group) == (None, (), None, None)
    assert [item.group for item in source.items] == ["x", "x", "y", None]


def test_all_selects_columns_except_free_text(tmp_path: Path) -> None:
    rows = "".join(f"{i},,{'blue red'.split()[i % 2]},{i % 3 / 2},note number {i} of many\n" for i in range(40))
    source = scan_source(write_table(tmp_path, 40, "id,tags,hair,x,note\n" + rows), columns=("all",))
    assert [(a.name, a.kind) for a in source.attributes] == [("hair", "exclusive")]
    assert by_id(source)["2.png"].vector == (1.0,)


@pytest.mark.parametrize("gap", ["NA", "nan", "None", "null", "N/A", ""])
def test_gaps_in_columns_are_unknown(tmp_path: Path, gap: str) -> None:
    rows = f"0,,0.5,yes,1,blue\n1,,{gap},no,{gap},none\n2,,2,{gap},0,red\n"
    write_table(tmp_path, 3, "id,tags,x,hat,smile,bow\n" + rows)
    for columns in (("x", "hat", "smile", "bow"), ("all",)):
        source = scan_source(tmp_path, columns=columns)
        kinds = {"hat": ("hat",), "smile": ("smile",), "bow": ("blue bow", "none bow", "red bow")}
        assert {a.name: a.values for a in source.attributes} == kinds
        assert source.problems.counts()["cell-none 'bow'"] == 1
        assert [item.vector for item in source.items] == [(0.5,), None, (2.0,)]
        assert [item.denied for item in source.items] == [(), ("hat",), ("smile",)]


def test_minus_one_beside_zero_and_one_is_unknown(tmp_path: Path) -> None:
    write_table(tmp_path, 4, "id,tags,edema,fracture\n0,,1.0,1\n1,,-1.0,-1\n2,,0.0,1\n3,,,\n")
    source = scan_source(tmp_path, columns=("edema", "fracture"))
    assert [item.tags for item in source.items] == [("edema", "fracture"), None, ("fracture",), None]
    assert [item.denied for item in source.items] == [(), (), ("edema",), ()]
    uncertain = {"cell-uncertain 'edema'": 1, "cell-uncertain 'fracture'": 1, "column-left-out tags.csv": 1}
    assert source.problems.counts() == uncertain


def test_named_classes_and_numbers(tmp_path: Path) -> None:
    write_table(tmp_path, 4, "id,tags,year,age\n0,,2001,7\n1,,2002,8\n2,,2001,9\n3,,-1,10\n")
    source = scan_source(tmp_path, class_=("year",), numbers=("age",))
    assert source.attributes == (Attribute("year", "exclusive", ("2001 year", "2002 year")),)
    assert [item.tags for item in source.items] == [("2001 year",), ("2002 year",), ("2001 year",), None]
    assert [item.vector for item in source.items] == [(7.0,), (8.0,), (9.0,), (10.0,)]
    assert source.problems.counts() == {"class-negative 'year'": 1, "column-left-out tags.csv": 1}
    write_table(tmp_path, 2, "id,tags,age\n0,,old\n1,,8\n")
    with raises("column-not-numbers", "--numbers age", "tags.csv", "line 2", "'old'"):
        scan_source(tmp_path, numbers=("age",))


def test_values_that_differ_by_case_alone_stay_apart(tmp_path: Path) -> None:
    write_table(tmp_path, 3, "id,tags,letter\n0,,A\n1,,a\n2,,b\n")
    tags = [item.tags for item in scan_source(tmp_path, columns=("letter",)).items]
    assert tags == [("capital a letter",), ("small a letter",), ("b letter",)]


def test_rows_and_columns_are_kept_for_people(tmp_path: Path) -> None:
    source = scan_source(celeba(tmp_path), columns=("hair",), keep_rows=True)
    where, row = source.rows["a.png"]
    assert where == "line 2" and '"hair": "Blue"' in row and "d.png" not in source.rows
    uses = {use.name: use.becomes for use in source.columns}
    assert uses["tags"] == "tags" and uses["hair"] == "exclusive attribute, 2 values" and uses["film"] == ""


def test_word_among_numbers_is_named(tmp_path: Path) -> None:
    rows = [f"{i},,{'old' if i == 7 else i}" for i in range(20)]
    write_table(tmp_path, 20, "id,tags,x\n" + "\n".join(rows))
    with raises("word-among-numbers", "--columns x", "tags.csv", "line 9", "'old'", "19 of 20"):
        scan_source(tmp_path, columns=("x",))


def test_columns_that_do_not_exist(tmp_path: Path) -> None:
    celeba(tmp_path)
    with raises("unknown-column", "--columns hairs", "tags.csv", "id, tags, hair"):
        scan_source(tmp_path, columns=("hairs",))
    with raises("unknown-column", "--group movie"):
        scan_source(tmp_path, group="movie")
    with raises("repeated-column", "--columns hair,hair"):
        scan_source(tmp_path, columns=("hair", "hair"))


def test_columns_with_too_many_or_equal_values(tmp_path: Path) -> None:
    write_table(tmp_path, 1100, "id,tags,a,a_\n" + "".join(f"{i},,word {i},w a\n" for i in range(1100)))
    with raises("too-many-values", "--columns a", "1,100", "1,000"):
        scan_source(tmp_path, columns=("a",))
    write_table(tmp_path, 0, "id,tags,a,A\n0,,x,x\n")
    with raises("repeated-column", "'a'"):
        scan_source(tmp_path, columns=("a", "A"))
    write_table(tmp_path, 0, "id,tags,hair,old hair\n0,,old hair,1\n1,,new,0\n")
    with raises("repeated-value", "'old hair'"):
        scan_source(tmp_path, columns=("hair", "old hair"))


def test_groups_by_folder(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("x/1.png", "y/deep/2.png"))
    assert [item.group for item in scan_source(tmp_path, group="folder").items] == ["x", "y/deep"]
    loose = write_files(tmp_path / "loose", png_files("1.png", "2.png", "x/3.png"))
    assert [item.group for item in scan_source(loose, "pictures", group="folder").items] == [".", ".", "x"]


def test_columns_of_a_format_without_columns(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("x/1.png", "y/deep/2.png"))
    with raises("source-without-columns", "--columns", "classes"):
        scan_source(tmp_path, columns=("x",))
    with raises("source-without-columns", "--group", "classes"):
        scan_source(tmp_path, group="x")
