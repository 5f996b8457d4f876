"""Checkpoints: complete or absent, without pickle, and restored in each tensor's memory format."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shards.core import self_hash
from shards.core.errors import Failure, UserError
from support.errors import raises
from support.training import plain_values
from trainer.run import checkpoint, state_dicts


def save(run: Path, images_seen: int, keep: int = 3) -> Path:
    return checkpoint.save(run, plain_values(images_seen), {"ema": {"w": torch.full((3,), float(images_seen))}}, keep)


def test_save_and_read(tmp_path: Path) -> None:
    path = save(tmp_path, 12_800)
    assert path.name == "000000012800"
    saved = checkpoint.read(path)
    assert saved.images_seen == 12_800
    assert saved.tensors("ema")["w"].tolist() == [12_800.0] * 3
    assert {p.suffix for p in path.iterdir()} == {".safetensors", ".json"}


def test_old_checkpoints_are_pruned_after_a_save(tmp_path: Path) -> None:
    for images_seen in (1, 2, 3, 4):
        save(tmp_path, images_seen, keep=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["000000000003", "000000000004"]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "state"])
def test_damaged_checkpoint_is_skipped_for_the_previous_one(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    weights, state = newest / "ema.safetensors", newest / "state.json"
    data = weights.read_bytes()
    if damage == "flip":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut":
        weights.write_bytes(data[:-1])
    elif damage == "remove":
        weights.unlink()
    else:
        state.write_text(state.read_text()[:-9])
    found, complaints = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.images_seen == 1
    assert len(complaints) == 1
    assert str(newest) in complaints[0]
    with raises("checkpoint-damaged", newest):
        checkpoint.read(newest)


def test_every_flipped_bit_of_every_file_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    whole = checkpoint.read(newest)
    unnoticed = []
    for file in sorted(newest.iterdir()):
        data = bytearray(file.read_bytes())
        for place, bit in itertools.product(range(len(data)), range(8)):
            data[place] ^= 1 << bit
            file.write_bytes(data)
            with contextlib.suppress(UserError):
                found = checkpoint.read(newest)
                assert found == whole, f"bit {bit} of byte {place} of {file.name}"
                unnoticed.append(data[place] ^ (1 << bit))
            data[place] ^= 1 << bit
        file.write_bytes(data)
    assert set(unnoticed) <= {ord(" "), ord("\n")}, "only blanks between the values of state.json may change"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images_seen": 1}, "name of its directory"),
        ({"images_seen": "2"}, "images_seen"),
        ({"images_seen": -2}, "images_seen"),
        ({"images_seen": True}, "images_seen"),
        ({"damaged": -1}, "damaged"),
        ({"skipped": 0.5}, "skipped"),
        ({"head_start": 1 << 60}, "head_start"),
        ({"scaler": {"scale": "2"}}, "scaler"),
        ({"scaler": {"scale": 2}}, "scaler"),
        ({"architecture": {}}, "architecture"),
        ({"architecture": {"family": "residual", "size": 8, "widths": [0], "noise": 1, "embedding": 1}}, "widths"),
        ({"config": []}, "config"),
        ({"config": {"shards": 3}}, "shards"),
        ({"best": {"images_seen": 2, "metric": "kid", "value": None}}, "best"),
        ({"row": {"loss/d": "1"}}, "row"),
        ({"sha256": {}}, "hashes"),
        ({"sha256": {"../ema.safetensors": ""}}, "ema"),
        ({"format_version": "1"}, "format_version"),
    ],
)
def test_values_of_a_wrong_type_or_range_are_damage(tmp_path: Path, change: dict[str, object], named: str) -> None:
    """Also in a checkpoint without a hash of its state, as older versions wrote them."""
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    content = json.loads((newest / "state.json").read_text())
    del content[self_hash.KEY]
    (newest / "state.json").write_text(json.dumps(content))
    assert checkpoint.read(newest).images_seen == 2
    (newest / "state.json").write_text(json.dumps(content | change))
    with raises("checkpoint-damaged", newest, named):
        checkpoint.read(newest)
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None and found.images_seen == 1


@pytest.mark.parametrize("name", ["images_seen", "architecture", "config", "scaler", "sha256", "format_version"])
def test_missing_values_are_damage(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 2) / "state.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in (name, self_hash.KEY)}))
    with raises("checkpoint-damaged", path.parent):
        checkpoint.read(path.parent)


def test_deeply_nested_state_is_damage(tmp_path: Path) -> None:
    path = save(tmp_path, 2) / "state.json"
    path.write_text("[" * 100_000)
    with raises("checkpoint-damaged", path.parent, "nested"):
        checkpoint.read(path.parent)


def test_renamed_checkpoint_is_damage(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2).rename(checkpoint.directory(tmp_path, 3))
    found, complaints = checkpoint.newest(tmp_path)
    assert found is not None and found.images_seen == 1
    assert len(complaints) == 1


def test_files_are_as_readable_as_the_umask_allows(tmp_path: Path) -> None:
    for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(umask)
        try:
            path = save(tmp_path / str(umask), 1)
        finally:
            os.umask(before)
        assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {mode}


@pytest.mark.parametrize("damage", ["missing", "flipped", "not JSON"])
def test_lost_mark_of_the_best_is_found_in_the_checkpoints(tmp_path: Path, damage: str) -> None:
    for images_seen in (1, 2, 3):
        best = checkpoint.Best(images_seen, "kid", 1 / images_seen) if images_seen < 3 else None
        checkpoint.save(tmp_path, plain_values(images_seen), {"ema": {"w": torch.zeros(1)}}, 9, best)
    mark = tmp_path / "checkpoints" / "best.json"
    mark.write_text({"flipped": mark.read_text().replace('"images_seen": 2', '"images_seen": 3')}.get(damage, "["))
    if damage == "missing":
        mark.unlink()
    assert checkpoint.read_best(tmp_path) == checkpoint.Best(2, "kid", 0.5)
    save(tmp_path, 4, keep=1)
    assert [path.name for path in checkpoint.directories(tmp_path)] == ["000000000002", "000000000004"]
    checkpoint.restore_best(tmp_path)
    assert json.loads(mark.read_text())["images_seen"] == 2


def test_later_format_is_an_error_and_not_damage(tmp_path: Path) -> None:
    """Skipping it would sample from older weights, and training would prune it."""
    save(tmp_path, 1)
    state = save(tmp_path, 2) / "state.json"
    state.write_text(json.dumps(self_hash.with_hash(json.loads(state.read_text()) | {"format_version": 99})))
    with raises("newer-format", "99"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize(
    ("shape", "version"), [({}, 1), ({"image_channels": 4}, 2), ({"aspect": (3, 4), "size": 16}, 2)]
)
def test_square_rgb_is_written_as_versions_read_it_that_know_no_other(
    tmp_path: Path, shape: dict[str, Any], version: int
) -> None:
    values = plain_values(1)
    values["architecture"] |= shape
    path = checkpoint.save(tmp_path, values, {"ema": {"w": torch.zeros(1)}}, 1)
    content = json.loads((path / "state.json").read_text())
    assert content["format_version"] == version
    assert ({"image_channels", "aspect"} <= content["architecture"].keys()) == (version == 2)
    assert dataclasses.asdict(checkpoint.read(path).state.architecture) == values["architecture"]


def test_damaged_checkpoints_do_not_count_among_those_to_keep(tmp_path: Path) -> None:
    for images_seen in (100, 200, 300):
        save(tmp_path, images_seen)
    (tmp_path / "checkpoints" / "000000000300" / "ema.safetensors").write_bytes(b"damaged")
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None and found.images_seen == 200
    checkpoint.rename_damaged(tmp_path, found)
    save(tmp_path, 220, keep=1)
    found, complaints = checkpoint.newest(tmp_path)
    assert found is not None and found.images_seen == 220
    assert not complaints


def test_trap_failed_save_leaves_earlier_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with raises("checkpoint-not-saved", "No space left", kind=Failure):
        save(tmp_path, 2)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["000000000001"]


def test_interrupted_save_is_removed(tmp_path: Path) -> None:
    partial = tmp_path / "checkpoints" / ".000000000001.partial"
    partial.mkdir(parents=True)
    assert checkpoint.newest(tmp_path) == (None, [])
    save(tmp_path, 1)
    assert not partial.exists()


def test_saving_twice_at_the_same_images_seen_is_one_checkpoint(tmp_path: Path) -> None:
    assert save(tmp_path, 5) == save(tmp_path, 5)
    (save(tmp_path, 5) / "ema.safetensors").write_bytes(b"damaged")
    assert checkpoint.read(save(tmp_path, 5)).images_seen == 5


def trained(channels_last: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Conv2d(3, 4, 3)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), 0.1, betas=(0.0, 0.9), fused=True)
    for _ in range(2):
        step(net, optimizer)
    return net, optimizer


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    net(torch.linspace(-1, 1, 75).reshape(1, 3, 5, 5)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("channels_last", [False, True])
def test_trap_moments_are_restored_in_the_memory_format_of_their_parameter(tmp_path: Path, channels_last: bool) -> None:
    net, optimizer = trained(channels_last)
    files = {"net": state_dicts.module_tensors(net), "moments": state_dicts.optimizer_tensors(net, optimizer)}
    saved = checkpoint.read(checkpoint.save(tmp_path, plain_values(1), files, keep=1))
    other, fresh = trained(channels_last)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    state_dicts.load_module(other, saved.tensors("net"))
    state_dicts.load_optimizer(other, fresh, saved.tensors("moments"))
    for parameter in other.parameters():
        assert fresh.state[parameter]["exp_avg"].stride() == parameter.stride()
    step(net, optimizer)
    step(other, fresh)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
