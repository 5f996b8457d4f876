"""Namespaces of tags in texts, which mean what the categories of JSON records mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.core.problems import Problems
from shards.sources.tag_cells.dialect import TagDialect
from support.source_files import png_files, scan_source, tags_by_id, write_files

COUNT = 12
HAIR, MORE = ("blue", "red"), ("cat", "dog", "owl")


def read(*cells: str, are_tags: bool = True) -> list[tuple[str, ...] | None]:
    """Return the tags of all cells of a column."""
    dialect = TagDialect.infer(cells, are_tags=are_tags)
    return [dialect.tags(cell) for cell in cells]


@pytest.mark.parametrize(
    "lines",
    [
        "rating: safe\nartist: bob, alice\ngeneral: {0}_hair, smile\ncharacter: {1}",
        "artist: bob alice\nGeneral: {0}_hair smile\nspecies: {1}\n",
        "tags: {0} hair, smile\ncopyright: {1}\nmeta: highres",
        "artist:bob\ncreator: alice\n{0} hair\nsmile\ncharacter:{1}",
        "artist:bob, creator:alice, {0} hair, general:smile, character: {1}",
    ],
)
def test_trap_artists_and_ratings_beside_images_are_no_tags(tmp_path: Path, lines: str) -> None:
    texts = {f"{n}.txt": lines.format(HAIR[n % 2], MORE[n % 3]) for n in range(COUNT)}
    source = scan_source(write_files(tmp_path, texts | png_files(*(f"{n}.png" for n in range(COUNT)))))
    assert {id: set(tags or ()) for id, tags in tags_by_id(source).items()} == {
        f"{n}.png": {f"{HAIR[n % 2]} hair", "smile", MORE[n % 3]} for n in range(COUNT)
    }
    assert "bob" in source.problems.found.get("tag-of-category artist", ["bob"])
    assert any(key.startswith("tag-of-category ") for key in source.problems.counts())


def test_tags_without_namespaces_are_counted() -> None:
    dialect, problems = TagDialect.infer(["character:alice, artist:bob"]), Problems()
    assert dialect.tags("character:alice, artist:bob") == ("alice",)
    dialect.report(problems)
    assert problems.counts() == {"tag-of-category artist": 1, "tags-with-namespace": 1}
    assert problems.found["tag-of-category artist"] == ["bob"]


def test_what_follows_an_artist_in_one_line_is_not_the_artists() -> None:
    assert read("artist:bob, blue hair", "artist:bob, red hair") == [("blue hair",), ("red hair",)]


def test_other_words_before_colons_are_names() -> None:
    assert read("hair: blue, smile", "hair: red, smile")[0] == ("hair: blue", "smile")
    assert read("person: red hair", "person: beard", are_tags=False)[0] == ("person: red hair",)


def test_weights_of_tags_that_are_named_like_a_namespace() -> None:
    assert read("(person:1.2), hat", "person, hat") == [("person", "hat"), ("person", "hat")]
    assert read("person:0.9, hat:0.8", "person:0.7", "hat:0.4") == [("person", "hat"), ("person",), ("hat",)]
