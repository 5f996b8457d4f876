"""All source formats, and reading a source in any of them.

To add a format, write a module in `shards.sources.formats` that defines ``FORMAT``, and add its name to ``_MODULES``.
Nothing else changes: ``--source``, ``--help``, detection and error messages all go by `FORMATS`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from shards.core.errors import UserError
from shards.dataset.images import EXTENSIONS
from shards.sources.cells import shorten_names
from shards.sources.file_tree import FileTree, container_type, list_files
from shards.sources.foreign import foreign_error
from shards.sources.item import Source
from shards.sources.labelled_tables.candidates import find_candidates
from shards.sources.labelled_tables.files import table_files, unknown_id_error
from shards.sources.labelled_tables.roles import decide_roles
from shards.sources.labelled_tables.scan import no_label_error
from shards.sources.layout.hints import describe_layout
from shards.sources.layout.levels import read_layout
from shards.sources.layout.parts import read_folders
from shards.sources.options import ScanOptions
from shards.sources.rows import FOLDER
from shards.sources.source_format import SourceFormat
from shards.sources.text.text_files import images_with_texts

_MODULES = (  # of shards.sources.formats, in the order of --help
    "tags",
    "classes",
    "names",
    "sidecars",
    "metadata",
    "table",
    "stylegan",
    "parquet",
    "webdataset",
    "arrays",
    "oxford_pets",
    "json_sidecars",
    "booru",
    "annotations.coco",
    "annotations.captions",
    "annotations.label_studio",
    "annotations.voc",
    "unlabelled",
)
FORMATS: dict[str, SourceFormat] = {
    format.name: format for format in (import_module(f"shards.sources.formats.{name}").FORMAT for name in _MODULES)
}
NAMES = ("auto", *FORMATS)  # values of --source

_TAGS_TABLE = "tags.csv"  # suggested to a person whose images have no labels yet


def scan_source(
    src: Path,
    options: ScanOptions,
) -> Source:
    """Find all images of a source and what is known of them.

    Args:
        src: a folder, a zip, a tar or a Parquet file.
        options: how it is read.

    Raises:
        UserError: the source does not exist or has no images, its format is unclear, a table is broken, or a column
            does not exist.
    """
    tree = list_files(src, options)
    if options.source not in NAMES:
        raise UserError("invalid-value", f"--source: {options.source!r} is not one of {', '.join(NAMES)}")
    chosen, evidence = _detect(tree, options) if options.source == "auto" else (FORMATS[options.source], "--source")
    if not tree.images and not chosen.in_containers:
        raise foreign_error(tree) or _no_images_error(tree)
    if not chosen.has_columns and (option := _column_option(options)):
        raise UserError(
            "source-without-columns",
            f"{option}: {src} is read as {chosen.name}, which has no columns; omit the option, or set --source",
        )
    source = chosen.scan(tree, options)
    for name, reason in tree.unusable.items():
        source.problems.add("table-unusable", f"{name}{reason}")
    if not chosen.reads_folders:
        read_folders(source, chosen.in_containers)
    source.evidence = source.evidence or evidence
    return source


def _column_option(options: ScanOptions) -> str:
    """Return the option that names columns; "" if none does."""
    given = {"--columns": options.columns, "--class": options.class_, "--numbers": options.numbers, "--id": options.id}
    given["--group"] = options.group if options.group != FOLDER else None
    return next((option for option, value in given.items() if value), "")


def _detect(tree: FileTree, options: ScanOptions) -> tuple[SourceFormat, str]:
    """Return the format of a tree and the evidence for it; raise UserError if none or several match."""
    if options.from_name and tree.images:  # a person's word
        return FORMATS["names"], "--from-name"
    if options.table and tree.images:
        return FORMATS["table"], f"--table {options.table}"
    for general, by_layout in ((False, False), (True, False), (False, True)):
        found = [
            (format, evidence)
            for format in FORMATS.values()
            if (format.general, format.by_layout) == (general, by_layout) and (evidence := format.detect(tree, options))
        ]
        if len(found) > 1:
            names = " or ".join(f"--source {format.name}" for format, _ in found)
            described = "; ".join(f"{format.name}: {format.description} ({evidence})" for format, evidence in found)
            raise UserError("ambiguous-source", f"{tree.root}: matches several formats ({described}); set {names}")
        if found:
            return found[0]
    if not tree.images:
        raise foreign_error(tree) or _no_images_error(tree)
    if error := unknown_id_error(tree, options):
        raise error
    for table in find_candidates(tree, options, tree.image_names):
        raise no_label_error(tree.where(table.file), decide_roles(table.facts, table.id, table.unnamed))
    raise _unclear_error(tree)


def _no_images_error(tree: FileTree) -> UserError:
    if tree.root.is_file() and tree.others:
        raise UserError(
            "source-unsupported",
            f"{tree.root}: SRC must be a folder, a .zip, .tar or .parquet file, or arrays (.npz, .npy, .mat, .h5)",
        )
    expected = f"looked for {', '.join(sorted(EXTENSIONS))} in all folders"
    left_out = tree.problems.described(1)[:3]
    return UserError("no-images", "; ".join([f"{tree.root}: contains no images ({expected})", *left_out]))


def _unclear_error(tree: FileTree) -> UserError:
    """Return the error for a tree in no format; it names what was found instead."""
    tops = sorted({name.partition("/")[0] for name in tree.images if "/" in name})
    loose = sum("/" not in name for name in tree.images)
    texts = sum(1 for _ in images_with_texts(tree))
    found = (
        f"{loose:,} of {len(tree.images):,} images at the top level" if loose else f"the folders {', '.join(tops[:3])}"
    )
    if not loose and len(tops) == 1:
        found = f"the single folder {tops[0]!r}"
    missing = f"but no {_TAGS_TABLE} (columns id,tags) and no folder per class"
    if tree.containers:
        found += ", " + " and ".join(sorted({container_type(name)[1:] for name in tree.containers})) + " files"
    if texts:
        found += f", {texts:,} text files for {len(tree.images):,} images"
    if obstacle := _obstacle(tree, loose, texts):
        missing = f"beside folders that may be classes ({obstacle})"
    clauses = (*_unused_tables(tree), *describe_layout(tree.images), *tree.problems.described(1)[:3])
    hints = "".join(f"; {clause}" for clause in clauses)
    return UserError(
        "unclear-source",
        f"{tree.root}: cannot tell what the images show: found {found}, {missing}; add a {_TAGS_TABLE}, or set "
        f"--source classes, --source sidecars, or --source pictures --schema OTHER/schema.yaml (unlabelled){hints}",
    )


def _obstacle(tree: FileTree, loose: int, texts: int) -> str:
    """Return why folders that may be classes are not read as such, in a clause; "" if there are none."""
    folders = read_layout(tree.images).folders.values()
    classes = sorted({folder.labels[-1] for folder in folders if folder.labels})
    if len(classes) < 2:
        return ""
    named = shorten_names(classes, 3)
    if texts:
        return f"{named}: either these or the text files are the labels"
    outside = [folder.path for folder in folders if not folder.labels and folder.path]
    if not loose and not outside:
        return ""
    which = [name for name in tree.images if "/" not in name] if loose else [f"{path}/" for path in outside]
    return f"{named}: no class for {shorten_names(which, 3)}, which --source classes leaves unlabelled"


def _unused_tables(tree: FileTree) -> list[str]:
    """Return a clause on the tables that are there, since a person means one of them to be read."""
    tables = [name for name in table_files(tree) if not name.lower().endswith(".txt")]
    if not tables and not tree.unusable:
        return []
    if tree.unusable:
        return [name + reason for name, reason in list(tree.unusable.items())[:3]]
    images = shorten_names(list(tree.images)[:2])
    return [f"{shorten_names(tables, 3)}: no column with labels beside one that names images such as {images}"]
