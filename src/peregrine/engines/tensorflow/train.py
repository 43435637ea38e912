"""The training loop: steps, the end of an epoch, resume, and where the time went."""

import contextlib
import logging
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from peregrine import progress
from peregrine.engines.base import TrainingJob, TrainingResult
from peregrine.engines.events import EventWriter
from peregrine.engines.history import EpochRow, History, check_loss
from peregrine.engines.tensorflow import precision
from peregrine.engines.tensorflow.checkpoint import (
    BEST,
    LATEST,
    EpochSums,
    Position,
    load_state,
    save_model,
    save_state,
)
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.steps import Steps, TrainingData
from peregrine.errors import MachineError

CALL_SECONDS = 0.25  # steps that fit into this run as one call, so a stop is heeded about that fast

logger = logging.getLogger("peregrine")


def train(job: TrainingJob) -> TrainingResult:
    """Train to the end of the recipe, or from the newest resume state to it. See `Engine.train`."""
    try:
        return _Training(job).run()
    except tf.errors.ResourceExhaustedError as error:
        size = job.recipe.batch_size
        raise MachineError(
            f"memory ran out at batch size {size}; choose a smaller one: --set batch_size={max(1, size // 2)}"
        ) from error


class _Training:
    def __init__(self, job: TrainingJob) -> None:
        self._job = job
        self._recipe = recipe = job.recipe
        saved = load_state(job.run.checkpoints, recipe) if job.resume else None
        seconds = (
            saved[0].seconds if saved else dict.fromkeys(("training", "preparation", "compilation", "validation"), 0.0)
        )
        with _timed(seconds, "preparation"):
            data = TrainingData.of(recipe, job.train, job.validation)
            names = (saved[0].precision,) if saved else precision.contenders(recipe.precision)
            steps = {name: Steps(recipe, data, name) for name in names}
        with _timed(seconds, "compilation"):
            for candidate in steps.values():
                candidate.compile(data.batches.order(0))
        with _timed(seconds, "preparation"):
            chosen = precision.fastest(steps, data.batches.order(0))
        self._batches = data.batches
        self._steps = steps[chosen]
        if saved:
            self._position, variables = saved
            self._steps.write(variables)
            logger.info("going on after step %d", self._position.step)
        else:
            log = f"training_log_{time.strftime('%Y%m%d-%H%M%S')}.csv"
            self._position = Position(chosen, log, History.of(recipe), seconds=seconds)
        self._total = recipe.epochs * self._batches.steps_per_epoch
        self._steps_per_call = 1

    def run(self) -> TrainingResult:
        position, history = self._position, self._position.history
        with self._event_writer() as events:
            while position.step < self._total and not history.should_stop:
                self._epoch(events)
        seconds = dict(position.seconds)
        return TrainingResult(
            recipe=self._recipe.changed({"precision": position.precision}),
            precision=position.precision,
            training_seconds=seconds.pop("training"),
            other_seconds=seconds,
            images=position.images,
            history=history.to_list(),
            best_epoch=history.best_epoch,
            checkpoint=self._job.run.checkpoints / BEST,
            stopped_early=position.step < self._total,
        )

    def _epoch(self, events: EventWriter | None) -> None:
        steps = self._batches.steps_per_epoch
        epoch, step = divmod(self._position.step, steps)
        order = self._batches.order(epoch)
        with progress.bar(f"epoch {epoch + 1}/{self._recipe.epochs}", total=steps, unit="step") as advance:
            advance(step)
            while step < steps:
                if self._job.stop:
                    self._stop()
                count = min(self._steps_per_call, steps - step)
                self._call(order, epoch, step, count)
                step += count
                sums = self._position.epoch
                advance(count, f"loss {sums.loss / sums.images:.3f}, accuracy {sums.correct / sums.images:.1%}")
        self._end_of_epoch(epoch, events)

    def _call(self, order: npt.NDArray[np.int32], epoch: int, first: int, count: int) -> None:
        """Run `count` steps of an epoch, from its step `first` on."""
        position, sums = self._position, self._position.epoch
        rates = np.array([self._rate(position.step + i) for i in range(count)], np.float32)
        start = time.perf_counter()
        losses, correct = self._steps.train(order, epoch, first, rates)
        seconds = time.perf_counter() - start
        for number, loss in enumerate(losses.tolist(), first + 1):
            check_loss(loss, epoch + 1, number)

        size = self._recipe.batch_size
        sizes = np.minimum(size, len(order) - size * np.arange(first, first + count))
        images = int(sizes.sum())
        sums.loss += float(losses @ sizes)
        sums.correct += float(correct.sum())
        sums.images += images
        sums.seconds += seconds
        position.step += count
        position.images += images
        position.seconds["training"] += seconds
        self._steps_per_call = max(1, int(CALL_SECONDS * count / seconds))

    def _rate(self, step: int) -> float:
        """The learning rate of a step, counted over the whole run."""
        return self._recipe.optimizer.learning_rate * self._recipe.schedule.factor(step, self._total)

    def _end_of_epoch(self, epoch: int, events: EventWriter | None) -> None:
        position, history, folder = self._position, self._position.history, self._job.run.checkpoints
        val_loss = val_accuracy = None
        if self._job.validation is not None:
            with _timed(position.seconds, "validation"):
                val_loss, val_accuracy = self._steps.judge()
            check_loss(val_loss, epoch + 1, self._batches.steps_per_epoch)
        sums, position.epoch = position.epoch, EpochSums()
        row = EpochRow(
            epoch=epoch + 1,
            loss=sums.loss / sums.images,
            accuracy=sums.correct / sums.images,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=self._rate(position.step - 1),
            seconds=sums.seconds,
            images_per_s=sums.images / sums.seconds,
        )
        history.add(row)
        save_model(self._steps.model, folder / LATEST)
        if history.is_best:
            save_model(self._steps.model, folder / BEST)
        history.write_csv(self._job.run.logs / position.log)
        if events is not None:
            events.scalars(row.scalars(), row.epoch)
        save_state(folder, position, self._steps.read())
        logger.info("%s", row)

    def _stop(self) -> None:
        save_state(self._job.run.checkpoints, self._position, self._steps.read())
        raise self._job.stop.interrupted(
            f"saved after step {self._position.step} of {self._total}; "
            f"go on with: peregrine train --resume --run {self._job.run.path}"
        )

    @contextlib.contextmanager
    def _event_writer(self) -> Iterator[EventWriter | None]:
        """Event files, where the recipe wants them; the steps in them are epochs, counted from 1."""
        if not self._recipe.callbacks.tensorboard:
            yield None
            return
        done = len(self._position.history.rows)
        with EventWriter(
            self._job.run.logs / "tensorboard", first_step=done + 1 if self._position.step else 0
        ) as events:
            if not self._position.step:
                events.text("recipe", f"```toml\n{self._recipe.to_toml()}```")
            yield events


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time that the block takes to `seconds[name]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] += time.perf_counter() - start
