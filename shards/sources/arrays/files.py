"""Opening files of arrays: .npy, .npz, idx (MNIST), MATLAB, HDF5, and the binary versions of CIFAR and STL-10.

Nothing is unpickled. Large arrays stay on the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shards.core import atomic_io
from shards.core.errors import UserError
from shards.sources.file_tree import FileTree
from shards.sources.image_refs import file_stamp, is_plausible_size
from shards.sources.item import ImageFile

_IDX = re.compile(r"idx\d-ubyte$", re.IGNORECASE)
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_CIFAR10 = re.compile(r"(data_batch_\d|test_batch)\.bin$")
_CIFAR100 = re.compile(r"(^|/)(train|test)\.bin$")
_STL10 = re.compile(r"(train|test|unlabeled)_([Xy])\.bin$")
_STL10_BYTES = 3 * 96 * 96
_PIECE = 1 << 20
_MAX_MEMORY = 1 << 33  # bytes of a MATLAB variable, which is read as a whole


@dataclass(frozen=True)
class Array:
    """An array in a file.

    Attributes:
        file: name of the file below the source.
        name: its name in the file; "" if the file is the array.
        values: anything that slices as a NumPy array does, with a shape and a dtype.
        stamp: changes when the file changes.
        path: the file whose bytes are the values, if they are stored one after another as they are; else None.
        start: offset of the first value there.
        step: bytes from one row of the first axis to the next.
        axes: axes of one image, if the format fixes them.
    """

    file: str
    name: str
    values: Any
    stamp: str
    path: Path | None = None
    start: int = 0
    step: int = 0
    axes: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.values.shape)

    @property
    def label(self) -> str:
        """Its file and name, for messages."""
        return f"{self.file}:{self.name}" if self.name else self.file


def reader_of(name: str) -> Callable[[str, Path, Path | None], Iterator[Array]] | None:
    """Return the reader of a file by its name, or None if it is not a file of arrays."""
    lower = name.lower().removesuffix(".gz")
    if _IDX.search(lower):
        return _idx
    if _CIFAR10.search(lower) or _CIFAR100.search(lower):
        return _cifar
    if _STL10.search(name):
        return _stl10
    return _READERS.get(os.path.splitext(lower)[1])  # noqa: PTH122 - many files


def open_arrays(tree: FileTree, name: str, spool: Path | None) -> list[Array]:
    """Return the arrays of a file; arrays of Python objects are counted and left out.

    Raises:
        UserError: the file is damaged or pickled, a package is missing, or it must be unpacked and there is no spool.
    """
    reader = reader_of(name)
    assert reader is not None
    path = _local(tree, name, spool)
    try:
        found = list(reader(name, path, spool))
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError("file-damaged", f"{tree.where(name)}: cannot be read as arrays ({reason})") from None
    arrays = [array for array in found if array.values.dtype.kind in "biufSU"]
    for array in found:
        if array not in arrays:
            tree.problems.add("array-of-objects", array.label)
    if found and not arrays:
        raise pickled_array(tree.where(name))
    return arrays


def pickled_array(where: str) -> UserError:
    """Return the error for arrays of Python objects, which only pickle can read."""
    return UserError(
        "pickled-source",
        f"{where}: its arrays hold Python objects, which are pickled and therefore never read; convert them:\n"
        "    import numpy as np\n"
        f"    images = np.load({os.path.basename(where)!r}, allow_pickle=True)  # or images = np.load(…)['NAME']\n"  # noqa: PTH119
        "    np.savez('converted.npz', images=np.stack(list(images)))  # and labels=np.array(labels)\n"
        "(unpickling can run any code: do this only with a file that you trust)",
    )


# ---------------------------------------------------------------- local files


def _local(tree: FileTree, name: str, spool: Path | None) -> Path:
    """Return the path of a file outside any zip and without compression: its own, or that of a copy in the spool."""
    ref = tree.others[name]
    packed = name.lower().endswith(".gz")
    if isinstance(ref, ImageFile) and not packed:
        return Path(ref.path)
    if spool is None:
        raise UserError("pack-only-source", f"{tree.where(name)}: is compressed and can only be packed; or unpack it")
    copy = _spooled(spool, tree.where(name), ref.stamp())
    if copy.exists():
        return copy
    try:
        if not isinstance(ref, ImageFile):
            data = ref.read()
            _copy(gzip.GzipFile(fileobj=io.BytesIO(data)) if packed else io.BytesIO(data), copy, len(data))
        else:
            with gzip.open(ref.path) as source:
                _copy(source, copy, os.stat(ref.path).st_size)  # noqa: PTH116
    except (OSError, ValueError) as error:
        raise UserError("file-damaged", f"{tree.where(name)}: cannot be decompressed ({error})") from None
    return copy


def _spooled(spool: Path, *of: str) -> Path:
    return spool / f"array-{hashlib.sha256(' '.join(of).encode(errors='replace')).hexdigest()[:20]}.bin"


def _copy(source: Any, copy: Path, packed: int) -> None:
    """Copy a stream to a file; raise ValueError if it is damaged or its size suggests a decompression bomb."""
    with atomic_io.explain_disk_errors(copy.parent):
        copy.parent.mkdir(parents=True, exist_ok=True)
    with atomic_io.atomic_writer(copy) as out:
        for piece in _pieces(source, packed):
            out.write(piece)


def _pieces(source: Any, packed: int) -> Iterator[bytes]:
    done = 0
    while True:
        try:
            piece = source.read(_PIECE)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise ValueError(str(error)) from None
        if not piece:
            return
        done += len(piece)
        if not is_plausible_size(packed, done):
            raise ValueError(f"refused: its {packed:,} bytes unpack to more than {done:,}; unpack it yourself")
        yield piece


# ---------------------------------------------------------------- formats


def _plain(file: str, name: str, path: Path, start: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array whose values are stored in C order from an offset of a file."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if min(shape, default=0) < 1 or os.stat(path).st_size < start + size:  # noqa: PTH116
        raise ValueError(f"it ends before its {' x '.join(map(str, shape))} values")
    values = np.memmap(path, kind, "r", start, shape)
    step = math.prod(shape[1:]) * kind.itemsize
    return Array(file, name, values, file_stamp(path), path if kind == np.uint8 else None, start, step)


def _npy(file: str, path: Path, spool: Path | None) -> Iterator[Array]:
    yield _npy_array(file, "", path)


def _npy_array(file: str, name: str, path: Path) -> Array:
    with path.open("rb") as opened:
        version = np.lib.format.read_magic(opened)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(opened)
        start = opened.tell()
    if dtype.hasobject:
        return Array(file, name, np.empty(0, object), file_stamp(path))
    if fortran and len(shape) > 1:
        return Array(file, name, np.memmap(path, dtype, "r", start, shape, "F"), file_stamp(path))
    return _plain(file, name, path, start, shape or (1,), dtype)


def _npz(file: str, path: Path, spool: Path | None) -> Iterator[Array]:
    if spool is None:
        raise UserError("pack-only-source", f"{path}: is compressed and can only be packed; or save its arrays as .npy")
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            copy = _spooled(spool, str(path), file_stamp(path), member.filename)
            if not copy.exists():
                with archive.open(member) as source:
                    _copy(source, copy, member.compress_size)
            yield _npy_array(file, member.filename.removesuffix(".npy"), copy)


def _idx(file: str, path: Path, spool: Path | None) -> Iterator[Array]:
    with path.open("rb") as opened:
        head = opened.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES or not 0 < head[3] <= 5:
            raise ValueError("it has no idx header")
        shape = tuple(np.frombuffer(opened.read(4 * head[3]), ">u4").tolist())
    array = _plain(file, "", path, 4 + 4 * head[3], shape, _IDX_TYPES[head[2]])
    is_emnist = "emnist" in file.lower() and len(shape) == 3
    yield replace(array, axes=(1, 0)) if is_emnist else array  # EMNIST stores columns first


def _cifar(file: str, path: Path, spool: Path | None) -> Iterator[Array]:
    names = ("label",) if _CIFAR10.search(file.lower()) else ("coarse_label", "fine_label")
    step = len(names) + 3072
    size = os.stat(path).st_size  # noqa: PTH116
    if not size or size % step:
        raise ValueError(f"its {size:,} bytes are not records of {step}")
    records = np.memmap(path, np.uint8, "r", 0, (size // step, step))
    for column, name in enumerate(names):
        yield Array(file, name, records[:, column], file_stamp(path))
    images = records[:, len(names) :].reshape(-1, 3, 32, 32)
    yield Array(file, "images", images, file_stamp(path), path, len(names), step, (1, 2, 0))


def _stl10(file: str, path: Path, spool: Path | None) -> Iterator[Array]:
    size = os.stat(path).st_size  # noqa: PTH116
    if file.endswith("y.bin"):
        yield _plain(file, "", path, 0, (size,), np.uint8)
        return
    if size % _STL10_BYTES:
        raise ValueError(f"its {size:,} bytes are not images of 3 x 96 x 96")
    array = _plain(file, "", path, 0, (size // _STL10_BYTES, 3, 96, 96), np.uint8)
    yield replace(array, axes=(2, 1, 0))  # columns first


def _mat(file: str, path: Path, spool: Path | None) -> Iterator[Array]:
    with path.open("rb") as opened:
        head = opened.read(512)
    if b"MATLAB 7.3" in head[:128] or head[:4] == b"\x89HDF":
        for array in _hdf5(file, path, spool):  # with all axes in reverse order
            axes = {3: (1, 0), 4: (2, 1, 0)}.get(len(array.shape))
            yield replace(array, axes=axes)
        return
    try:
        from scipy.io import loadmat, whosmat
        from scipy.io.matlab import MatReadError
    except ImportError:
        raise _package_missing(path, "MATLAB files", "scipy") from None
    try:
        for name, shape, kind in whosmat(str(path)):
            if kind in ("cell", "struct", "object", "function", "opaque", "sparse"):
                continue
            if math.prod(shape) * 8 > _MAX_MEMORY and kind != "uint8":
                raise ValueError(f"its variable {name} has {' x '.join(map(str, shape))} values")
            values = loadmat(str(path), variable_names=[name])[name]
            # MATLAB counts images along the last axis.
            values = np.moveaxis(values, -1, 0) if values.ndim > 2 else values
            yield Array(file, name, values, file_stamp(path))
    except (MatReadError, TypeError, IndexError, MemoryError) as error:
        raise ValueError(str(error) or "damaged") from None


def _hdf5(file: str, path: Path, spool: Path | None) -> Iterator[Array]:
    try:
        import h5py
    except ImportError:
        raise _package_missing(path, "HDF5", "h5py") from None
    found: list[Array] = []

    def visit(name: str, value: Any) -> None:
        if isinstance(value, h5py.Dataset) and value.shape and not value.is_virtual and not value.external:
            size = math.prod(value.shape) * value.dtype.itemsize
            if not is_plausible_size(value.id.get_storage_size(), size):
                raise ValueError(f"{name}: refused: it unpacks to {size:,} bytes")
            kept = value.asstr() if h5py.check_string_dtype(value.dtype) else value
            found.append(Array(file, name, _Strings(kept) if kept is not value else value, file_stamp(path)))

    h5py.File(path, "r", locking=False).visititems(visit)  # remains open as long as its arrays are used
    yield from found


class _Strings:
    """A dataset of strings in HDF5, sliced as NumPy arrays of str."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape, self.dtype = values, values._dset.shape, np.dtype("U1")

    def __getitem__(self, at: slice) -> np.ndarray:
        return np.asarray(self.values[at], str)


def _package_missing(path: Path, what: str, package: str) -> UserError:
    return UserError("package-missing", f'{path}: reading {what} needs {package}: pip install "cgan-trainer[arrays]"')


_READERS: dict[str, Callable[[str, Path, Path | None], Iterator[Array]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".mat": _mat,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".hdf": _hdf5,
}
