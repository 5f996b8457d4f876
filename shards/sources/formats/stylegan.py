"""StyleGAN's layout: images with a dataset.json, {"labels": [[name, class or numbers], …]}."""

from __future__ import annotations

from shards.core.errors import UserError
from shards.sources.cells import sanitize, short_repr
from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.matching import images_with_rows
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat

TABLE = "dataset.json"


def detect(tree: FileTree, options: ScanOptions) -> str:
    return f"a {TABLE}" if tree.images and TABLE in tree.texts else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    where = tree.where(TABLE)
    entries = _entries(tree)
    rows = RowCollector(where, options, tree.problems)
    labels: dict[int, tuple[str, object]] = {}  # number of the entry → id, label
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            tree.problems.add("entry-malformed", f"entry {number}: {short_repr(entry)}")
        else:
            labels[number] = sanitize(entry[0]), entry[1]
    names, ids = tree.image_names, [id for id, _ in labels.values()]
    images = names.match(ids, tree.problems, "entry", list(labels))
    matched = {
        image: rows.add({"label": label}, f"entry {number}")
        for image, (number, (_, label)) in zip(images, labels.items(), strict=True)
        if image is not None
    }
    if not matched:
        raise UserError(
            "no-row-matches",
            f"{where}: none of its {len(entries):,} entries names an image in {tree.root}: "
            f"{names.describe_mismatch(ids)}",
        )
    return rows.build_source("stylegan", images_with_rows(tree, matched))


def _entries(tree: FileTree) -> list[object]:
    """Return the list of labels in dataset.json.

    Raises:
        UserError: the file is missing or not JSON, or has no list of labels.
    """
    where = tree.where(TABLE)
    form = '{"labels": [[name, class or numbers], …]}'
    if TABLE not in tree.texts:
        raise UserError("format-mismatch", f"{where}: missing; --source stylegan needs it: {form}")
    content = tree.json(TABLE)
    if isinstance(content, dict) and content.get("labels", ()) is None:
        unlabelled = "--source pictures --schema OTHER/schema.yaml"
        raise UserError(
            "source-unlabelled",
            f'{where}: has no labels ("labels": null); pack its images without labels with {unlabelled}',
        )
    entries = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise UserError("table-malformed", f'{where}: no list under "labels"; it must be {form}')
    return entries


FORMAT = SourceFormat("stylegan", "the dataset.json of StyleGAN", detect, scan)
