"""The interface of a source format: how one layout of labelled images is recognised and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.options import ScanOptions


@dataclass(frozen=True)
class SourceFormat:
    """One layout of labelled images. Each module of `shards.sources.formats` defines one as ``FORMAT``.

    Attributes:
        name: its name as a value of ``--source``.
        description: one line for ``--help`` and error messages.
        detect: returns the evidence that a tree is in this format, in a few words for people ("tags.csv with the
            columns id,tags"); "" if it is not. It must be cheap: it looks at names, and at the heads of a few files.
        scan: reads the labels of a tree, and refers to its images. Raises UserError if the tree is not in this format
            (``--source`` can name any format) or a table is broken; counts what it leaves out in ``tree.problems``.
        has_columns: True if rows have further columns, which ``--columns`` and ``--group`` can name.
        in_containers: True if images are inside other files (tars, Parquet files) rather than files of the tree.
        by_layout: True if `detect` goes by the layout of the images rather than by a file that is specific to the
            format. A format that is detected by such a file wins over one that is not.
        reads_folders: True if labels and parts of the dataset come from folders. In other formats, folders
            that look like classes are counted.
        general: True if `detect` goes by files that other formats have too. Any format that is detected by a file of
            its own wins over it, and it wins over those that go by the layout.
    """

    name: str
    description: str
    detect: Callable[[FileTree, ScanOptions], str]
    scan: Callable[[FileTree, ScanOptions], Source]
    has_columns: bool = False
    in_containers: bool = False
    by_layout: bool = False
    reads_folders: bool = False
    general: bool = False
