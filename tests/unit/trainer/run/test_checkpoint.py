"""Checkpoints: complete or absent, without pickle, and restored in each tensor's memory format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from shards.core.errors import Failure
from support.errors import raises
from trainer.run import checkpoint, state_dicts


def save(run: Path, images_seen: int, keep: int = 3) -> Path:
    return checkpoint.save(
        run, {"images_seen": images_seen}, {"ema": {"w": torch.full((3,), float(images_seen))}}, keep
    )


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


def test_later_format_is_an_error_and_not_damage(tmp_path: Path) -> None:
    """Skipping it would sample from older weights, and training would prune it."""
    save(tmp_path, 1)
    state = save(tmp_path, 2) / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"format_version": 99}))
    with raises("newer-format", "99"):
        checkpoint.newest(tmp_path)


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
    saved = checkpoint.read(checkpoint.save(tmp_path, {"images_seen": 1}, files, keep=1))
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


def test_transfer_copies_matching_tensors() -> None:
    source, target = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    fresh = state_dicts.transfer(target, source.state_dict())
    assert fresh == ["1.weight", "1.bias"]
    assert torch.equal(target.state_dict()["0.weight"], source.state_dict()["0.weight"])
