from __future__ import annotations

import threading

import pytest

from trainer.process.timeouts import TimedOut, run_with_timeout


def test_a_hanging_action_is_abandoned() -> None:
    waiting = threading.Event()
    assert run_with_timeout(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        run_with_timeout(5, lambda: 1 / 0)
    with pytest.raises(TimedOut, match=r"no answer for 0\.1 s"):
        run_with_timeout(0.1, waiting.wait)
    waiting.set()
