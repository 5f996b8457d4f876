"""StyleGAN's layout: a folder or zip with dataset.json, {"labels": [[name, class or numbers], …]}."""

from __future__ import annotations

from shards.core.errors import UserError
from shards.sources.cells import NotOne, clean, parsed, shown
from shards.sources.file_tree import Tree
from shards.sources.formats.tags import finder, matched, with_rows
from shards.sources.item import Source
from shards.sources.rows import Asked, Rows

TABLE = "dataset.json"


def read_stylegan(tree: Tree, asked: Asked) -> Source:
    where = tree.where(TABLE)
    if TABLE not in tree.texts:
        raise UserError(f'{where}: missing; --source stylegan needs it, {{"labels": [[name, class or numbers], …]}}')
    try:
        content = parsed(tree.text(TABLE))
    except NotOne as error:
        raise UserError(f"{where}: {error}; make it anew") from None
    entries = content.get("labels") if isinstance(content, dict) else None
    if isinstance(content, dict) and content.get("labels", ()) is None:
        unlabelled = "--source pictures --schema OTHER/schema.yaml"
        raise UserError(f'{where}: holds no labels ("labels": null); pack its pictures unlabelled with {unlabelled}')
    if not isinstance(entries, list):
        raise UserError(f'{where}: no list under "labels"; it holds [name, class or numbers] for each picture')
    rows = Rows(where, asked, tree.problems)
    find, found = finder(tree.pictures), dict[str, int]()
    for number, entry in enumerate(entries, 1):
        at = f"entry {number}"
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            tree.problems.add("entry-malformed", f"{at}: {shown(entry)}")
        elif name := matched(find, clean(entry[0]), found, at, rows):
            found[name] = rows.add({"label": entry[1]}, at)
    if not found:
        raise UserError(f"{where}: none of its {len(entries):,} entries names a picture in {tree.root}")
    return rows.source("stylegan", with_rows(tree, found))
