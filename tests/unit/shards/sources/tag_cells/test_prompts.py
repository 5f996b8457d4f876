"""Prompts with negative prompts and settings after them, as programs that make images write them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from shards.sources.tag_cells.prompts import prompt_of
from support.source_files import png_files, scan_source, tags_by_id, write_files

COUNT = 12
SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: {0}, Size: 512x512, Model hash: abc{0}"


def written(n: int) -> str:
    """Return the text of an image, whose negative prompt has a colour of hair, too."""
    hair, other = ("blue", "red")[n % 2], ("red", "blue")[n % 2]
    return f"1girl, {hair} hair, smile\nNegative prompt: lowres, {other} hair\n{SETTINGS.format(n)}"


def tags_of(n: int) -> tuple[str, ...]:
    return ("1girl", f"{('blue', 'red')[n % 2]} hair", "smile")


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("1girl, hat", "1girl, hat"),
        ("1girl, hat\nNegative prompt: lowres", "1girl, hat"),
        ("1girl, hat\nSteps: 20, Sampler: Euler a, Seed: 1", "1girl, hat"),
        ("1girl, hat, Negative prompt: lowres Steps: 20, Seed: 1", "1girl, hat"),
        ("Prompt: 1girl, hat\nnegative_prompt: lowres", "1girl, hat"),
        ("Negative prompt: lowres", ""),
        ("1girl, <lora:name:0.8>, hat", "1girl, hat"),
        ("Steps: three, and a door", "Steps: three, and a door"),
        ("a prompt: with a colon", "a prompt: with a colon"),
    ],
)
def test_prompt_of(text: str, prompt: str) -> None:
    assert " ".join(prompt_of(text).split()) == prompt


def test_trap_negative_prompts_beside_images_are_no_tags(tmp_path: Path) -> None:
    write_files(tmp_path, png_files(*(f"{n}.png" for n in range(COUNT))))
    source = scan_source(write_files(tmp_path, {f"{n}.txt": written(n) for n in range(COUNT)}))
    assert tags_by_id(source) == {f"{n}.png": tags_of(n) for n in range(COUNT)}
    assert source.problems.counts() == {"text-with-parameters": COUNT}


@pytest.mark.parametrize("column", ["tags", "prompt", "caption"])
def test_trap_negative_prompts_in_cells_are_no_tags(tmp_path: Path, column: str) -> None:
    write_files(tmp_path, png_files(*(f"{n}.png" for n in range(COUNT))))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", column), *((f"{n}.png", written(n)) for n in range(COUNT))])
    source = scan_source(tmp_path)
    assert tags_by_id(source) == {f"{n}.png": tags_of(n) for n in range(COUNT)}
    assert source.problems.counts()["text-with-parameters"] == COUNT


def test_trap_negative_prompts_of_captions_are_left_out(tmp_path: Path) -> None:
    lines = [
        {
            "file_name": f"{n}.png",
            "text": f"A red fox sits in the snow.\nNegative prompt: a {n}. dog\nSteps: 9, Seed: 1",
        }
        for n in range(3)
    ]
    write_files(tmp_path, png_files("0.png", "1.png", "2.png"))
    source = scan_source(write_files(tmp_path, {"metadata.jsonl": "\n".join(map(json.dumps, lines))}))
    assert {item.caption for item in source.items} == {"A red fox sits in the snow."}


def test_trap_a_column_of_negative_prompts_is_no_label(tmp_path: Path) -> None:
    write_files(tmp_path, png_files(*(f"{n}.png" for n in range(COUNT))))
    rows = [f'{n}.png,"{", ".join(tags_of(n))}","lowres, {("red", "blue")[n % 2]} hair"' for n in range(COUNT)]
    source = scan_source(write_files(tmp_path, {"all.csv": "\n".join(["file,prompt,negative_prompt", *rows])}))
    assert tags_by_id(source) == {f"{n}.png": tags_of(n) for n in range(COUNT)}
    assert "not in the image" in next(use.why for use in source.columns if use.name == "negative_prompt")
