"""What separates tags is told from the cells of a whole column."""

from __future__ import annotations

from shards.sources.tag_cells.separators import find_separators


def test_counts_that_differ_in_each_row_do_not_hide_what_separates_tags() -> None:
    hairs, eyes = ["aqua", "pink", "blonde"] * 4, ["red", "blue"] * 6
    cells = {f"{hair} hair:{n}\t{eye} eyes:{n}.5": 1 for n, (hair, eye) in enumerate(zip(hairs, eyes, strict=True))}
    assert find_separators(cells, are_tags=False) == ("tabs",)
