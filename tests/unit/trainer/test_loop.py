"""The training loop: what is due when, and in which order it happens."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.core.errors import Failure
from support.errors import raises
from support.training import make_env, make_state
from trainer.config import Config
from trainer.loop import Trainer
from trainer.run import checkpoint
from trainer.schedules.time_plan import TimePlan
from trainer.schedules.timekeeper import Timekeeper


def trainer_at(images_seen: int, config: Config) -> Trainer:
    guard = SimpleNamespace(skipped=0, unexpected=0)
    total = config.schedule.total_images
    state: Any = SimpleNamespace(images_seen=images_seen, batch_size=config.data.batch, guard=guard, total_images=total)
    saver: Any = None
    return Trainer(config, make_env(), state, iter(()), saver)


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 50), st.integers(1, 4))
def test_every_multiple_of_a_cadence_is_due_once(batch: int, every: int, d_steps: int) -> None:
    steps = 40
    config = Config.from_options(
        batch=batch, total_images=steps * batch, log_every=every, checkpoint_every=every, d_steps=d_steps
    )
    due = [trainer_at(step * batch, config)._due() for step in range(steps)]
    crossed = [(step + 1) * batch // every > step * batch // every for step in range(steps - 1)]
    assert [d.checkpoint for d in due] == [*crossed, True]
    assert not any(d.evaluate for d in due), "there is no evaluator"
    assert due[-1].log and due[-1].grid
    logged = [step + 1 for step in range(steps - 1) if due[step].log]
    assert all(number % d_steps == 0 for number in logged), "steps that update G too"
    cycle = batch * d_steps
    assert len(logged) == sum((n + 1) * cycle // every > n * cycle // every for n in range((steps - 1) // d_steps))


class Recorder:
    """Stands in for saver, monitor and evaluator, and notes what the loop asks of them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.failed, self.failure = False, None
        self.run = SimpleNamespace(path=Path("run"), checkpoints=Path("run/checkpoints"))

    def save(self, values: dict[str, Any], tensors: object, best: object) -> None:
        self.events.append(f"checkpoint {values['images_seen']}" + (" best" if best else ""))

    def advance(self, images_seen: int, images: int, metrics: dict[str, float]) -> None:
        self.events.append(f"advance {images_seen}" + "".join(f" {m}" for m in ("loss/d", "score") if m in metrics))

    def row_at(self, images_seen: int) -> dict[str, float]:
        return {"loss/d": float(images_seen)}

    def measure_variety(self, generator: object) -> dict[str, float]:
        self.events.append("variety")
        return {"samples/variety": 0.5}

    def save_grid(self, images_seen: int, generator: object) -> None:
        self.events.append("grid")

    def evaluate(self, generator: object) -> dict[str, float]:
        self.events.append("evaluate")
        return {"score": 1.0}

    def best_of(self, metrics: dict[str, float], images_seen: int, run: object) -> bool:
        return images_seen == 24

    def wait(self) -> None:
        pass

    exclude_time = raise_failure = set_total = lambda self, *_: None


def make_trainer(tmp_path: Path, *words: str) -> tuple[Trainer, Recorder]:
    state, stream = make_state(tmp_path, "--total-images", "40", *words)
    recorder: Any = Recorder()
    batches = iter([stream[number] for number in range(5)])
    return Trainer(state.config, state.env, state, batches, recorder, recorder, recorder, len(stream.dataset)), recorder


def test_a_step_is_evaluated_logged_saved_and_drawn_in_this_order(tmp_path: Path) -> None:
    words = "--log-every 16 --evaluate-every 24 --checkpoint-every 32 --grid-every 24".split()
    trainer, recorder = make_trainer(tmp_path, *words)
    trainer.fit()
    assert recorder.events == [
        "advance 8",
        "advance 16 loss/d",
        *("evaluate", "variety", "advance 24 score", "checkpoint 24 best", "grid"),
        *("advance 32 loss/d", "checkpoint 32"),
        *("evaluate", "advance 40 loss/d score", "checkpoint 40", "grid"),
    ]


def test_a_checkpoint_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    trainer, recorder = make_trainer(tmp_path)
    recorder.failed = True
    trainer.fit()
    assert recorder.events == ["advance 8", "checkpoint 8"]


def test_damaged_images_above_the_limit_end_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    trainer, recorder = make_trainer(tmp_path, "--damaged-limit", "0.1")
    damaged = next(trainer.incoming)._replace(damaged=7, first_damage="a.tar, sample 3: truncated")
    trainer.incoming = iter([damaged])
    with raises("damaged-images", "7 of 8", "--damaged-limit 0.1", "a.tar, sample 3", kind=Failure):
        trainer.fit()
    assert recorder.events == ["advance 8", "checkpoint 8"]


def test_a_lost_data_worker_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    trainer, recorder = make_trainer(tmp_path)
    trainer.incoming = iter([next(trainer.incoming)._replace(lost_worker="was killed")])
    with raises("worker-killed", "was killed", "saved at 8 images", kind=Failure):
        trainer.fit()
    assert recorder.events == ["advance 8", "checkpoint 8"]


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, recorder = make_trainer(tmp_path, "--checkpoint-every", "8")
    monkeypatch.setattr(trainer.state, "is_finite", lambda: False)
    with raises("diverged", "weights", "nothing was saved", "--lr-g", kind=Failure):
        trainer.fit()
    assert recorder.events == ["advance 8"]


def test_a_step_that_does_not_fit_the_gpu_names_what_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, recorder = make_trainer(tmp_path)

    def step(batch: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(trainer.state, "step", step)
    with raises("out-of-memory", "8 images at a time", "--accumulate 2", "--batch", "2.00 GiB", kind=Failure):
        trainer.fit()
    assert not recorder.events


def test_an_error_of_the_stream_says_how_to_resume(tmp_path: Path) -> None:
    trainer, _ = make_trainer(tmp_path)

    def broken() -> Any:
        raise Failure("shard-missing", "a.tar is gone")
        yield

    trainer.incoming = broken()
    with raises("shard-missing", "a.tar is gone", trainer.env.resume_hint, kind=Failure):
        trainer.fit()


def make_timed(tmp_path: Path, images: int = 0, plan: TimePlan | None = None) -> tuple[Trainer, Any]:
    """Return a trainer of preset smoke for a minute, on a machine whose steps of 8 images take two seconds."""
    words = "--minutes 1 --warmup-images 40 --decay cosine --log-every 8 --checkpoint-every 120".split()
    state, stream = make_state(tmp_path, *words)
    if plan is not None:
        state.follow(plan)
    recorder: Any = Recorder()
    recorder.now = 0.0

    def advance(*_: object) -> None:
        recorder.now += 2

    recorder.advance = advance
    batches = (stream[number] for number in itertools.count(images // 8))
    keeper = Timekeeper(60, plan or TimePlan(), images, 0.0, lambda: recorder.now)
    return Trainer(
        state.config, state.env, state, batches, recorder, recorder, None, len(stream.dataset), keeper
    ), recorder


def test_a_run_of_minutes_ends_with_its_schedules_and_resumes_to_the_same_end(tmp_path: Path) -> None:
    whole, recorder = make_timed(tmp_path / "whole")
    saved: list[tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]] = []

    def save(values: dict[str, Any], tensors: dict[str, dict[str, torch.Tensor]], best: object) -> None:
        saved.append((values, {file: {name: t.clone() for name, t in held.items()} for file, held in tensors.items()}))

    recorder.save = save
    whole.fit()
    assert recorder.now == pytest.approx(60, abs=2)
    assert whole.state.images_seen == whole.state.total_images
    assert whole.state.scheduled["schedule/lr_g"] == pytest.approx(0, abs=1e-9)
    values, tensors = saved[0]
    assert values["images_seen"] == 120
    assert values["plan"]["seconds"] == 30

    path = checkpoint.save(tmp_path, values, tensors, keep=1)
    again = checkpoint.read(path)
    resumed, _ = make_timed(tmp_path / "resumed", 120, again.state.plan)
    resumed.state.load(again)
    resumed.fit()
    assert resumed.state.images_seen == whole.state.images_seen
    for ours, theirs in zip(resumed.state.g.module.parameters(), whole.state.g.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
