"""Images without labels."""

from __future__ import annotations

from pathlib import Path

from support.source_files import png_files, scan_source, tags_by_id, write_files


def test_images_alone(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("a.png", "x/b.png") | {"tags.csv": "id,tags\na,smile\n"})
    source = scan_source(tmp_path, "pictures")
    assert source.kind == "pictures" and tags_by_id(source) == {"a.png": None, "x/b.png": None}
