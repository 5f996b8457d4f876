"""Finding the members of tars, whoever wrote them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.core.errors import UserError
from shards.dataset.tar_index import has_end_mark, members


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


def tar_of_images(path: Path) -> bytes:
    """A tar of six images, each a header and one block."""
    with tarfile.open(path, "w") as archive:
        for number in range(6):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = 500
            archive.addfile(info, io.BytesIO(bytes([number + 1]) * 500))
    return path.read_bytes()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tar: tar[: 4 * 1024 + 100],  # cut in a header
        lambda tar: tar[: 4 * 1024 + 700],  # cut in an image
        lambda tar: tar[: 4 * 1024 + 20] + b"?" + tar[4 * 1024 + 21 :],  # a header's bytes
        lambda tar: tar[: 4 * 1024] + bytes(512) + tar[4 * 1024 + 512 :],  # a header that was not written
        lambda tar: tar + tar,  # cat a.tar b.tar
    ],
)
def test_a_tar_that_does_not_end_where_it_seems_to(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """tarfile stops there as if it were the end; what follows would be lost in silence."""
    path = tmp_path / "a.tar"
    path.write_bytes(spoil(tar_of_images(path)))
    with pytest.raises(UserError, match=r"a\.tar: not a readable tar \("):
        list(members(path))


def test_a_tar_that_was_cut_between_two_members_has_no_end_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    whole = tar_of_images(path)
    assert has_end_mark(path) and len(list(members(path))) == 6
    path.write_bytes(whole[: 4 * 1024])
    assert not has_end_mark(path) and len(list(members(path))) == 4
