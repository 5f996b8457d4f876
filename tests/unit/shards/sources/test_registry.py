"""The registry of formats: which one a source is in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shards.core.cli import usage
from shards.core.errors import UserError
from shards.packing.pack import Pack
from shards.sources import formats
from shards.sources.registry import FORMATS, NAMES
from shards.sources.source_format import SourceFormat
from support.errors import raises
from support.source_files import png_files, scan_source, tags_by_id, write_files, write_parquet, write_tar


def test_every_module_of_formats_is_registered() -> None:
    modules = {path.stem for path in Path(formats.__path__[0]).rglob("*.py")} - {"__init__"}
    assert {format.scan.__module__.rpartition(".")[2] for format in FORMATS.values()} == modules
    assert all(isinstance(format, SourceFormat) for format in FORMATS.values())
    assert all(format.name == name and format.description for name, format in FORMATS.items())


def test_help_names_all_formats() -> None:
    line = next(line for line in usage(Pack, "pack").splitlines() if line.startswith("  --source "))
    assert all(re.search(rf"\b{name}\b", line) for name in FORMATS)


def test_only_the_registry_knows_the_formats() -> None:
    imports = re.compile(r"(?m)^\s*(from|import) shards\.sources\.formats|^from shards\.sources import .*\bformats\b")
    root = Path(formats.__path__[0]).parents[1]
    assert not [path for path in root.rglob("*.py") if imports.search(path.read_text("utf-8"))]


def test_names_of_formats_do_not_change() -> None:
    """They are values of --source, and manifests have them."""
    known = ("auto", "tags", "classes", "sidecars", "metadata", "stylegan", "parquet", "webdataset", "pictures")
    assert set(known) <= set(NAMES) and NAMES[0] == "auto"


def test_tables_of_several_formats_are_ambiguous(tmp_path: Path) -> None:
    tables = {"tags.csv": "id,tags\na,hat\n", "metadata.csv": "file_name,label\na.png,1\n"}
    write_files(tmp_path, png_files("a.png") | tables)
    with raises("ambiguous-source", "--source tags", "--source metadata"):
        scan_source(tmp_path)
    assert tags_by_id(scan_source(tmp_path, "metadata")) == {"a.png": ("1",)}


def test_tars_and_parquet_files_are_ambiguous(tmp_path: Path) -> None:
    images = png_files("1.png")
    write_tar(tmp_path / "a.tar", images | {"1.cls": "x"})
    write_parquet(tmp_path / "b.parquet", {"image": list(images.values())})
    with raises("ambiguous-source", "--source parquet", "--source webdataset"):
        scan_source(tmp_path)
    assert scan_source(tmp_path, "webdataset").kind == "webdataset"


@pytest.mark.parametrize("name", ["tags", "sidecars", "metadata", "stylegan", "parquet", "webdataset", "classes"])
def test_wrong_format_is_refused(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, png_files("a.png"))
    with raises("format-mismatch", tmp_path) as caught:
        scan_source(tmp_path, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("a.png",), "1 of 1 images at the top level"),
        (("a.png", "x/b.png", "y/c.png"), "1 of 3 images at the top level"),
        (("images/a.png", "images/b.png"), "'images'"),
    ],
)
def test_unclear_layout_is_refused_unless_a_format_is_set(tmp_path: Path, names: tuple[str, ...], found: str) -> None:
    write_files(tmp_path, png_files(*names))
    with raises("unclear-source", found, "tags.csv", "--source classes", "--source pictures"):
        scan_source(tmp_path)
    with raises("format-mismatch", "tags.csv"):
        scan_source(tmp_path, "tags")
    if any("/" in name for name in names):
        loose = [item.tags for item in scan_source(tmp_path, "classes").items if "/" not in item.id]
        assert loose == [None] * sum("/" not in name for name in names)
    else:
        with raises("format-mismatch", "SRC/CLASS/image.png"):
            scan_source(tmp_path, "classes")


def test_unclear_layout_names_text_files_and_containers(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("x/1.png", "y/2.png", "y/3.png") | {"x/1.txt": "hat"})
    write_tar(tmp_path / "a.tar", png_files("1.png") | {"1.cls": "x"})
    with raises("unclear-source", "the folders x, y", "tar files", "1 text files for 3 images"):
        scan_source(tmp_path)


def test_table_wins_over_folders_unless_a_format_is_set(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("x/1.png", "y/2.png") | {"tags.csv": "id,tags\n1,smile\n"})
    assert scan_source(tmp_path).kind == "tags"
    assert scan_source(tmp_path, "classes").items[1].tags == ("y",)


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    with raises("source-missing", tmp_path / "none"):
        scan_source(tmp_path / "none")
    write_files(tmp_path, {"tags.csv": "id,tags\na,smile\n"})
    with raises("no-images", tmp_path, ".png"):
        scan_source(tmp_path)
    with raises("source-unsupported", tmp_path / "tags.csv", ".zip"):
        scan_source(tmp_path / "tags.csv")
    with pytest.raises(UserError):
        scan_source(tmp_path, "tags")


def test_a_table_that_names_no_image_is_named(tmp_path: Path) -> None:
    rows = "id,kind\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(9))
    write_files(tmp_path, png_files(*(f"photos/img-{n}x.png" for n in range(9))) | {"kinds.csv": rows})
    with raises("unclear-source", "kinds.csv", "photos/img-0x.png"):
        scan_source(tmp_path)


def test_what_stands_between_folders_and_classes_is_named(tmp_path: Path) -> None:
    names = [f"{kind}/{at}.png" for kind in ("cat", "dog") for at in range(4)]
    write_files(tmp_path, png_files(*names, "extra1.png"))
    with raises("unclear-source", "cat, dog", "no class for extra1.png", "--source classes") as caught:
        scan_source(tmp_path)
    assert "no folder per class" not in str(caught.value)
    (tmp_path / "extra1.png").unlink()
    write_files(tmp_path, {"cat/0.txt": "hat"})
    with raises("unclear-source", "cat, dog", "1 text files for 8 images", "the text files") as caught:
        scan_source(tmp_path)
    assert "no folder per class" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"table": "labels.csv"}])
def test_a_column_of_ids_that_does_not_exist_is_named(tmp_path: Path, options: dict[str, str]) -> None:
    write_files(tmp_path, png_files("a.png", "b.png") | {"labels.csv": "file,kind\na,cat\nb,dog\n"})
    with raises("unknown-column", "--id nope", "labels.csv", "file, kind"):
        scan_source(tmp_path, id="nope", **options)
