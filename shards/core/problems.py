"""Count the problems that are met while a dataset is made, by message code, and put them into words."""

from __future__ import annotations

from dataclasses import dataclass, field

from shards.core.atomic_io import join_names

NAMES_KEPT = 5  # of each kind of problem
_NAME = 200  # letters of a name in a report

Noted = dict[str, tuple[int, list[str]]]  # key of a problem → how many, and the first names

# Code → what people read, with "{detail}" where one is needed. A manifest has the sentences of the version that packed
# it, for people alone; records of packing have the codes, which must stay.
_SENTENCES = {
    # files and folders
    "folder-unreadable": "folders that cannot be read",
    "extension-not-read": "files with the ending {detail}, which is not read (left out)",
    "image-by-content": "images whose names do not end as those of images do (told by their first bytes)",
    "file-not-looked-at": "files of unknown endings beside images (too many to look into: left out; name images .jpg)",
    "file-name-repeated": "files whose names are the same once read as UTF-8 (the first is used)",
    "zip-member-encrypted": "zip members that are encrypted (left out; unpack the zip)",
    "zip-member-compression": "zip members that are packed by {detail} (left out; unpack the zip)",
    "zip-member-too-large": "zip members of more than a gigabyte (left out)",
    "zip-member-repeated": "zip members with a repeated name (the first is used)",
    "tar-without-end-mark": "tars without an end mark (possibly truncated; the readable part is used)",
    "junk-left-out": "images that systems or programs left behind, such as ._* and @eaDir (left out)",
    "mask-left-out": "masks, annotations or thumbnails of other images (left out)",
    "archive-not-read": "archives next to images (not read)",
    "archive-is-folder": "archives that are read like folders",
    "name-decoded": "names in zips that are read as {detail}",
    # folders
    "folder-divides-files": "folders that only divide the files (no labels)",
    "folder-level-is-attribute": "folders above those of the classes, which are the attribute {detail}",
    "folder-not-read": "folders whose names may be classes, but are not labels here (--source classes reads them)",
    "folder-names-joined": "folders of classes whose names along the path are joined",
    "folder-tells-nothing": "folders above or below those of the classes that all images share (no label)",
    "folder-is-copy": "folders named like copies of others (one class with these)",
    "image-is-preview": "images next to the class folders that are named like a preview (left out)",
    "folder-number-removed": "folders whose names have a number before them (left out of the label)",
    "folder-below-class": "folders below a class folder that has images itself (their images have its class)",
    "class-named-by-synset": "folders with WordNet ids (named by the source's list)",
    "case-kept-apart": "names that differ from others by capital letters alone (different classes)",
    "class-names-merged": "groups of names that differ by spaces or capital letters alone (one class each)",
    "name-without-labels": "images whose names do not match --from-name (kept, unlabelled)",
    # rows and samples
    "row-without-id": "rows without an id (left out)",
    "row-without-image": "rows without an image (left out)",
    "id-ambiguous": "ids that fit several images (left out; write the id with folder and extension)",
    "id-repeated": "rows with a repeated id (the first row is used)",
    "text-decoded": "tables and texts that are read as {detail}",
    "column-repeated": "columns with a repeated name (a number is added)",
    "words-unclear": "lists in which several words may be one label or several ({detail}); write them as a CSV table "
    "with the columns id,tags, and commas between several tags",
    "rows-lost": "rows of {detail}; correct these ids, or choose with --table, --id or --source",
    "images-left-to-folders": "images that {detail} leaves unlabelled, though all are in class folders; set --source "
    "classes to use these",
    "row-too-long": "rows of {detail} with more cells than columns (left out; put cells with commas in quotes)",
    "row-too-short": "rows of {detail} with fewer cells than columns (the missing ones are empty)",
    "decimal-comma": "columns of {detail} with decimal commas (read as numbers)",
    "number-with-unit": "columns of numbers with the unit {detail} (read without it)",
    "json-key-repeated": "keys that are repeated in the same JSON object (the last one is used)",
    "id-matched-by-path": "ids matched by the last parts of their paths or URLs",
    "id-matched-by-case": "ids matched without regard to capital letters",
    "id-matched-without-extension": "ids matched without regard to the file's extension",
    "id-matched-by-number": "ids matched as numbers, whatever zeros they have (17 or 17.0 for 000017)",
    "line-unreadable": "lines that cannot be read (left out)",
    "entry-malformed": "entries that are not [name, label] (left out)",
    "sample-key-repeated": "samples with a repeated key (the first is used)",
    "sample-without-image": "samples without an image (left out)",
    "sample-with-several-images": "samples with several images (the first is used)",
    "member-not-read": "{detail} members (not read)",
    "member-pickled": "{detail} members (pickled: never read)",
    # labels
    "image-unlabelled": "images without a {detail} (kept, unlabelled)",
    "image-outside-class-folder": "images outside a class folder (kept, unlabelled)",
    "part-trained-on": "images of the part {detail} (packed to be trained on; --validation {detail} sets them aside)",
    "label-unreadable": "labels that cannot be read (left out)",
    "text-not-utf8": "texts that are not UTF-8 (left out)",
    "text-file-without-image": "text files without an image (left out)",
    "text-file-not-first": "further text files of an image (left out; the first of .txt, .caption, .tags is used)",
    "text-file-shared": "images that share a text file with another of the same name (both have its labels)",
    "text-file-unreadable": "text files that cannot be read (their images are kept)",
    "text-file-too-large": "text files of more than a megabyte (their images are kept)",
    "text-file-not-utf8": "text files that are not UTF-8 (their images are kept)",
    "text-with-parameters": "texts with generation parameters (only the prompt is read, no negative prompt)",
    "tags-split-at-blanks": "texts without commas whose tags have underscores (split at spaces)",
    "tags-split": "cells with several tags, separated by {detail} (split)",
    "phrases-read": "phrases of modifiers and nouns ({detail}): each modifier with its noun is a tag",
    "phrase-not-understood": "phrases that cannot be read as modifiers and nouns (unknown there)",
    "texts-are-numbers": "texts that are one number each (its class, or a measurement)",
    "texts-are-boxes": "texts of boxes (class x y width height, as YOLO writes them), which are not tags (left out)",
    "texts-are-codes": "texts of JSON, hashes or addresses, which are not tags (left out)",
    "boxes-are-tags": "texts of boxes (the names of the classes in {detail} that they show are tags)",
    "caption-first-of-several": "texts with several captions, one per line (the first is used)",
    "letters-cleaned": "cells with invisible or full-width letters (read without them, or as plain ones)",
    "tags-in-lists": "cells that hold a list (its entries are the tags)",
    "tags-with-namespace": "tags with a namespace, such as character: (read without it)",
    "tags-weighted": "tags with a weight or count (read without it; --min-weight leaves light ones out)",
    "tags-light": "tags with a weight below {detail} (left out)",
    "cell-unreadable": "cells of column {detail} that cannot be read (unknown there)",
    "cell-uncertain": "cells -1 next to 0 and 1 in column {detail} (uncertain: unknown there)",
    "cell-zero": "cells 0 in column {detail} of 1 and -1 (unknown there)",
    "cell-none": "cells 'none' in column {detail} (kept as a value; leave them empty if it means unknown)",
    "cell-not-known": "cells NA, ?, - or unsure in column {detail} (unknown; write another word if it is a value)",
    "class-negative": "classes -1 in column {detail} (no class: unknown there)",
    "label-negative": "labels -1 (no class: unlabelled)",
    "class-named-by-list": "classes that are named by {detail}",
    "class-list-not-used": "lists of names that do not fit the numbers of the classes (not used: {detail})",
    "class-list-unclear": "classes whose names depend on where a list begins to count (not used: {detail}); write the "
    "number before each name in that file, or the numbers stay the names of the classes",
    "class-lists-differ": "classes that lists of names name differently (not used: {detail}); leave one of these files "
    "in SRC, or the numbers stay the names of the classes",
    "columns-one-hot": "columns of which each row has exactly one (the exclusive attribute {detail})",
    "column-left-out": "columns of {detail} that are not labels (left out; cgan preview says why)",
    "rows-combined": "images with several rows (their values of {detail} are tags)",
    "rows-denied": "rows whose label does not apply by the column {detail} (absent there)",
    "rows-undecided": "rows whose column {detail} does not say whether their label applies (left out)",
    "rows-conflicting": "images with a label that one row affirms and another denies, by the column {detail} (present)",
    "table-not-used": "further tables that name images (not read; --table reads one)",
    "table-unusable": "tables that cannot be used (not read)",
    "table-row-unmatched": "rows of {detail} for images that the first table does not name (left out)",
    "column-empty": "columns without a single value (left out)",
    "synonym-unused": "aliases in {detail} that no image needs",
    "tag-not-in-schema": "tags that {detail} lacks (left out)",
    "tag-rare": "tags that fewer than {detail} images have (left out)",
    "values-conflicting": "images with two values of {detail} (unknown there)",
    "caption-not-encoded": "captions that no --text-encoder reads (kept as notes)",
    # JSON records
    "record-of-several": "JSON files with several objects (the first is used)",
    "record-without-image": "records without an image (left out)",
    "tag-of-category": "tags of the category {detail} (left out)",
    "json-file-unreadable": "JSON files that cannot be read (their images are kept)",
    # annotations
    "caption-not-first": "further captions of an image (the first is used)",
    "annotation-not-first": "further annotations of an image (the first is used)",
    "annotation-unreadable": "annotations that cannot be read (their images are kept)",
    "category-unknown": "annotations of a category that the file does not name (left out)",
    # arrays
    "array-of-objects": "arrays of Python objects (pickled: never read)",
    "array-not-used": "arrays that are neither images nor their labels (left out)",
    "rows-as-images": "rows of numbers (taken as images of {detail})",
    "rows-one-hot": "label rows with a single 1 among zeros (taken as classes)",
    "rows-of-flags": "label rows of zeros and ones (taken as tags)",
    "label-ten-is-zero": "labels 10 (the digit 0, as in SVHN)",
    "pixels-rescaled": "images with values from {detail} (scaled to 0 to 255)",
    # images
    "image-unusable": "images that cannot be used (left out)",
    "colour-profile-unusable": "colour profiles that cannot be used (taken as sRGB)",
    "duplicate-dropped": "images that are the same as another (left out)",
    "duplicate-dropped-other-label": "images that are the same as another, but labelled otherwise (left out)",
    "duplicate-kept": "images that are the same as another (kept)",
    "duplicate-kept-other-label": "images that are the same as another, but labelled otherwise (kept)",
    "image-in-both-splits": "images in both parts (the same bytes; --duplicates drop keeps one)",
}


@dataclass
class Problems:
    """Counts of problems, with the names of the first few of each kind.

    A kind is keyed by its code, or by "CODE DETAIL" where the code's sentence needs a detail.

    Attributes:
        found: key → the first names, in the order in which the kinds were met.
    """

    found: dict[str, list[str]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def add(self, code: str, name: str = "", *, detail: str = "", count: int = 1) -> None:
        """Count ``count`` more problems of a kind.

        Args:
            code: one of the table's.
            name: the file, row or tag concerned, if there is one.
            detail: fills the gap in the code's sentence, if it has one.
        """
        if code not in _SENTENCES:
            raise KeyError(code)
        self._add(f"{code} {_one_line(detail)}".rstrip(), name, count)

    def _add(self, key: str, name: str, count: int) -> None:
        self._counts[key] = self._counts.get(key, 0) + count
        names = self.found.setdefault(key, [])
        if name and len(names) < NAMES_KEPT:
            names.append(_shortened(_one_line(name), _NAME))

    def counts(self) -> dict[str, int]:
        """Return how many problems there are by key."""
        return dict(self._counts)

    def sentences(self) -> dict[str, int]:
        """Return how many problems there are by sentence, as manifests have them."""
        return {sentence(key): count for key, count in self._counts.items()}

    def named(self, key: str, limit: int = NAMES_KEPT, letters: int = _NAME) -> str:
        """Return the first names of a kind and how many more there are, for a sentence; "" if there are no names."""
        names = [_shortened(name, letters) for name in self.found.get(key, [])]
        return join_names(names, limit, self._counts.get(key, 0)) if names else ""

    def described(self, limit: int, letters: int = _NAME) -> list[str]:
        """Return one clause per kind: its sentence and the first names."""
        return [f"{sentence(key)}: {self.named(key, limit, letters)}" for key in self.found]

    def lines(self) -> list[str]:
        """Return one line per kind: its sentence, how many there are, and the first names if there are names."""
        return [
            f"{sentence(key)}: {count:,}" + (f" ({self.named(key)})" if self.found[key] else "")
            for key, count in self._counts.items()
        ]

    def noted(self) -> Noted:
        """Return everything as plain values, for JSON."""
        return {key: (count, self.found[key]) for key, count in self._counts.items()}

    def take(self, noted: Noted) -> None:
        """Add what `noted` returned elsewhere.

        Raises:
            ValueError, TypeError, AttributeError: ``noted`` has another form.
        """
        for key, (count, names) in noted.items():
            self._add(_one_line(key), "", int(count) - len(names))
            for name in names:
                self._add(_one_line(key), name, 1)


def sentence(key: str) -> str:
    """Return what people read for a key; a key without a known code is a sentence of an older version."""
    code, _, detail = key.partition(" ")
    return _SENTENCES[code].format(detail=detail) if code in _SENTENCES else key


def _one_line(text: str) -> str:
    return " ".join(text.split())  # a file name may contain line ends


def _shortened(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[:letters]}…"
