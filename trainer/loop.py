"""The training loop: step, log, evaluate, checkpoint, draw a grid, stop.

The clock is the number of images seen. Something with a cadence of N images is due when a step carries the clock across
a multiple of N, so a resumed run does the same things at the same moments as one that was never interrupted.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shards.core import atomic_io
from shards.core.errors import Failure, UserError
from shards.stream.batch import Batch
from trainer import metric_names
from trainer.averages import snapshots
from trainer.batch_diversity import with_spread_ratio
from trainer.config import Config
from trainer.distributed.out_of_memory import explain_out_of_memory
from trainer.distributed.process_group import Distributed
from trainer.evaluation.periodic import PeriodicEvaluator
from trainer.process import signals
from trainer.run.async_checkpoint import AsyncCheckpointer
from trainer.run.checkpoint import Best
from trainer.run.directory import resume_hint
from trainer.run.metrics_file import strict_row
from trainer.schedules.timekeeper import Timekeeper
from trainer.state import TrainingState
from trainer.step import StepResult
from trainer.tracking.cadence import is_due
from trainer.tracking.monitor import Monitor


class Due(NamedTuple):
    """Actions that are due after a step."""

    log: bool
    evaluate: bool
    checkpoint: bool
    grid: bool
    variety: bool
    snapshot: bool

    @property
    def exact_counts(self) -> bool:
        """Whether counts must include this step, since they are logged or saved; otherwise they are one step late."""
        return self.log or self.evaluate or self.checkpoint


class Trainer:
    """The training loop of one rank.

    Args:
        config: the resolved options.
        env: the device and the ranks.
        state: where to start.
        incoming: this rank's batches, without end, from the state's clock on.
        saver: writes checkpoints; every rank has one, only rank 0's writes.
        monitor: shows and records on rank 0; None on other ranks.
        evaluator: evaluates at intervals; None: no evaluation.
        dataset_size: samples of the dataset, for the fraction of damaged ones.
        timekeeper: ends the run on time with --minutes; None without. That of rank 0 decides.
    """

    def __init__(
        self,
        config: Config,
        env: Distributed,
        state: TrainingState,
        incoming: Iterator[Batch],
        saver: AsyncCheckpointer,
        monitor: Monitor | None = None,
        evaluator: PeriodicEvaluator | None = None,
        dataset_size: int = 0,
        timekeeper: Timekeeper | None = None,
    ) -> None:
        self.config, self.env, self.state, self.incoming = config, env, state, incoming
        self.saver, self.monitor, self.evaluator = saver, monitor, evaluator
        self.dataset_size, self.timekeeper = dataset_size, timekeeper
        self.stopping = False  # on all ranks alike
        self._last_checkpoint = state.images_seen
        self._reported_skips = state.guard.unexpected
        self._first_damage = ""  # seen by this rank
        self._lost_worker = ""  # what happened to a data worker of this rank

    def fit(self) -> None:
        """Train until the run has seen its images or is asked to stop.

        Raises:
            Failure: the losses diverged, too many images are damaged, or the run cannot be recorded.
        """
        for batch in signals.until_overdue(self._batches()):
            self._review_plan()
            due = self._due()
            with explain_out_of_memory(len(batch.images), self.config.machine.accumulate):
                result = self.state.step(batch)
            self._exchange_status(batch, due)
            self._check_gradients(due)
            metrics: dict[str, float] = {}
            best = None
            if due.log:
                metrics |= self._measure(result, batch)
            if due.evaluate:
                scores, best = self._evaluate()
                metrics |= scores
            if due.variety and self.monitor is not None:
                metrics |= self.monitor.measure_variety(self.state.ema.module)
            if due.snapshot:
                self._snapshot()
            if self.monitor is not None:
                self.monitor.advance(self.state.images_seen, self.state.batch_size, metrics)
            if due.checkpoint or best or self.stopping:
                self._checkpoint(best)
            if due.grid and self.monitor is not None:
                self.monitor.save_grid(self.state.images_seen, self.state.ema.module)
            if self.stopping or self.state.images_seen >= self.state.total_images:
                return self._finish()
        self._stop_waiting()

    def _batches(self) -> Iterator[Batch]:
        """Yield the batches; an error of the stream says how the run is resumed."""
        try:
            yield from self.incoming
        except UserError as error:
            raise type(error)(error.code, f"{error}; then {self.env.resume_hint}") from None

    def _due(self) -> Due:
        """Return what the next step makes due. A new cadence is added here and in `fit`."""
        tracking, evaluation, batch = self.config.tracking, self.config.evaluation, self.state.batch_size
        before, after = self.state.images_seen, self.state.images_seen + batch
        limit = self.config.optim.ema_snapshots
        cycle = batch * self.config.method.d_steps  # its last step updates G too, and so measures everything

        def due(every: int | None, unit: int = 1) -> bool:
            return is_due(every, before, after, self.state.total_images, unit)

        evaluate = self.evaluator is not None and due(evaluation.evaluate_every)
        return Due(
            log=due(tracking.log_every, cycle),
            evaluate=evaluate,
            checkpoint=due(evaluation.checkpoint_every),
            grid=due(tracking.grid_every),
            variety=is_due(tracking.grid_every, before, after, after + 1),  # not where a run ends: it may be extended
            snapshot=snapshots.is_due(after, batch, limit) or (limit > 0 and after >= self.state.total_images),
        )

    def _review_plan(self) -> None:
        """With --minutes, replan how many images fit if that is due; rank 0 decides for all."""
        keeper, state = self.timekeeper, self.state
        plan = state.plan
        if keeper is None or plan is None or (plan.is_measured and state.images_seen < plan.review_at):
            return
        self.env.synchronize()  # a step counts when it is done
        new = self.env.broadcast(self.env.on_rank0(lambda: keeper.review(plan, state.images_seen, state.batch_size)))
        if new is None or new == plan:
            return
        state.follow(new)
        if not plan.is_measured:
            self.env.print(f"--minutes {keeper.seconds / 60:g}: time for about {new.total:,} images")
        if self.monitor is not None:
            self.monitor.set_total(new.total)

    def _exchange_status(self, batch: Batch, due: Due) -> None:
        """Exchange stop requests and counts of damaged images between ranks.

        Unless exact counts are due, the sums arrive one step late, so that no rank waits.
        """
        self._first_damage = self._first_damage or batch.first_damage
        self._lost_worker = self._lost_worker or batch.lost_worker
        # If rank 0 cannot record or save, or a rank has lost a data worker, all ranks stop as they do after a signal:
        # together, with a checkpoint.
        failed = self.saver.failed or (self.monitor is not None and self.monitor.failure is not None)
        failed = failed or bool(self._lost_worker)
        stop, damaged = self.env.sum_async(failed or signals.request() is not None, batch.damaged)
        if due.exact_counts or stop:
            late_stop, late_damaged = self.env.flush(2)
            stop, damaged = stop + late_stop, damaged + late_damaged
        self.state.damaged += damaged
        self.stopping = stop > 0 or self._is_too_damaged()

    def _is_too_damaged(self) -> bool:
        limit = self.config.data.damaged_limit
        return self.state.damaged > limit * max(self.state.images_seen, self.dataset_size)

    def _check_gradients(self, due: Due) -> None:
        """Warn of unexpected skips when it is time to log; end the run if too many steps were skipped in a row."""
        guard = self.state.guard
        if due.exact_counts:
            guard.flush()
        if guard.consecutive > self.config.optim.skip_limit:
            raise self._divergence(", ".join(guard.terms))
        if due.log and guard.unexpected > self._reported_skips:
            self._reported_skips = guard.unexpected
            self.env.print(
                f"warning: {', '.join(guard.unexpected_terms)} not finite at about {self.state.images_seen:,} images; "
                f"such steps change nothing ({guard.skipped:,} so far) [non-finite-step]"
            )

    def _measure(self, result: StepResult, batch: Batch) -> dict[str, float]:
        """Return the metrics of a step, summed over ranks. This waits for the device."""
        state = self.state
        return {
            **with_spread_ratio(self.env.sum_to_floats(result.metrics)),
            metric_names.WRONG_SHARE: batch.wrong_count / state.batch_size,
            metric_names.DAMAGED: float(state.damaged),
            metric_names.SKIPPED: float(state.guard.skipped),
            **state.scheduled,
        }

    def _evaluate(self) -> tuple[dict[str, float], Best | None]:
        """Return the metrics of the averaged generator, and the mark of a new best checkpoint if it is one."""
        assert self.evaluator is not None
        started = time.monotonic()
        scores = self.evaluator.evaluate(self.state.ema.module)
        self.env.on_rank0(self.saver.wait)  # it may be marking the best so far
        best = self.evaluator.best_of(scores, self.state.images_seen, self.saver.run)
        if self.monitor is not None:
            self.monitor.exclude_time(time.monotonic() - started)
        return scores, best

    def _snapshot(self) -> None:
        """Write a snapshot of the averages, before any later checkpoint: a resumed run would not make it again."""
        self.env.average_buffers(self.state.ema.module)
        self.env.on_rank0(self._save_snapshot)

    def _save_snapshot(self) -> None:
        run, state, limit = self.saver.run, self.state, self.config.optim.ema_snapshots
        run.require_lock()
        snapshots.save(run.path, state.values() | run.identity, state.snapshot(), state.batch_size, limit)

    def _checkpoint(self, best: Best | None = None) -> None:
        """Start writing a checkpoint. If the one before it could not be written, all ranks raise that error here."""
        if not self.state.is_finite():
            raise self._divergence("weights")
        self.state.gather_on_rank0()
        self.env.on_rank0(lambda: self.saver.save(self._plain_values(), self.state.tensors(), best))
        if self._last_checkpoint:  # it is on the disk now; the new one is still being written
            self.env.resume_hint = resume_hint(self._last_checkpoint)
        self._last_checkpoint = self.state.images_seen

    def _plain_values(self) -> dict[str, Any]:
        """Return the plain values of a checkpoint, with the metrics of its step: they could not be measured again."""
        row = self.monitor.row_at(self.state.images_seen) if self.monitor is not None else {}
        values = self.state.values() | {"row": strict_row(row)}
        if self.timekeeper is not None and self.state.plan is not None:
            values["plan"] = dataclasses.asdict(self.timekeeper.stamped(self.state.plan))
        return values

    # -------------------------------------------------------- the end of a run

    def _finish(self) -> None:
        """Wait for the checkpoint and report; under a scheduler, leave the file that requests requeueing the job."""
        self.env.on_rank0(self.saver.wait)
        if self._is_too_damaged():
            raise self._too_damaged()
        self.env.on_rank0(lambda: self.monitor.raise_failure() if self.monitor is not None else None)
        seen, run = self.state.images_seen, self.saver.run
        lost = next((what for what in self.env.all_gather(self._lost_worker) if what), "")
        if seen >= self.state.total_images:
            return self.env.print(f"done: {seen:,} images seen, weights in {run.checkpoints}")
        reason = next((reason for reason in self.env.all_gather(signals.request() or "") if reason), "")
        if lost and not reason:
            raise self._reported_once(
                Failure(
                    "worker-killed",
                    f"a data worker {lost}; saved at {seen:,} images in {run.path}; re-run the same command to resume",
                )
            )
        self.env.print(
            f"stopped ({reason}) and saved at {seen:,} images in {run.path}; re-run the same command to resume"
        )
        if requeue_file := os.environ.get("REQUEUE_FILE"):
            self.env.on_rank0(lambda: _touch(Path(requeue_file)))

    def _stop_waiting(self) -> None:
        """Stop although the next batch does not arrive.

        Raises:
            Failure: there are other ranks; they may be in the middle of a step, which never completes.
        """
        if self.env.world_size > 1:
            self.saver.wait()
            raise Failure(
                "stopped-waiting", f"stopped ({signals.request()}) while waiting for images; {self.env.resume_hint}"
            )
        self._checkpoint()
        self._finish()

    def _divergence(self, what: str) -> Failure:
        self.env.on_rank0(self.saver.wait)  # so that what is said of the checkpoint is true
        last = self._last_checkpoint
        intact = f"the checkpoint of {last:,} images is intact" if last else "nothing was saved"
        return Failure(
            "diverged",
            f"{what} became and stayed non-finite at {self.state.images_seen:,} images; {intact}: "
            "lower --lr-g and --lr-d or raise --gamma, under another --run",
        )

    def _too_damaged(self) -> Failure:
        first = next((damage for damage in self.env.all_gather(self._first_damage) if damage), "")
        seen = self.state.images_seen
        return self._reported_once(
            Failure(
                "damaged-images",
                f"damaged images: {self.state.damaged:,} of {seen:,} seen, more than --damaged-limit "
                f"{self.config.data.damaged_limit} allows{f' (first {first})' if first else ''}; repair the dataset "
                f"(`cgan verify` names what is wrong) or raise the limit; saved at {seen:,} images",
            )
        )

    def _reported_once(self, error: Failure) -> Failure:
        """Return an error that all ranks raise, so that only rank 0 reports it."""
        error.already_reported = not self.env.is_rank0
        return error


def _touch(path: Path) -> None:
    with atomic_io.explain_disk_errors(path):
        path.touch()
