"""Keys of the samples in tars."""

from __future__ import annotations

from shards.sources.archives.sample_keys import at_first_dot, at_last_dot, at_words, best_split


def test_rule_of_webdataset_is_kept_where_it_works() -> None:
    for names in (
        ["1.png", "1.cls", "2.png", "2.cls"],
        ["1.image.png", "1.seg.png", "1.label.cls"],
        ["1.0.png", "1.1.png", "1.json"],
        ["1.png", "2.v2.png"],
    ):
        assert best_split(names) is at_first_dot


def test_dots_in_keys() -> None:
    assert best_split(["scan 2.01.png", "scan 2.01.json", "scan 2.02.png", "scan 2.02.json"]) is at_words
    assert best_split(["a.v1.png", "a.v1.txt", "a.v2.png", "a.v2.txt"]) is at_last_dot
