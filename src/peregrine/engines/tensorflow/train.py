"""The training loop: steps, the end of an epoch, resume, and where the time went."""

import logging
import time

import numpy as np
import numpy.typing as npt

from peregrine import progress
from peregrine.dataset import Labels
from peregrine.engines import board, memory
from peregrine.engines.base import TrainingJob, TrainingResult
from peregrine.engines.events import EventWriter
from peregrine.engines.history import EpochRow, check_loss
from peregrine.engines.tensorflow import pipeline, record
from peregrine.engines.tensorflow.checkpoint import Position, Sums, checkpoint_names, save_model, save_state
from peregrine.engines.tensorflow.legs import leg_of
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.memory import memory_explained
from peregrine.engines.tensorflow.pipeline import Block
from peregrine.engines.tensorflow.prepare import Prepared, prepare, timed
from peregrine.errors import MachineError
from peregrine.progress import Advance
from peregrine.recipe import Recipe

CALL_SECONDS = 0.25  # steps that fit into this run as one call, so a stop is heeded about that fast
SAVE_EVERY_S = 60.0  # within an epoch

logger = logging.getLogger("peregrine")


def train(job: TrainingJob) -> TrainingResult:
    """Train to the end of the recipe; see `engines.base.Engine.train`."""
    try:
        with memory_explained(memory.ran_out_in_steps(job.recipe.batch_size)), prepare(job) as prepared:
            loop = _Loop(job, prepared)
            loop.run()
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        raise MachineError(
            f"a worker of this run is gone; start all of them again with --resume --run {job.run.path}"
        ) from error
    position, history = loop.position, loop.position.history
    return TrainingResult(
        recipe=settled(job.recipe, position),
        precision=position.precision,
        training_seconds=position.seconds["training"],
        other_seconds={name: seconds for name, seconds in position.seconds.items() if name != "training"},
        images=position.images,
        history=history.to_list(),
        best_epoch=history.best_epoch,
        checkpoint=job.run.checkpoints / checkpoint_names(job.recipe)[0],
        stopped_early=history.should_stop and position.step < loop.total,
    )


class _Loop:
    """One run, from its start or its newest resume state to its end.

    Attributes:
        total: steps of the whole recipe.
    """

    def __init__(self, job: TrainingJob, prepared: Prepared) -> None:
        self._job = job
        self._recipe = job.recipe
        self._folder = job.run.checkpoints
        self.position, self._steps, self._source = prepared.position, prepared.steps, prepared.source
        self._steps_per_epoch, self._legs = prepared.steps_per_epoch, prepared.legs
        self.total = self._legs[-1].stop
        self._leg = leg_of(self._legs, self.position.step)
        self._steps_per_call = 1
        # Workers meet in every step by its number within a call: calls of different lengths would wait forever.
        self._calls_have_one_step = prepared.many_workers
        self._best, self._latest = checkpoint_names(job.recipe)
        self._record = record.describe(settled(job.recipe, self.position), job.train.class_names)
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """Train the epochs that are left."""
        position = self.position
        first_epoch = len(position.history.rows) + 1 if position.step else 0
        with (
            board.open_events(self._job, first_epoch) as events,
            progress.bar("train", self.total, "step") as advance,
        ):
            advance(position.step)
            while position.step < self.total and not position.history.should_stop:
                epoch, first = divmod(position.step, self._steps_per_epoch)
                self._epoch(epoch, first, advance)
                self._end_epoch(epoch, events)
                self._leave_if_asked()

    # ---- steps --------------------------------------------------------------------------------------------------

    def _epoch(self, epoch: int, first: int, advance: Advance) -> None:
        """What is left of an epoch, from its step `first` on."""
        steps, sums = self._steps_per_epoch, self.position.sums
        order = pipeline.order(len(self._job.train), self._recipe.seed, epoch)
        while first < steps:
            self._leave_if_asked()
            if self.position.step == self._leg.stop:
                self._next_leg(order, first)
            count = min(self._steps_per_call, steps - first, self._leg.stop - self.position.step)
            self._call(order, epoch, first, count)
            first += count
            loss, accuracy = sums.loss / sums.images, sums.correct / sums.images
            advance(count, f"epoch {epoch + 1}/{self._recipe.epochs}, loss {loss:.3f}, accuracy {accuracy:.1%}")
            self._job.monitor.step(self.position.history, first, steps, loss, accuracy)
            if time.monotonic() - self._saved_at >= SAVE_EVERY_S and first < steps:
                self._save()

    def _next_leg(self, order: npt.NDArray[np.int32], first: int) -> None:
        """Go on with another graph, compiled before time is taken."""
        self._leg = leg_of(self._legs, self.position.step)
        with timed(self.position.seconds, "compilation"):
            self._steps.compile(self._leg, self._block(order, first, 1))
        self._steps_per_call = 1

    def _block(self, order: npt.NDArray[np.int32], first: int, count: int) -> Block:
        """The images of `count` steps of an epoch."""
        size = self._recipe.batch_size
        return self._source.block(order, first * size, min((first + count) * size, len(order)))

    def _call(self, order: npt.NDArray[np.int32], epoch: int, first: int, count: int) -> None:
        """Run `count` steps and book them.

        Raises:
            TrainingDiverged: names the first step whose loss is no number.
        """
        position, sums = self.position, self.position.sums
        rates = np.array([self._rate(position.step + i) for i in range(count)], np.float32)
        start = time.perf_counter()
        block = self._block(order, first, count)
        losses, correct = self._steps.train(self._leg, block, epoch, position.step, rates)
        seconds = time.perf_counter() - start
        for number, loss in enumerate(losses.tolist(), first + 1):
            check_loss(loss, epoch + 1, number)
        images = len(block.places)
        size = self._recipe.batch_size
        sizes = np.minimum(size, images - size * np.arange(count))
        sums.loss += float(losses @ sizes)
        sums.correct += float(correct.sum())
        sums.images += images
        sums.seconds += seconds
        position.step += count
        position.images += images
        position.seconds["training"] += seconds
        if not self._calls_have_one_step:
            self._steps_per_call = max(1, int(CALL_SECONDS * count / seconds))

    def _rate(self, step: int) -> float:
        """The learning rate of a step, counted over the whole run."""
        scheduled = self._recipe.optimizer.learning_rate * self._recipe.schedule.factor(step, self.total)
        return self.position.history.learning_rate(scheduled) * leg_of(self._legs, step).phase.rate

    # ---- between steps ------------------------------------------------------------------------------------------

    def _end_epoch(self, epoch: int, events: EventWriter | None) -> None:
        """Judge the finished epoch and write everything that is written once an epoch."""
        position, history = self.position, self.position.history
        val_loss = val_accuracy = predicted = None
        if self._job.validation is not None:
            with timed(position.seconds, "validation"):
                val_loss, predicted = self._steps.judge()
            val_accuracy = float((predicted == self._job.validation.labels).mean())
            check_loss(val_loss, epoch + 1, self._steps_per_epoch)
        sums, position.sums = position.sums, Sums()
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
        history.add(row)  # from here on, the plateau's rate is that of the next epoch
        with timed(position.seconds, "saving"):
            model = self._steps.model()
            if history.is_best:
                save_model(model, self._folder / self._best, self._record)
            save_model(model, self._folder / self._latest, self._record)
            history.write_csv(self._job.run.logs / position.log)
            if events is not None:
                self._show(events, row, predicted)
            self._job.monitor.epoch(history)
        logger.info("%s", row)
        self._save()

    def _show(self, events: EventWriter, row: EpochRow, predicted: Labels | None) -> None:
        """Write the finished epoch's events, with the first images of the epoch."""
        epoch = row.epoch - 1
        order = pipeline.order(len(self._job.train), self._recipe.seed, epoch)
        block = self._source.block(order, 0, min(board.SHOWN_IMAGES, self._recipe.batch_size, len(order)))
        images, weights, gradients = self._steps.shown(block, epoch, epoch * self._steps_per_epoch)
        if not board.wants_histograms(self._job):
            weights, gradients = {}, {}
        board.write_epoch(
            events, self._job, row, images=images, predicted=predicted, weights=weights, gradients=gradients
        )

    def _leave_if_asked(self) -> None:
        """Save and leave when the run was asked to stop.

        Raises:
            Interrupted: it was.
        """
        if not self._job.stop:
            return
        self._save()
        raise self._job.stop.interrupted(
            f"saved after step {self.position.step} of {self.total}; "
            f"go on with: peregrine train --resume --run {self._job.run.path}"
        )

    def _save(self) -> None:
        with timed(self.position.seconds, "saving"):
            save_state(self._folder, self.position, self._steps.read(), self._best)
        self._saved_at = time.monotonic()


def settled(recipe: Recipe, position: Position) -> Recipe:
    """The recipe with what the probes decided, so that running it again is the same run."""
    return recipe.changed({"precision": position.precision, "compile": "on" if position.compiled else "off"})
