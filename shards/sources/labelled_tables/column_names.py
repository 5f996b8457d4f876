"""Read the name of a column: what its cells may be."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+")

_IDS = (  # the best one first
    "file_name filename image_id image img image_name imagename image_path image_file img_name img_path id "
    "file path filepath file_path name key photo photo_id picture image_index images"
).split()
_TAGS = frozenset("tags tag_string tags_general tag_string_general keywords tag choices attributes concepts".split())
_CAPTIONS = frozenset("caption captions text prompt description title_text sentence".split())
_LABELS = frozenset(
    "label labels class classes category categories target targets y species breed genre type dx diagnosis style "
    "class_id class_name label_id label_name category_id category_name classname labelname expression "
    "emotion digit".split()
)
_LABEL_WORDS = frozenset("label labels class category target species breed diagnosis".split())
_PARTS = frozenset("part split subset fold partition set dataset usage_split data_split".split())
_VERDICTS = frozenset(  # last words of columns that say whether the label of their row applies
    "present presence exists value verdict answer applies correct truth true positive accepted agreed vote "
    "label target y".split()
)
_SCORES = frozenset("confidence conf score probability prob weight certainty likelihood".split())
_GROUPS = frozenset("identity person subject patient lesion group".split())
_FLAGS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_OF_PARTS = frozenset("image img set data part split subset sample".split())
_ID_WORDS = frozenset("id ids uid uuid no nr num number code name key index idx hash".split())
_INDEX = frozenset(
    {
        "",
        "index",
        "level_0",
        "idx",
        "unnamed: 0",
        "unnamed:0",
        "unnamed: 0.1",
        "row",
        "row_id",
        "sno",
        "s.no",
        "no",
        "nr",
    }
)


def simple(name: str) -> str:
    """Return a name in lower case with underscores."""
    return "_".join(word.lower() for word in _WORD.findall(name)) or name.strip().lower()


def rank_of_id(name: str) -> int:
    """Return how well a name fits a column of ids: 0 is best, a large number if it does not."""
    return next((rank for rank, known in enumerate(_IDS) if known == simple(name)), len(_IDS))


def names_images(name: str) -> bool:
    return simple(name) in _IDS


def names_tags(name: str) -> bool:
    """Return True for "tags", "keywords" and the like, also if they are numbered: tag1, tag2, …."""
    return unnumbered(name) in _TAGS


def unnumbered(name: str) -> str:
    """Return a simple name without the number at its end."""
    return re.sub(r"_\d+$", "", simple(name))


def names_caption(name: str) -> bool:
    return simple(name) in _CAPTIONS


def is_label(name: str) -> bool:
    """Return True for the names that Hugging Face uses."""
    return simple(name) in ("label", "labels", "class")


def names_label(name: str) -> bool:
    """Return True for "label", "breed", "fine_label", "class id" and the like."""
    words = simple(name).split("_")
    return simple(name) in _LABELS or words[-1] in _LABEL_WORDS or words[-2:] == ["class", "id"]


def names_verdict(name: str) -> bool:
    """Return True for "present", "is_correct" and the like, in a table with a row per label."""
    return simple(name).split("_")[-1] in _VERDICTS


def names_score(name: str) -> bool:
    """Return True for "confidence", "label_score" and the like."""
    return simple(name).split("_")[-1] in _SCORES


def names_part(name: str) -> bool:
    words = simple(name).split("_")
    return simple(name) in _PARTS or words[-1] in ("partition", "split", "subset")


def part_of_flag(name: str) -> str | None:
    """Return "train" for "is_train" and the like, whose cells say whether an image is in that part; else None."""
    words = simple(name).split("_")
    is_flag = words[0] in ("is", "in") and (len(words) == 2 or (len(words) == 3 and words[2] in _OF_PARTS))
    return _FLAGS.get(words[1]) if is_flag else None


def names_group(name: str) -> bool:
    """Return True for names with a word for what several images may show, such as "patient_id" and "age_group"."""
    words = [word for word in simple(name).split("_") if word not in _ID_WORDS]
    if not words:
        return False
    return words[0] == "identity" or ((words[0] in _GROUPS or words[-1] in _GROUPS) and len(words) <= 2)


def names_ids_of_groups(name: str) -> bool:
    """Return True for "patient_id" and the like, of the names of groups: their cells are no labels."""
    words = simple(name).split("_")
    return names_group(name) and (words[-1] in _ID_WORDS and len(words) > 1)


def is_group(name: str) -> bool:
    """Return True for the bare "patient", "subject" and the like, and for "identity_CelebA"."""
    words = simple(name).split("_")
    return words[0] == "identity" or (words[0] in _GROUPS and len(words) == 1)


def names_index(name: str) -> bool:
    return name.strip().lower() in _INDEX
