"""Images and labels in arrays: MNIST, MedMNIST, CIFAR, STL-10, SVHN, quickdraw, 3D Shapes and the like."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shards.sources.item import Item, Source
from support.errors import raises
from support.source_files import by_id, npy_bytes, scan_source, tags_by_id, write_files, write_zip

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 10, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 12, 9), np.uint8)
CLASSES = np.array([0, 1, 2, 0, 1, 2], np.uint8)


def scan(src: Path, tmp_path: Path, **options: Any) -> Source:
    return scan_source(src, spool=tmp_path / "spool", **options)


def pixels(item: Item) -> np.ndarray:
    image = Image.open(io.BytesIO(item.image.read()))
    assert image.format == "PNG"
    return np.asarray(image)


def npz_bytes(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def test_npz_with_parts_as_medmnist_has_them(tmp_path: Path) -> None:
    content = npz_bytes(
        train_images=RGB[:4], train_labels=CLASSES[:4, None], val_images=RGB[4:5], val_labels=CLASSES[4:5, None],
        test_images=RGB[5:], test_labels=CLASSES[5:, None],
    )  # fmt: skip
    source = scan(write_files(tmp_path / "src", {"pathmnist.npz": content}), tmp_path)
    items = by_id(source)
    assert items["pathmnist.npz/train_images/2"].tags == ("2",)
    assert items["pathmnist.npz/val_images/0"].tags == ("1",)
    assert items["pathmnist.npz/val_images/0"].part == "validation"
    assert items["pathmnist.npz/test_images/0"].part == "test"
    assert (pixels(items["pathmnist.npz/train_images/3"]) == RGB[3]).all()
    assert source.one_class and len(items) == 6


def test_a_single_npz_is_a_source(tmp_path: Path) -> None:
    write_files(tmp_path, {"faces.npz": npz_bytes(x=RGB, y=CLASSES)})
    assert tags_by_id(scan(tmp_path / "faces.npz", tmp_path))["faces.npz/x/1"] == ("1",)


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_idx_files(tmp_path: Path, packed: bool) -> None:
    files = {
        "train-images-idx3-ubyte": idx_bytes(GREY[:4]),
        "train-labels-idx1-ubyte": idx_bytes(CLASSES[:4]),
        "t10k-images-idx3-ubyte": idx_bytes(GREY[4:]),
        "t10k-labels-idx1-ubyte": idx_bytes(CLASSES[4:]),
    }
    if packed:
        files = {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    source = scan(write_files(tmp_path / "src", files), tmp_path)
    ending = ".gz" if packed else ""
    items = by_id(source)
    assert items[f"train-images-idx3-ubyte{ending}/3"].tags == ("0",)
    last = items[f"t10k-images-idx3-ubyte{ending}/1"]
    assert last.tags == ("2",) and last.part == "test"
    assert (pixels(last) == GREY[5][..., None].repeat(3, 2)).all()


def test_idx_files_in_a_zip(tmp_path: Path) -> None:
    files = {"train-images-idx3-ubyte": idx_bytes(GREY), "train-labels-idx1-ubyte": idx_bytes(CLASSES)}
    write_zip(tmp_path / "mnist.zip", files)
    assert tags_by_id(scan(tmp_path / "mnist.zip", tmp_path))["train-images-idx3-ubyte/2"] == ("2",)


def test_emnist_is_turned_upright_and_its_classes_are_letters(tmp_path: Path) -> None:
    files = {
        "emnist-byclass-train-images-idx3-ubyte": idx_bytes(GREY),
        "emnist-byclass-train-labels-idx1-ubyte": idx_bytes(CLASSES),
        "emnist-byclass-mapping.txt": b"0 48\n1 65\n2 97\n",
    }
    items = by_id(scan(write_files(tmp_path / "src", files), tmp_path))
    first, second, third = (items[f"emnist-byclass-train-images-idx3-ubyte/{i}"] for i in range(3))
    assert (first.tags, second.tags, third.tags) == (("0",), ("capital a",), ("a",))
    assert (pixels(first)[..., 0] == GREY[0].T).all()


def test_two_emnist_datasets_in_one_folder_stop(tmp_path: Path) -> None:
    files = {
        f"emnist-{name}-train-{kind}": idx_bytes(values)
        for name in ("letters", "digits")
        for kind, values in (("images-idx3-ubyte", GREY), ("labels-idx1-ubyte", CLASSES))
    }
    with raises("ambiguous-arrays", "emnist-letters-train-images-idx3-ubyte"):
        scan(write_files(tmp_path / "src", files), tmp_path)


def test_images_and_labels_in_npy_files(tmp_path: Path) -> None:
    files = {"x_train.npy": npy_bytes(RGB), "y_train.npy": npy_bytes(np.eye(3)[CLASSES])}
    source = scan_source(write_files(tmp_path, files))  # needs no spool
    assert tags_by_id(source)["x_train.npy/4"] == ("1",)
    assert source.problems.counts() == {"rows-one-hot": 6}


def test_channels_first_floats_are_scaled(tmp_path: Path) -> None:
    images = RGB.transpose(0, 3, 1, 2).astype(np.float32) / 255
    source = scan(write_files(tmp_path / "src", {"data.npz": npz_bytes(images=images)}), tmp_path)
    item = by_id(source)["data.npz/images/5"]
    assert (pixels(item) == RGB[5]).all() and item.tags is None
    assert source.problems.counts() == {"pixels-rescaled 0 to 1": 6, "image-unlabelled label": 6}


def test_black_and_white_bytes_of_zero_and_one_are_scaled(tmp_path: Path) -> None:
    bits = (GREY > 100).astype(np.uint8)
    source = scan_source(write_files(tmp_path, {"imgs.npy": npy_bytes(bits)}))
    assert (pixels(source.items[0])[..., 0] == bits[0] * 255).all()


def test_quickdraw_has_a_class_per_file(tmp_path: Path) -> None:
    drawing = RNG.integers(0, 256, (3, 784), np.uint8)
    files = {f"full_numpy_bitmap_{name}.npy": npy_bytes(drawing) for name in ("cat", "hot dog", "The Eiffel Tower")}
    source = scan_source(write_files(tmp_path, files))
    tags = tags_by_id(source)
    assert tags["full_numpy_bitmap_hot dog.npy/2"] == ("hot dog",)
    assert tags["full_numpy_bitmap_The Eiffel Tower.npy/0"] == ("the eiffel tower",)
    assert pixels(source.items[0]).shape == (28, 28, 3) and source.one_class
    assert source.problems.counts() == {"rows-as-images 28 x 28": 9}


def test_several_labels_per_image_are_tags(tmp_path: Path) -> None:
    flags = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]])
    source = scan(write_files(tmp_path / "src", {"chest.npz": npz_bytes(images=RGB, labels=flags)}), tmp_path)
    tags = tags_by_id(source)
    assert tags["chest.npz/images/0"] == ("label 0", "label 1") and tags["chest.npz/images/1"] == ()
    assert source.problems.counts() == {"rows-of-flags": 6}


def test_cifar10_binary_with_names(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (4, 3, 32, 32), np.uint8)
    records = np.concatenate([CLASSES[:4, None], images.reshape(4, -1)], 1)
    files = {
        "cifar-10-batches-bin/data_batch_1.bin": records[:2].tobytes(),
        "cifar-10-batches-bin/data_batch_2.bin": records[2:3].tobytes(),
        "cifar-10-batches-bin/test_batch.bin": records[3:].tobytes(),
        "cifar-10-batches-bin/batches.meta.txt": "airplane\nautomobile\nbird\n\n",
    }
    items = by_id(scan_source(write_files(tmp_path, files)))
    assert items["cifar-10-batches-bin/data_batch_2.bin/images/0"].tags == ("bird",)
    last = items["cifar-10-batches-bin/test_batch.bin/images/0"]
    assert last.tags == ("airplane",) and last.part == "test"
    assert (pixels(last) == images[3].transpose(1, 2, 0)).all()


def test_cifar100_binary_has_fine_classes_and_a_column_of_coarse_ones(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (2, 3072), np.uint8)
    records = np.concatenate([np.array([[1, 0], [0, 1]], np.uint8), images], 1)
    files = {
        "train.bin": records.tobytes(),
        "fine_label_names.txt": "apple\nbear\n",
        "coarse_label_names.txt": "animal\nfruit\n",
    }
    assert tags_by_id(scan_source(write_files(tmp_path, files))) == {
        "train.bin/images/0": ("apple",),
        "train.bin/images/1": ("bear",),
    }


def test_stl10_binary_counts_classes_from_one_and_stores_columns_first(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (2, 3, 96, 96), np.uint8)
    files = {
        "train_X.bin": images.tobytes(),
        "train_y.bin": bytes([2, 1]),
        "unlabeled_X.bin": images[:1].tobytes(),
        "class_names.txt": "airplane\nbird\n",
    }
    items = by_id(scan_source(write_files(tmp_path, files)))
    assert items["train_X.bin/0"].tags == ("bird",) and items["train_X.bin/1"].tags == ("airplane",)
    assert items["unlabeled_X.bin/0"].part == "unlabelled" and items["unlabeled_X.bin/0"].tags is None
    assert (pixels(items["train_X.bin/0"]) == images[0].transpose(2, 1, 0)).all()


def test_svhn_label_ten_is_the_digit_zero(tmp_path: Path) -> None:
    io_module = pytest.importorskip("scipy.io")
    (tmp_path / "src").mkdir()
    images = RNG.integers(0, 256, (32, 32, 3, 5), np.uint8)
    io_module.savemat(tmp_path / "src/train_32x32.mat", {"X": images, "y": np.array([[1], [10], [9], [2], [10]])})
    source = scan(tmp_path / "src", tmp_path)
    items = by_id(source)
    assert [items[f"train_32x32.mat/X/{i}"].tags for i in range(5)] == [("1",), ("0",), ("9",), ("2",), ("0",)]
    assert (pixels(items["train_32x32.mat/X/1"]) == images[..., 1]).all()
    assert source.problems.counts()["label-ten-is-zero"] == 2


def test_hdf5_with_measured_factors(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "src").mkdir()
    factors = np.array([[0.0, 0.1, 3], [0.5, 0.2, 1], [1, 0.3, 0], [0, 0, 0], [0.1, 0, 0], [0.3, 1, 2]])
    with h5py.File(tmp_path / "src/3dshapes.h5", "w") as file:
        file.create_dataset("images", data=RGB, chunks=(2, 8, 10, 3), compression="gzip")
        file["labels"] = factors
    items = by_id(scan(tmp_path / "src", tmp_path))
    assert items["3dshapes.h5/images/1"].vector == (0.5, 0.2, 1.0)
    assert (pixels(items["3dshapes.h5/images/4"]) == RGB[4]).all()


def test_hdf5_with_names_of_classes(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "src").mkdir()
    with h5py.File(tmp_path / "src/train_catvnoncat.h5", "w") as file:
        file["train_set_x"], file["train_set_y"] = RGB, CLASSES % 2
        file["list_classes"] = np.array([b"non-cat", b"cat"])
    assert tags_by_id(scan(tmp_path / "src", tmp_path))["train_catvnoncat.h5/train_set_x/1"] == ("cat",)


def test_labels_of_another_length_stop(tmp_path: Path) -> None:
    files = {"images.npy": npy_bytes(RGB), "labels.npy": npy_bytes(CLASSES[:5])}
    with raises("array-lengths-differ", "images.npy", "labels.npy", 6, 5):
        scan_source(write_files(tmp_path, files))


def test_two_datasets_with_labels_stop(tmp_path: Path) -> None:
    content = npz_bytes(train_images=RGB, train_labels=CLASSES)
    src = write_files(tmp_path / "src", {"pathmnist.npz": content, "bloodmnist.npz": content})
    with raises("ambiguous-arrays", "pathmnist.npz", "bloodmnist.npz"):
        scan(src, tmp_path)


def test_values_of_no_known_range_stop(tmp_path: Path) -> None:
    with raises("pixel-range-unclear", "images.npy", "-700"):
        scan_source(write_files(tmp_path, {"images.npy": npy_bytes(GREY.astype(np.int16) * 5 - 700)}))


def test_arrays_without_images_are_named_with_their_shapes(tmp_path: Path) -> None:
    with raises("no-images", "features.npy", "6 x 5"):
        scan_source(write_files(tmp_path, {"features.npy": npy_bytes(np.zeros((6, 5)))}))


class _Trap:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


def test_arrays_of_objects_are_never_unpickled(tmp_path: Path) -> None:
    out = io.BytesIO()
    np.save(out, np.array([_Trap(), None], object), allow_pickle=True)
    with raises("pickled-source", "images.npy", "allow_pickle"):
        scan_source(write_files(tmp_path, {"images.npy": out.getvalue()}))


def test_arrays_of_objects_beside_images_are_counted(tmp_path: Path) -> None:
    content = npz_bytes(imgs=(GREY > 99).astype(np.uint8), metadata=np.array([{"a": 1}, None], object))
    assert b"metadata" in content
    source = scan(write_files(tmp_path / "src", {"dsprites.npz": content}), tmp_path)
    assert source.problems.counts()["array-of-objects"] == 1 and len(source.items) == 6


@pytest.mark.parametrize(
    "name", ["images.npy", "data.npz", "train-images-idx3-ubyte", "x.mat", "x.h5", "data_batch_1.bin", "train_X.bin"]
)
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    for number, content in enumerate(
        (b"", b"\x93NUMPY", b"PK\x03\x04 cut off", b"MATLAB 5.0" + b" " * 300, b"\0" * 99)
    ):
        src = write_files(tmp_path / str(number), {name: content})
        with raises("file-damaged", name):
            scan(src, tmp_path)


def test_damaged_and_bursting_archives_are_named(tmp_path: Path) -> None:
    name = "train-images-idx3-ubyte.gz"
    for number, data in enumerate((b"no gzip", gzip.compress(idx_bytes(GREY))[:-30], gzip.compress(bytes(1 << 28)))):
        with raises("file-damaged", name):
            scan(write_files(tmp_path / str(number), {name: data}), tmp_path)


def test_a_header_that_promises_too_much_is_damaged(tmp_path: Path) -> None:
    content = struct.pack(">BBBB3I", 0, 0, 8, 3, 4_000_000_000, 28, 28)
    with raises("file-damaged", "train-images-idx3-ubyte"):
        scan_source(write_files(tmp_path, {"train-images-idx3-ubyte": content}))


def test_images_stay_readable_in_other_processes(tmp_path: Path) -> None:
    source = scan(write_files(tmp_path / "src", {"a.npz": npz_bytes(images=RGB, labels=CLASSES)}), tmp_path)
    image = pickle.loads(pickle.dumps(source.items[2].image))
    assert image.read() == source.items[2].image.read() and image.stamp() == source.items[2].image.stamp()


def test_a_second_scan_gives_the_same_images_and_reuses_the_spool(tmp_path: Path) -> None:
    src = write_files(tmp_path / "src", {"a.npz": npz_bytes(images=RGB / 255, labels=CLASSES)})
    first = scan(src, tmp_path)
    spooled = {path: path.stat().st_mtime_ns for path in (tmp_path / "spool").iterdir()}
    second = scan(src, tmp_path)
    assert [item.image.stamp() for item in first.items] == [item.image.stamp() for item in second.items]
    assert spooled == {path: path.stat().st_mtime_ns for path in (tmp_path / "spool").iterdir()}
