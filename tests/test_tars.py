"""Finding the members of tars, whoever wrote them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.tars import members


def test_members_of_a_foreign_tar(tmp_path: Path) -> None:
    path = tmp_path / "foreign.tar"
    with tarfile.open(path, "w") as archive:
        for name, body in (
            ("a/1.JPEG", b"jpeg"),
            ("a/1.cls", b"3"),
            ("b.png", b"png!"),
            ("c.seg.png", b"no"),
            ("x" * 150 + ".webp", b"w"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    data = path.read_bytes()
    found = [(m.key, m.extension, data[m.offset : m.offset + m.length]) for m in members(path)]
    assert found == [
        ("a/1", "jpeg", b"jpeg"),
        ("a/1", "cls", b"3"),
        ("b", "png", b"png!"),
        ("c", "seg.png", b"no"),
        ("x" * 150, "webp", b"w"),
    ]
    path.write_bytes(b"x" * 2000)
    with pytest.raises(UserError, match="not a readable tar"):
        list(members(path))


def test_a_size_below_zero_does_not_go_round(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.size = -1024
    header = info.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "round.tar"
    path.write_bytes(header + bytes(512) + header + bytes(2048))
    with pytest.raises(UserError, match="not a readable tar"):
        list(members(path))
