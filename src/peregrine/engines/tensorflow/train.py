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
    Position,
    Sums,
    fitting,
    load_state,
    save_model,
    save_state,
)
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.pipeline import TrainingBatches
from peregrine.engines.tensorflow.steps import Steps, TrainingData
from peregrine.errors import MachineError
from peregrine.progress import Advance

CALL_SECONDS = 0.25  # steps that fit into this run as one call, so a stop is heeded about that fast
SAVE_EVERY_S = 60.0  # within an epoch
PHASES = ("training", "preparation", "compilation", "validation", "saving")  # where time goes

logger = logging.getLogger("peregrine")


def train(job: TrainingJob) -> TrainingResult:
    """Train to the end of the recipe; see `engines.base.Engine.train`."""
    try:
        loop = _Loop(job)
        loop.run()
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        size = job.recipe.batch_size
        raise MachineError(
            f"memory ran out with batch_size={size}; use a smaller one, --set batch_size={max(1, size // 2)}"
        ) from error
    position, history = loop.position, loop.position.history
    return TrainingResult(
        recipe=job.recipe.changed({"precision": position.precision}),
        precision=position.precision,
        training_seconds=position.seconds["training"],
        other_seconds={name: seconds for name, seconds in position.seconds.items() if name != "training"},
        images=position.images,
        history=history.to_list(),
        best_epoch=history.best_epoch,
        checkpoint=job.run.checkpoints / BEST,
        stopped_early=history.should_stop and position.step < loop.total,
    )


class _Loop:
    """One run, from its start or its newest resume state to its end.

    Attributes:
        total: steps of the whole recipe.
    """

    def __init__(self, job: TrainingJob) -> None:
        self._job = job
        self._recipe = job.recipe
        self._folder = job.run.checkpoints
        self.position, self._steps, self._batches = _prepared(job)
        self.total = self._recipe.epochs * self._batches.steps_per_epoch
        self._steps_per_call = 1
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """Train the epochs that are left."""
        position = self.position
        with self._events() as events, progress.bar("train", self.total, "step") as advance:
            advance(position.step)
            while position.step < self.total and not position.history.should_stop:
                epoch, first = divmod(position.step, self._batches.steps_per_epoch)
                self._epoch(epoch, first, advance)
                self._end_epoch(epoch, events)
                self._leave_if_asked()

    # ---- steps --------------------------------------------------------------------------------------------------

    def _epoch(self, epoch: int, first: int, advance: Advance) -> None:
        """What is left of an epoch, from its step `first` on."""
        steps = self._batches.steps_per_epoch
        order, sums = self._batches.order(epoch), self.position.sums
        while first < steps:
            self._leave_if_asked()
            count = min(self._steps_per_call, steps - first)
            self._call(order, epoch, first, count)
            first += count
            loss, accuracy = sums.loss / sums.images, sums.correct / sums.images
            advance(count, f"epoch {epoch + 1}/{self._recipe.epochs}, loss {loss:.3f}, accuracy {accuracy:.1%}")
            if time.monotonic() - self._saved_at >= SAVE_EVERY_S and first < steps:
                self._save()

    def _call(self, order: npt.NDArray[np.int32], epoch: int, first: int, count: int) -> None:
        """Run `count` steps and book them.

        Raises:
            TrainingDiverged: names the first step whose loss is no number.
        """
        position, sums = self.position, self.position.sums
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
        scheduled = self._recipe.optimizer.learning_rate * self._recipe.schedule.factor(step, self.total)
        return self.position.history.learning_rate(scheduled)

    # ---- between steps ------------------------------------------------------------------------------------------

    def _end_epoch(self, epoch: int, events: EventWriter | None) -> None:
        """Judge the finished epoch and write everything that is written once an epoch."""
        position, history = self.position, self.position.history
        val_loss = val_accuracy = None
        if self._job.validation is not None:
            with _timed(position.seconds, "validation"):
                val_loss, val_accuracy = self._steps.judge()
            check_loss(val_loss, epoch + 1, self._batches.steps_per_epoch)
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
        with _timed(position.seconds, "saving"):
            model = self._steps.model()
            if history.is_best:
                save_model(model, self._folder / BEST)
            save_model(model, self._folder / LATEST)
            history.write_csv(self._job.run.logs / position.log)
            if events is not None:
                events.scalars(row.scalars(), row.epoch)
        logger.info("%s", row)
        self._save()

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
        with _timed(self.position.seconds, "saving"):
            save_state(self._folder, self.position, self._steps.read())
        self._saved_at = time.monotonic()

    @contextlib.contextmanager
    def _events(self) -> Iterator[EventWriter | None]:
        """Event files, where the recipe wants them; the steps in them are epochs, counted from 1."""
        if not self._recipe.callbacks.tensorboard:
            yield None
            return
        first_epoch = len(self.position.history.rows) + 1 if self.position.step else 0
        with EventWriter(self._job.run.logs / "tensorboard", first_epoch) as events:
            events.text("recipe", f"```toml\n{self._recipe.to_toml()}```")
            yield events


def _prepared(job: TrainingJob) -> tuple[Position, Steps, TrainingBatches]:
    """Bring the data to the device, compile, settle the precision, and stand where the run begins or goes on.

    The precision of a resumed run was settled when it began.
    """
    recipe = job.recipe
    saved = load_state(job.run.checkpoints, recipe) if job.resume else None
    seconds = saved[0].seconds if saved else dict.fromkeys(PHASES, 0.0)
    with _timed(seconds, "preparation"):
        data = TrainingData.of(recipe, job.train, job.validation)
        names = (saved[0].precision,) if saved else precision.contenders(recipe.precision)
        contenders = {name: Steps(recipe, data, name) for name in names}
    order = data.batches.order(0)
    with _timed(seconds, "compilation"):
        for contender in contenders.values():
            contender.compile(order)
    with _timed(seconds, "preparation"):
        chosen = precision.choose(contenders, order)
    steps = contenders[chosen]
    if saved is None:
        log = time.strftime("training_log_%Y-%m-%d-%H%M%S.csv")
        return Position(chosen, log, History.of(recipe), seconds=seconds), steps, data.batches
    position, variables = saved
    with fitting(job.run.checkpoints / "resume"):
        steps.write(variables)
    return position, steps, data.batches


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time that the block takes to `seconds[name]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] += time.perf_counter() - start
