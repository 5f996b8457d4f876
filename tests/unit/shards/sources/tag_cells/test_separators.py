"""What separates tags is told from the cells of a whole column."""

from __future__ import annotations

from shards.sources.tag_cells.separators import find_separators


def test_counts_that_differ_in_each_row_do_not_hide_what_separates_tags() -> None:
    cells = {f"{hair} hair:120\tsmile:{n}": 1 for n, hair in enumerate(["aqua", "pink", "blonde"] * 4)}
    assert find_separators(cells, are_tags=False) == ("tabs",)
