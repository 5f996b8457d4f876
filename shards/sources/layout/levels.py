"""The folders of a source, level by level: parts of the dataset, buckets, containers and classes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from shards.sources.layout.buckets import Verdict, are_buckets, are_initials
from shards.sources.layout.folder_names import (
    DEPTH,
    TEST,
    UNLABELLED,
    is_container,
    is_portion,
    names_only_part,
    part_name,
    read_parts,
)
from shards.sources.layout.recurring import doubt_of_innermost

_SAMPLE = 100  # names of images per folder that are looked at


@dataclass
class Folder:
    """A folder with images directly in it, while its path is read from the outside in.

    Attributes:
        path: its path.
        rest: the folders of its path that are not yet read.
        labels: the folders that say what the images show.
        part: "train", "validation", "test" or "unlabelled"; None if its path names none.
        samples: names of some of its images.
    """

    path: str
    rest: list[str]
    labels: list[str] = field(default_factory=list)
    part: str | None = None
    samples: list[str] = field(default_factory=list)


@dataclass
class Layout:
    """The labels that the folders of a source give.

    Attributes:
        folders: path → the folder, for each folder with images directly in it.
        parts: folders that are parts of the dataset.
        buckets: folders that only divide the files.
        doubt: what cannot be decided, and why; "" if all is clear.
        cut: folders below a folder that has images itself; their names are not read.
    """

    folders: dict[str, Folder] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    buckets: list[str] = field(default_factory=list)
    doubt: str = ""
    cut: list[str] = field(default_factory=list)

    def of(self, name: str) -> Folder:
        """Return the folder of an image."""
        return self.folders[name.rpartition("/")[0]]


def read_layout(names: Collection[str], *, trusted: bool = False) -> Layout:
    """Decide what each level of folders is.

    Args:
        names: paths of images, without masks and junk.
        trusted: True if a person says that folders are classes: what is undecided is a class then.
    """
    layout = Layout(_folders(names))
    reader = _Reader(layout, trusted)
    reader.read(list(layout.folders.values()))
    if not trusted:
        layout.doubt = layout.doubt or doubt_of_innermost([folder.labels for folder in layout.folders.values()])
    return layout


def _folders(names: Collection[str]) -> dict[str, Folder]:
    found: dict[str, Folder] = {}
    for name in names:
        path, _, file = name.rpartition("/")
        folder = found.get(path)
        if folder is None:
            folder = found[path] = Folder(path, path.split("/", DEPTH)[:DEPTH] if path else [])
        if len(folder.samples) < _SAMPLE:
            folder.samples.append(file)
    _drop_containers(found)
    return found


def _drop_containers(folders: dict[str, Folder]) -> None:
    """Remove folders such as "images" from paths where they are the only folder in theirs and it has no images."""
    children: dict[str, set[str]] = {}
    for path in folders:
        parts = path.split("/", DEPTH)[:DEPTH] if path else []
        for depth, part in enumerate(parts):
            children.setdefault("/".join(parts[:depth]), set()).add(part)
    for folder in folders.values():
        parts = folder.rest
        kept = []
        for depth, part in enumerate(parts):
            above = "/".join(parts[:depth])
            alone = len(children[above]) == 1 and above not in folders
            repeated = depth > 0 and part == parts[depth - 1] and alone  # seg_train/seg_train
            if not (alone and depth > 0 and is_container(part)) and not repeated:
                kept.append(part)
        folder.rest = kept


class _Reader:
    def __init__(self, layout: Layout, trusted: bool) -> None:
        self.layout, self.trusted = layout, trusted

    def read(self, folders: list[Folder]) -> None:
        """Read the next levels of some folders until all are read; called again for levels below a class."""
        while deeper := [folder for folder in folders if folder.rest]:
            heads = {folder.rest[0] for folder in deeper}
            if inner := self._repeated(heads, deeper):
                self._take_buckets([folder for folder in deeper if folder.rest[0] == inner], {inner})
            elif parts := self._parts(heads, deeper):
                self._take_parts(deeper, parts)
            elif len(heads) == 1 and self._is_wrapper(folders, deeper):
                self._drop(deeper, repeated=True)
            elif self._are_initials(heads, deeper):
                self._take_buckets(deeper, heads)
            elif verdict := self._buckets(heads, folders):
                self._take_buckets(deeper, verdict)
            elif all(map(is_container, heads)) and not self._is_all_there_is(folders):
                self._take_buckets(deeper, heads)
            else:
                self._take_classes(folders, heads)
                return

    def _parts(self, heads: set[str], deeper: list[Folder]) -> dict[str, tuple[str, str]]:
        found = read_parts(heads)
        if found and any(folder.part for folder in deeper) and not all(map(names_only_part, heads)):
            return {}
        return found or self._parts_and_others(heads)

    def _parts_and_others(self, heads: set[str]) -> dict[str, tuple[str, str]]:
        """Return the parts if there are several, though folders that are no parts are beside them; note the doubt."""
        parts = {name: part.part for name in _like_parts(heads) if (part := part_name(name))}
        others = heads - parts.keys()
        if len(set(parts.values())) < 2 or not others:
            return {}
        if not self.trusted:
            self.layout.doubt = self.layout.doubt or (
                f"{_shown(parts)} are parts of the dataset, but not {_shown(others)} beside them "
                "(--source classes keeps images that are in no class folder, unlabelled)"
            )
        return {name: (parts.get(name, ""), "") for name in heads}

    def _take_parts(self, folders: list[Folder], parts: dict[str, tuple[str, str]]) -> None:
        for folder in folders:
            head = folder.rest.pop(0)
            part, domain = parts[head]
            folder.part = folder.part if folder.part == UNLABELLED else part or folder.part
            folder.labels += [domain] if domain else []
            while folder.rest[:1] == [head]:
                folder.rest.pop(0)
        self.layout.parts += sorted({head for head, (part, _) in parts.items() if part} - set(self.layout.parts))

    @staticmethod
    def _repeated(heads: set[str], deeper: list[Folder]) -> str:
        """Return the folder that has folders of the same names as those beside it, as in a faulty archive."""
        inside: dict[str, set[str]] = {}
        for folder in deeper:
            inside.setdefault(folder.rest[0], set()).add(folder.rest[1] if len(folder.rest) > 1 else "")
        found = [head for head, below in inside.items() if len(below) > 1 and below <= heads and head not in below]
        return found[0] if len(found) == 1 else ""

    def _is_wrapper(self, folders: list[Folder], deeper: list[Folder]) -> bool:
        """Return True if one folder is around all others, so that its name tells no images apart."""
        if any(folder.labels for folder in deeper) or self._is_all_there_is(deeper):
            return False
        return not any(not folder.rest and folder.part not in (TEST, UNLABELLED) for folder in folders)

    def _is_all_there_is(self, folders: list[Folder]) -> bool:
        """Return True if a person says that folders are classes, and the next level has the only ones left."""
        return self.trusted and all(len(folder.rest) <= 1 and not folder.labels for folder in folders)

    @staticmethod
    def _drop(folders: list[Folder], repeated: bool = False) -> None:
        """Remove the next level; with ``repeated``, also a folder of the same name in it, as some archives have it."""
        for folder in folders:
            head = folder.rest.pop(0)
            while repeated and folder.rest[:1] == [head]:
                folder.rest.pop(0)

    @staticmethod
    def _are_initials(heads: set[str], deeper: list[Folder]) -> bool:
        if not all(len(head) == 1 for head in heads) or not all(len(folder.rest) > 1 for folder in deeper):
            return False
        return are_initials((folder.rest[0], folder.rest[1]) for folder in deeper)

    def _buckets(self, heads: set[str], folders: list[Folder]) -> set[str]:
        """Return the heads if they are buckets; note a doubt if that is undecided."""
        verdict = are_buckets((folder.rest[0], name) for folder in folders if folder.rest for name in folder.samples)
        if verdict is Verdict.YES:
            return set() if self._is_all_there_is(folders) else heads
        if verdict is Verdict.UNDECIDED and not self.trusted and not self.layout.doubt:
            self.layout.doubt = (
                f"{_shown(heads)} may be classes (--source classes), or folders that only divide the images"
            )
        return set()

    def _take_buckets(self, deeper: list[Folder], heads: set[str]) -> None:
        self._drop(deeper)
        self.layout.buckets += sorted(heads)

    def _take_classes(self, folders: list[Folder], heads: set[str]) -> None:
        """Take the next level as classes, and go on below them, in all classes at once."""
        self._doubt_names(heads)
        by_head: dict[tuple[str, ...], list[Folder]] = {}
        for folder in folders:
            if folder.rest:
                head = folder.rest.pop(0)
                folder.labels.append(head)
                by_head.setdefault(tuple(folder.labels), []).append(folder)
        below = []
        for members in by_head.values():
            if any(not folder.rest for folder in members):  # images directly in the class
                for folder in members:
                    if folder.rest:
                        self.layout.cut.append(folder.path)
                        folder.rest = []
            else:
                below += members
        self.read(below)

    def _doubt_names(self, heads: set[str]) -> None:
        if self.layout.doubt or self.trusted:
            return
        for what, odd in (
            ("parts of the dataset", _like_parts(heads)),
            ("all images of the source", [head for head in heads if is_container(head)]),
            ("portions of the images", [head for head in heads if is_portion(head)]),
        ):
            if odd and len(heads) > 1:
                self.layout.doubt = (
                    f"{_shown(odd)} {'is' if len(odd) == 1 else 'are'} named like {what}, but beside "
                    f"{_shown(heads - set(odd)) or 'others'} (--source classes if they are classes)"
                )
                return


def _like_parts(names: Collection[str]) -> list[str]:
    """Return the names that stand for parts alone, or that differ from another one in the part alone."""
    found = {name: part for name in names if (part := part_name(name))}
    rests: dict[tuple[str, ...], set[str]] = {}
    for part in found.values():
        rests.setdefault(part.rest, set()).add(part.part)
    return [name for name, part in found.items() if not part.rest or len(rests[part.rest]) > 1]


def _shown(names: Collection[str]) -> str:
    listed = sorted(names)
    return ", ".join(f"{name}/"[:60] for name in listed[:3]) + (
        f" and {len(listed) - 3:,} more" if len(listed) > 3 else ""
    )
