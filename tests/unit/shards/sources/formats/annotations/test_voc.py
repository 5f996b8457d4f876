"""Pascal VOC: the names of the objects in an image are its tags."""

from __future__ import annotations

from pathlib import Path

from support.source_files import png_files, scan_source, tags_by_id, write_files


def note(*names: str, before: str = "") -> str:
    objects = "".join(f"<object><name>{name}</name><part><name>head</name></part></object>" for name in names)
    return f"{before}<annotation><folder>VOC</folder><filename>x.jpg</filename>{objects}</annotation>"


def test_objects_are_tags(tmp_path: Path) -> None:
    files = {"Annotations/a.xml": note("dog", "Wine Glass", "dog"), "Annotations/b.xml": note(), "c.txt": "x"}
    images = png_files("JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png")
    source = scan_source(write_files(tmp_path, {**files, **images}))
    assert tags_by_id(source) == {
        "JPEGImages/a.png": ("dog", "wine glass"),
        "JPEGImages/b.png": (),
        "JPEGImages/c.png": None,
    }
    assert source.kind == "voc"


def test_entities_and_broken_files_are_never_read(tmp_path: Path) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    files = {"a.xml": note("dog"), "b.xml": note("&a;", before=bomb), "c.xml": note("dog")[:-5]}
    source = scan_source(write_files(tmp_path, {**files, **png_files("a.png", "b.png", "c.png")}))
    assert tags_by_id(source) == {"a.png": ("dog",), "b.png": None, "c.png": None}
    assert source.problems.counts()["annotation-unreadable"] == 2
