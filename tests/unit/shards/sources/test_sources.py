"""Reading folders of tagged pictures as people keep them, with all that is amiss in them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from shards.core.errors import UserError
from shards.sources import Source, read


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (200, 30, 30)).save(path)


def folder(tmp_path: Path, table: str | bytes | None, *names: str) -> Path:
    for name in names:
        picture(tmp_path / name)
    if table is not None:
        (tmp_path / "tags.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return tmp_path


def found(source: Source) -> dict[str, tuple[str, ...] | None]:
    return {item.id: item.tags for item in source.items}


def test_ids_with_and_without_extension_in_any_folder(tmp_path: Path) -> None:
    table = (
        '\ufeffID, Tags ,by\r\na,"Red_Hair, long hair",x\r\nb.jpg,smile,\r\n'
        'sub/c,"smile,,smile, Hat",\r\n\r\nimages/d.PNG,,\r\n'
    )
    source = read(folder(tmp_path, table, "a.png", "images/b.jpg", "images/sub/c.png", "images/d.PNG"))
    assert source.kind == "tags" and not source.one_class and not source.problems.found
    assert found(source) == {
        "a.png": ("red hair", "long hair"),
        "images/b.jpg": ("smile",),
        "images/d.PNG": (),
        "images/sub/c.png": ("smile", "hat"),
    }


def test_all_that_can_be_amiss_is_counted_and_named(tmp_path: Path) -> None:
    table = "id,tags\na,smile\na.png,hat\ngone,smile\ntwin,smile\n,smile\nb\n"
    source = read(folder(tmp_path, table, "a.png", "b.png", "x/twin.png", "y/twin.png"))
    assert found(source) == {"a.png": ("smile",), "b.png": (), "x/twin.png": None, "y/twin.png": None}
    assert source.problems.found == {
        "id-repeated": ["a.png"],
        "row-without-image": ["gone"],
        "id-ambiguous": ["twin"],
        "row-without-id": ["line 6"],
        "image-unlabelled row": ["x/twin.png", "y/twin.png"],
    }
    assert sorted(source.problems.counts().values()) == [1, 1, 1, 1, 2]


def test_only_the_first_five_names_are_listed(tmp_path: Path) -> None:
    table = "id,tags\na,smile\n" + "".join(f"gone{i},hat\n" for i in range(1000))
    (line,) = read(folder(tmp_path, table, "a.png")).problems.lines()
    assert "1,000 (gone0, gone1, gone2, gone3, gone4 and 995 more)" in line


def test_an_exact_path_beats_a_bare_name(tmp_path: Path) -> None:
    source = read(folder(tmp_path, "id,tags\na,smile\n", "a.png", "sub/a.png"))
    assert found(source) == {"a.png": ("smile",), "sub/a.png": None}


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("", "empty; it needs the columns id,tags"),
        ("id,tags\n", "no rows under its header"),
        ("name;tags\na;x\n", "line 1: no column id and no tags; the columns are name;tags"),
        ("name,tags\na,x\n", "line 1: no column id; the columns are name, tags"),
        ("a,b\n", "no column id and no tags"),
        ("id,tags\na,red hair, long hair\n", "line 2: 3 cells under 2 columns.*quotes"),
        ('id,tags\na,"red hair\nb,x\n', "line 3: .*check the quotes"),
        ('id,tags\na,"red" hair\n', "line 2: .*check the quotes"),
        (b"id,tags\na,smile\nb,caf\xe9\n", "line 3: not UTF-8"),
        ("id,tags\na,smile\n".encode("utf-16"), "line 1: not UTF-8"),
        ("id,tags\nz,smile\n", r"none of its ids is a picture .*first: z"),
        ("id,tags\na," + "x" * 200_000 + "\n", "line 2: field larger than"),
    ],
)
def test_a_broken_table_is_one_sentence_with_its_line(tmp_path: Path, table: str | bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        read(folder(tmp_path, table, "a.png"))
    assert "\n" not in str(caught.value) and "tags.csv" in str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_of_a_table(tmp_path: Path, separator: str) -> None:
    table = f"id,by,tags\na,x,{'red hair, hat' if separator != ',' else chr(34) + 'red hair, hat' + chr(34)}\n"
    head, row = table.split("\n")[:2]
    table = f"{head.replace(',', separator)}\n{row.replace(',', separator, 2)}\n"
    assert found(read(folder(tmp_path, table, "a.png"))) == {"a.png": ("red hair", "hat")}


def test_names_with_blanks_at_their_ends(tmp_path: Path) -> None:
    table = "id,tags\n a,smile\nb.png,hat\nc,bow\nd,cap\n"
    names = (" a.png", "sub/b.png ", "c.png", " c.png", "x/ d.png", "y/d .png")
    source = read(folder(tmp_path, table, *(name for name in names if name.endswith("png"))))
    assert found(source)[" a.png"] == ("smile",) and found(source)["c.png"] == ("bow",)
    assert found(source)[" c.png"] is None
    assert source.problems.found["id-ambiguous"] == ["d"]


def test_pictures_with_endings_that_are_not_read(tmp_path: Path) -> None:
    names = ("a.png", "b.jfif", "c.JPE", "d.heic", "x/e.HEIC", "f.avif", "g.txt2", "h.py", ".i.heic")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "JPEG")
    (tmp_path / "tags.csv").write_text("id,tags\na,x\nb,x\nc,x\n")
    source = read(tmp_path)
    assert len(source.items) == 3
    assert source.problems.found == {
        "extension-not-read .heic": ["d.heic", "x/e.HEIC"],
        "extension-not-read .avif": ["f.avif"],
    }
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (*names, "tags.csv"):
            archive.write(tmp_path / name, name)
    assert read(tmp_path / "a.zip").problems.found == source.problems.found
    with pytest.raises(UserError, match=r"no pictures in it .*ending \.heic, which is not read \(left out\): e\.HEIC"):
        read(tmp_path / "x")


def test_class_folders(tmp_path: Path) -> None:
    source = read(folder(tmp_path, None, "Red_Fox/1.png", "Red_Fox/deep/2.png", "wolf/1.png", "wolf/.hidden.png"))
    assert source.kind == "classes" and source.one_class
    assert found(source) == {
        "Red_Fox/1.png": ("red fox",),
        "Red_Fox/deep/2.png": ("red fox",),
        "wolf/1.png": ("wolf",),
    }


def test_folders_that_are_splits_are_no_classes(tmp_path: Path) -> None:
    names = ("Train/cat/1.png", "Train/dog/2.png", "test/cat/deep/3.png", "test/4.png")
    source = read(folder(tmp_path / "src", None, *names))
    assert source.kind == "classes"
    assert found(source) == {
        "Train/cat/1.png": ("cat",),
        "Train/dog/2.png": ("dog",),
        "test/4.png": None,
        "test/cat/deep/3.png": ("cat",),
    }
    assert source.problems.found["folder-is-split"] == ["Train", "test"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.write(tmp_path / "src" / name, f"wrapped/{name}")
    assert found(read(tmp_path / "a.zip")) == found(source)
    assert {item.tags for item in read(folder(tmp_path / "one", None, *names[:2])).items} == {("cat",), ("dog",)}
    words = read(folder(tmp_path / "words", None, "test/a/1.png", "bus/b/2.png"))
    assert {item.tags for item in words.items} == {("test",), ("bus",)}
    with pytest.raises(UserError, match=r"unclear: .*the folders test, train rather than a folder per class"):
        read(folder(tmp_path / "bare", None, "train/1.png", "test/2.png"))


@pytest.mark.parametrize("names", [("a.png",), ("a.png", "x/b.png", "y/c.png"), ("images/a.png", "images/b.png")])
def test_an_unclear_layout_is_an_error_and_can_be_forced(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"unclear: no tags\.csv"):
        read(folder(tmp_path, None, *names))
    with pytest.raises(UserError, match="missing; --source tags needs it"):
        read(tmp_path, "tags")
    if any("/" in name for name in names):
        forced = read(tmp_path, "classes")
        assert [item.tags for item in forced.items if "/" not in item.id] == [None] * sum("/" not in n for n in names)
    else:
        with pytest.raises(UserError, match="no class folders"):
            read(tmp_path, "classes")


def test_a_table_wins_over_folders_unless_forced(tmp_path: Path) -> None:
    read_from = folder(tmp_path, "id,tags\n1,smile\n", "x/1.png", "y/2.png")
    assert read(read_from).kind == "tags"
    assert read(read_from, "classes").items[1].tags == ("y",)


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path / "none")
    with pytest.raises(UserError, match="no pictures in it"):
        read(folder(tmp_path, "id,tags\na,smile\n"))
    with pytest.raises(UserError, match="not a folder"):
        read(tmp_path / "tags.csv")


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    source = tmp_path / "src"
    source.mkdir()
    (source / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(source)
    (source / "tags.csv").write_text("id,tags\na,smile\n")
    assert found(read(source)) == {"images/a.png": ("smile",)}
