"""Masks, annotations and thumbnails among images."""

from __future__ import annotations

from shards.sources.layout.masks import find_masks


def masks(*names: str) -> set[str]:
    found = find_masks(names)
    assert not found.doubtful
    return set(found.names)


def test_folders_of_masks_beside_images() -> None:
    for images, other in (
        ("images", "masks"),
        ("JPEGImages", "SegmentationClass"),
        ("images", "annotations/trimaps"),
        ("train", "ground_truth"),
        ("CelebA-HQ-img", "CelebAMask-HQ-mask-anno"),
        ("images", "thumbnails"),
    ):
        names = [f"{images}/a_1.jpg", f"{images}/a_2.jpg", f"{other}/a_1.png", f"{other}/a_2.png"]
        assert masks(*names) == {f"{other}/a_1.png", f"{other}/a_2.png"}


def test_masks_in_each_class() -> None:
    assert masks("covid/images/1.png", "covid/masks/1.png", "normal/images/2.png", "normal/masks/2.png") == {
        "covid/masks/1.png",
        "normal/masks/2.png",
    }


def test_masks_of_parts_are_named_after_the_number() -> None:
    assert masks("img/7.jpg", "mask/00007_hair.png", "mask/00007_nose.png") == {
        "mask/00007_hair.png",
        "mask/00007_nose.png",
    }


def test_masks_beside_each_image() -> None:
    assert masks("benign/benign (1).png", "benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png") == {
        "benign/benign (1)_mask.png",
        "benign/benign (1)_mask_1.png",
    }
    assert masks("a_mask.png", "b_mask.png") == set()


def test_classes_about_masks_are_no_masks() -> None:
    assert masks("with_mask/1.png", "without_mask/1.png") == set()
    assert masks("mask/a.png", "no_mask/a.png") == set()
    assert masks("mask/a.png", "hat/b.png") == set()


def test_folders_that_may_be_masks_are_doubted() -> None:
    assert find_masks(["images/1.png", "labels/x.png"]).doubtful == ("labels",)
    assert find_masks(["hat/1.png", "mask/1.png"]).doubtful == ("mask",)
