"""Which snapshots a run keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.training import plain_values
from trainer.averages import snapshots
from trainer.run import checkpoint


def kept_after(run: Path, images: int, batch: int, limit: int, start: int = 0) -> list[int]:
    for seen in range(start + batch, images + 1, batch):
        if snapshots.is_due(seen, batch, limit):
            snapshots.save(run, plain_values(seen), {"0.05/w": torch.tensor([float(seen)])}, batch, limit)
    return snapshots.moments(run)


@pytest.mark.parametrize("batch", [48, 128, 500])
def test_any_length_of_run_keeps_a_bounded_number_evenly_spaced(tmp_path: Path, batch: int) -> None:
    limit, most = 8, 0
    for images in range(2_000, 12_001, 2_000):
        kept = kept_after(tmp_path, images, batch, limit, images - 2_000)
        most = max(most, len(kept))
        spacing = max(batch, snapshots.spacing(kept[-1], limit))
        assert len(kept) <= limit
        assert all(abs(seen - spacing * (i + 1)) < batch for i, seen in enumerate(kept))
    assert most > limit // 2


def test_the_last_snapshot_stays_until_the_run_continues(tmp_path: Path) -> None:
    kept_after(tmp_path, 1024, 64, 8)
    snapshots.save(tmp_path, plain_values(1088), {"0.05/w": torch.zeros(1)}, 64, 8)
    assert snapshots.moments(tmp_path)[-1] == 1088
    assert 1088 not in kept_after(tmp_path, 1536, 64, 8, 1088)


def test_no_snapshots_without_the_option() -> None:
    assert not any(snapshots.is_due(seen, 64, 0) for seen in range(64, 5000, 64))


def test_what_a_resumed_run_makes_again_is_removed(tmp_path: Path) -> None:
    kept = kept_after(tmp_path, 1024, 128, 8)
    snapshots.discard_newer(tmp_path, 600)
    assert snapshots.moments(tmp_path) == [seen for seen in kept if seen <= 600] != kept


def test_snapshots_are_checked_by_their_hashes(tmp_path: Path) -> None:
    seen = kept_after(tmp_path, 256, 128, 8)[0]
    path = checkpoint.directory(snapshots.folder(tmp_path), seen)
    assert checkpoint.read(path).tensors(snapshots.FILE)["0.05/w"] == seen
    with (path / "averages.safetensors").open("ab") as file:
        file.write(b"0")
    with pytest.raises(checkpoint.UserError, match="hash"):
        checkpoint.read(path)
