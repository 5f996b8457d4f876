"""The wait for a GPU ends when the GPU comes, and when another rank is missed."""

from __future__ import annotations

from typing import cast

import pytest

from trainer.distributed import device_wait
from trainer.distributed.device_wait import LostContact, wait_in_contact
from trainer.distributed.failure_notices import ENDED, HERE, SILENT, UNREACHABLE, Peers
from trainer.distributed.rendezvous import is_lost_contact


class Gpu:
    """An event that the GPU reaches at the n-th look."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def query(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def synchronize(self) -> None:
        raise AssertionError("which would hear nothing of the other ranks")


class Others:
    """The other ranks, of which the next one answers as it is told."""

    def __init__(self, answer: str = HERE, departed: bool = False) -> None:
        self.answer, self.departed, self.asked = answer, departed, 0

    def ask_next(self) -> str:
        self.asked += 1
        return self.answer


def wait(looks: int, others: Others, pending: Exception | None = None, timeout: float = 60) -> None:
    def check_pending() -> None:
        if pending is not None:
            raise pending

    wait_in_contact(Gpu(looks), check_pending, cast(Peers, others), timeout)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_wait, "_ASK_EVERY", 0.01)


@pytest.mark.parametrize("answer", [HERE, SILENT])
def test_a_slow_gpu_is_waited_for_while_the_next_rank_is_there(answer: str) -> None:
    """A rank that does not answer may wait for a disk: only the timeout ends the wait for it."""
    others = Others(answer)
    wait(200, others)
    assert others.asked > 1
    wait(0, Others(departed=True), ConnectionError("a GPU that is there already was not waited for"))


@pytest.mark.parametrize(
    ("others", "looks"),
    [(Others(ENDED), 10**6), (Others(UNREACHABLE), 10**6), (Others(departed=True), 1)],
)
def test_a_lost_rank_ends_the_wait(others: Others, looks: int) -> None:
    with pytest.raises(LostContact) as lost:
        wait(looks, others)
    assert is_lost_contact(lost.value), "so that the ranks find out which one it is"


def test_the_error_of_a_pending_collective_ends_the_wait() -> None:
    with pytest.raises(RuntimeError, match="closed by peer"):
        wait(10**6, Others(), RuntimeError("Connection closed by peer"))


def test_a_wait_has_an_end() -> None:
    with pytest.raises(LostContact, match=r"waited 0\.05 s"):
        wait(10**6, Others(SILENT), timeout=0.05)
