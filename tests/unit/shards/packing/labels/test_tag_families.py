"""Families of tags without a common noun: found where they are, and nowhere else."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from shards.packing.labels.infer_schema import infer_attributes, infer_schema
from shards.packing.labels.tag_families import RowSample, find_families

WHO = {"elves wood": 9, "orcs": 7, "dwarves": 5, "undead skeletal": 3, "merfolk": 2, "drakes": 1}
DOING = {"standing": 5, "running": 4, "attacking": 3, "casting": 2, "defending": 1}

Families = Sequence[Mapping[str, float]]  # value → weight


def one_of(weights: Mapping[str, float], draw: random.Random) -> str:
    return draw.choices(list(weights), list(weights.values()))[0]


def drawn_rows(
    families: Families,
    count: int,
    *,
    seed: int = 0,
    others: dict[str, float] | None = None,
    several: float = 0,
    missing: float = 0,
) -> list[list[str]]:
    """Rows with a value of each family, and each other tag with its probability; some rows have several or none."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        row = {one_of(family, draw) for family in families if draw.random() >= missing}
        row |= {one_of(family, draw) for family in families if draw.random() < several}
        row |= {tag for tag, share in (others or {}).items() if draw.random() < share}
        rows.append(sorted(row))
    return rows


def found(rows: list[list[str]]) -> set[frozenset[str]]:
    return {frozenset(family.tags) for family in find_families(rows, {tag for row in rows for tag in row})}


def test_sprites_are_someone_who_does_something() -> None:
    rows = drawn_rows([WHO, DOING], 900, others={"female": 0.2, "shield": 0.1})
    draw = random.Random(1)
    for number, row in enumerate(rows):
        row.extend([f"hero {number // 3}"] + [f"{draw.choice(('red', 'blue'))} team"] * (draw.random() < 0.75))
    attributes = [found.attribute for found in infer_attributes(rows)]
    exclusive = {frozenset(a.values) for a in attributes if a.kind == "exclusive"}
    assert exclusive == {frozenset(WHO), frozenset(DOING), frozenset({"red team", "blue team"})}
    assert {"female", "shield", "hero 0"} <= {a.name for a in attributes if a.kind == "tag"}
    assert [a.name for a in attributes[:2]] == ["elves wood/orcs/dwarves/…", "standing/running/attacking/…"]


@pytest.mark.parametrize("count", [300, 3000, 30_000])
def test_families_are_found_in_spite_of_mistakes(count: int) -> None:
    others = {f"other {i}": share for i, share in enumerate((0.6, 0.3, 0.1, 0.1, 0.03, 0.01))}
    rows = drawn_rows([WHO, DOING], count, others=others, several=0.02, missing=0.02)
    assert found(rows) == {frozenset(WHO), frozenset(DOING)}


@pytest.mark.parametrize("seed", range(20))
def test_independent_tags_are_no_family(seed: int) -> None:
    draw = random.Random(seed)
    others = {f"tag {i}": draw.choice((0.005, 0.02, 0.1, 0.3, 0.5, 0.9)) for i in range(60)}
    assert not found(drawn_rows([], draw.choice((40, 300, 2000)), seed=seed, others=others))


def test_random_schemas_are_found_again_and_nothing_else() -> None:
    """Of the random families, nine in ten are found exactly; what is found is never a mixture."""
    draw, true, exact = random.Random(2), 0, 0
    for seed in range(30):
        families: list[dict[str, float]] = []
        for number in range(draw.randint(0, 3)):
            skew = draw.choice((0, 0.5, 1))
            families.append({f"{number} {i}a": 1 / (i + 1) ** skew for i in range(draw.choice((3, 5, 8, 15)))})
        others = {f"other{i}": draw.choice((0.003, 0.01, 0.1, 0.4)) for i in range(draw.choice((0, 30)))}
        rows = drawn_rows(families, 1500, seed=seed, others=others, several=draw.choice((0, 0.02)))
        truth = [frozenset(family) for family in families]
        for group in found(rows):
            assert any(group <= family for family in truth), group
            exact += group in truth
        true += len(truth)
    assert true > 30 and exact >= 0.9 * true


def test_rare_tags_that_never_meet_are_no_family() -> None:
    """Names of single images exclude each other as values do, but by chance."""
    assert not found([[f"name {i // 2}", *(["hat"] * (i % 3 == 0))] for i in range(400)])


def test_two_tags_are_a_family_only_if_hardly_an_image_lacks_both() -> None:
    assert found(drawn_rows([{"day": 1, "night": 1}], 400, others={"x": 0.5})) == {frozenset({"day", "night"})}
    assert not found(drawn_rows([{"day": 1, "night": 1}], 400, others={"x": 0.5}, missing=0.1))


def test_a_noun_that_some_of_the_values_share_does_not_split_a_family() -> None:
    kinds = {"race car": 3, "sports car": 3, "truck": 2, "bus": 2}
    schema = infer_schema(drawn_rows([kinds], 600, others={"red": 0.4}))
    assert {frozenset(a.values) for a in schema.attributes if a.kind == "exclusive"} == {frozenset(kinds)}


def test_kinds_and_their_families_become_two_attributes() -> None:
    rows = [[*row, "animal" if row[0] in ("cat", "dog") else "vehicle"] for row in
            drawn_rows([{"cat": 3, "dog": 2, "bus": 2, "van": 2}], 500)]  # fmt: skip
    assert found(rows) == {frozenset({"animal", "vehicle"}), frozenset({"cat", "dog", "bus", "van"})}


def test_a_sample_of_many_rows_is_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards.packing.labels.tag_families._MAX_ROWS", 10)
    sample = RowSample()
    for number in range(100):
        sample.add([str(number)])
    assert [int(row[0]) for row in sample.rows] == list(range(0, 100, 8))
