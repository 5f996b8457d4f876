"""Write samples to an uncompressed tar, as webdataset does."""

from __future__ import annotations

import io
import tarfile
from typing import IO, Any


class TarWriter:
    """A tar of samples; other options of webdataset's are not supported."""

    def __init__(self, stream: IO[bytes], *, mode: int = 0o444, mtime: float = 0, **ignored: Any) -> None:
        self._tar = tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed below
        self._mode, self._mtime = mode, mtime

    def write(self, sample: dict[str, Any]) -> None:
        """Write the files of a sample, whose name is its ``__key__``."""
        for extension in sorted(sample.keys() - {"__key__"}):
            content = sample[extension]
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(f"{sample['__key__']}.{extension}")
            member.size, member.mode, member.mtime = len(content), self._mode, self._mtime
            self._tar.addfile(member, io.BytesIO(content))

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._tar.close()
