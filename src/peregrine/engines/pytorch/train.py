"""The training loop. A step depends on the state and on (seed, epoch, step), and on nothing else."""

import contextlib
import functools
import logging
import time

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from peregrine import progress
from peregrine.dataset import Dataset, Labels
from peregrine.engines import board, memory, resume
from peregrine.engines.base import TrainingJob, TrainingResult
from peregrine.engines.events import EventWriter
from peregrine.engines.history import EpochRow, History, check_loss
from peregrine.engines.pytorch import compiling
from peregrine.engines.pytorch.checkpoint import (
    BEST,
    LATEST,
    State,
    check_same_state,
    fresh_state,
    load_state,
    save_state,
)
from peregrine.engines.pytorch.device import memory_explained, synchronise
from peregrine.engines.pytorch.distributed import Pulse, World, meeting
from peregrine.engines.pytorch.graph import Classifier, build_classifier, save_weights
from peregrine.engines.pytorch.judging import judge
from peregrine.engines.pytorch.pipeline import Batches
from peregrine.engines.pytorch.plan import EpochPlan
from peregrine.engines.pytorch.precision import RACED_BATCH, choose
from peregrine.engines.pytorch.starting import start
from peregrine.engines.pytorch.steps import Stepper
from peregrine.engines.pytorch.streaming import source
from peregrine.engines.record import describe
from peregrine.engines.statistics import class_weights
from peregrine.progress import Advance
from peregrine.recipe import Recipe

SAVE_EVERY_S = 60.0  # within an epoch
LOOK_EVERY_S = 1.0  # on a GPU, where looking at a loss makes the host wait for it
logger = logging.getLogger("peregrine")


def train(job: TrainingJob) -> TrainingResult:
    """Train to the end of the recipe; see `engines.base.Engine.train`."""
    with (
        memory_explained(memory.ran_out_in_steps(job.recipe.batch_size)),
        meeting(job.run.path, job.stop) as world,
        contextlib.ExitStack() as opened,
    ):
        loop = _Loop(job, world, opened)
        loop.run()
    state = loop.state
    return TrainingResult(
        recipe=_settled(job.recipe, state),
        precision=state.precision,
        training_seconds=state.seconds.get("training", 0.0),
        other_seconds={name: seconds for name, seconds in state.seconds.items() if name != "training"},
        images=loop.steps_done * loop.batches.size,
        history=state.history.to_list(),
        best_epoch=state.history.best_epoch,
        checkpoint=job.run.checkpoints / BEST,
        stopped_early=state.history.should_stop and state.epoch < job.recipe.epochs,
    )


class _Loop:
    """One run, from its start or its newest resume state to its end."""

    def __init__(self, job: TrainingJob, world: World, opened: contextlib.ExitStack) -> None:
        self._watch = _Stopwatch()
        self._world = world
        self._job = job
        self._recipe = job.recipe
        self._folder = job.run.checkpoints
        self._device = world.device
        train_data = opened.enter_context(source(job.train, self._device))
        self.batches = Batches(train_data, job.recipe, world.rank, world.ranks)
        self._validation = None
        if job.validation is not None:
            self._validation = opened.enter_context(source(_part(job.validation, world), self._device))
        saved = resume.newest(self._folder / "resume") if job.resume else None
        check_same_state(saved, world)
        if saved is None:
            self.state = _begin(job, self.batches, world)
        else:
            self.state = _go_on(job, self.batches, self._device, saved)
        weights = torch.from_numpy(class_weights(job.train, job.recipe)).to(self._device)
        self._stepper = Stepper(self.state, job.recipe, weights, self.batches.size, world)
        self._pulse = Pulse(world, LOOK_EVERY_S)
        self._record = describe(_settled(job.recipe, self.state), job.train.class_names)  # for the checkpoints
        self._saved_at = None if saved is None else self._place
        self._saved_time = self._looked_time = time.monotonic()
        self._looked = self.state.step
        self._watch.book("preparation", self.state.seconds)

    @property
    def steps_done(self) -> int:
        """Over all epochs."""
        return self.state.epoch * self.batches.per_epoch + self.state.step

    @property
    def _place(self) -> tuple[int, int]:
        """Before the validation of an epoch and after it, as many steps are done."""
        return self.state.epoch, self.state.step

    def run(self) -> None:
        """Train the epochs that are left."""
        state = self.state
        self._save()
        first_epoch = state.epoch + 1 if self.steps_done else 0
        with (
            board.open_events(self._job, first_epoch) if self._world.is_first else contextlib.nullcontext() as events,
            progress.bar("train", self.batches.total, "step") as advance,
        ):
            advance(self.steps_done)
            while state.epoch < self._recipe.epochs and not state.history.should_stop:
                self._steps(advance)
                self._end_epoch(events, advance)
                self._leave_if_asked(advance)

    # ---- steps --------------------------------------------------------------------------------------------------

    def _steps(self, advance: Advance) -> None:
        """What is left of the epoch at hand."""
        state = self.state
        plan = self.batches.plan(state.epoch)
        state.classifier.train()
        while state.step < self.batches.per_epoch:
            if self._pulse.due():
                self._between_steps(advance)
            self._step(plan)
        self._look(advance)
        self._watch.book("training", state.seconds)

    def _between_steps(self, advance: Advance) -> None:
        """Heed a request to stop; look and save when it is time."""
        self._leave_if_asked(advance)
        now = time.monotonic()
        # One process looks when its own clock says so, but many only together.
        if self._device.type == "cpu" or self._world.ranks > 1 or now - self._looked_time >= LOOK_EVERY_S:
            self._look(advance)
        if now - self._saved_time >= SAVE_EVERY_S:
            self._look(advance)
            self._watch.book("training", self.state.seconds)
            self._save()

    def _step(self, plan: EpochPlan) -> None:
        state = self.state
        last = state.step + 1 == self.batches.per_epoch
        batch = self.batches.batch(plan, state.epoch, state.step)
        progress = self.steps_done / self.batches.total
        if self._stepper.must_compile(batch, progress):
            synchronise(self._device)
            self._watch.book("training", state.seconds)
            self._stepper.compile(batch)
            self._watch.book("compilation", state.seconds)
        loss, hits = self._stepper.step(
            batch,
            progress,
            rate=self._rate(self.steps_done) / self._recipe.optimizer.learning_rate,
            keep_gradients=last and board.wants_histograms(self._job),
        )
        state.losses[state.step], state.hits[state.step] = loss, hits
        state.step += 1

    def _rate(self, step: int) -> float:
        """The learning rate of a step, counted over the whole run."""
        scheduled = self._recipe.optimizer.learning_rate * self._recipe.schedule.factor(step, self.batches.total)
        return self.state.history.learning_rate(scheduled)

    def _look(self, advance: Advance) -> None:
        """Bring the losses of new steps to the host: for the bar, and to stop when one of them is no number.

        Raises:
            TrainingDiverged: names the first such step.
        """
        state, first = self.state, self._looked
        if state.step > first:
            self._world.add_up(state.losses[first : state.step])
            self._world.add_up(state.hits[first : state.step])
        for number, loss in enumerate(state.losses[first : state.step].tolist(), first + 1):
            check_loss(loss, state.epoch + 1, number)
        if state.step > first:
            loss, accuracy = self._means()
            where = f"epoch {state.epoch + 1}/{self._recipe.epochs}"
            advance(state.step - first, f"{where}, loss {loss:.3f}, accuracy {accuracy:.1%}")
            self._job.monitor.step(state.history, state.step, self.batches.per_epoch, loss, accuracy)
        self._looked, self._looked_time = state.step, time.monotonic()

    def _means(self) -> tuple[float, float]:
        """Loss and accuracy over the steps of the epoch at hand."""
        state = self.state
        losses, hits = state.losses[: state.step].cpu().numpy(), state.hits[: state.step].cpu().numpy()
        return float(losses.mean(dtype=np.float64)), float(hits.mean() / self.batches.size)

    # ---- between steps ------------------------------------------------------------------------------------------

    def _end_epoch(self, events: EventWriter | None, advance: Advance) -> None:
        """Judge the finished epoch and write everything that is written once an epoch."""
        state = self.state
        val_loss = val_accuracy = predicted = None
        if self._validation:
            # Ranks judge parts of their own and could not leave together in the middle.
            alone, size = self._world.ranks == 1, self._job.train.image_size[0]
            between = functools.partial(self._leave_if_asked, advance, "validation") if alone else lambda: None
            val_loss, val_accuracy, predicted = judge(state.classifier, self._validation, size, between)
            val_loss = self._world.mean(val_loss, len(self._validation))
            val_accuracy = self._world.mean(val_accuracy, len(self._validation))
            predicted = self._world.joined(predicted)
        self._watch.book("validation", state.seconds)
        loss, accuracy = self._means()
        seconds = state.seconds["training"] - state.epoch_seconds
        row = EpochRow(
            epoch=state.epoch + 1,
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=self._rate(self.steps_done - 1),
            seconds=seconds,
            images_per_s=self.batches.per_epoch * self.batches.size / seconds,
        )
        state.history.add(row)
        state.epoch, state.step, self._looked = state.epoch + 1, 0, 0
        state.epoch_seconds = state.seconds["training"]
        if state.history.is_best:
            save_weights(state.classifier, self._folder / BEST, self._record)  # each rank, for its own folder
        if self._world.is_first:
            save_weights(state.classifier, self._folder / LATEST, self._record)
            state.history.write_csv(self._job.run.logs / state.log)
        if events is not None:
            self._show(events, row, predicted)
        logger.info("%s", row)
        self._job.monitor.epoch(state.history)
        self._save()

    def _show(self, events: EventWriter, row: EpochRow, predicted: Labels | None) -> None:
        """Write the finished epoch's events."""
        board.write_epoch(
            events,
            self._job,
            row,
            images=self.batches.shown(row.epoch - 1, board.SHOWN_IMAGES),
            predicted=predicted,
            weights=weights(self.state.classifier.network) if board.wants_histograms(self._job) else {},
            gradients=self._stepper.gradients,
        )

    def _leave_if_asked(self, advance: Advance, doing: str = "training") -> None:
        """Save and leave when the run was asked to stop, on whatever rank; the time since then went into `doing`.

        Raises:
            Interrupted: it was.
        """
        stop = self._job.stop
        signum = self._world.largest((stop and stop.signum) or 0)
        if not signum:
            return
        stop.signum = signum
        self._look(advance)
        self._watch.book(doing, self.state.seconds)
        self._save()
        self._world.largest(0)  # nobody leaves before the state is saved: torchrun ends the others then
        raise stop.interrupted(
            f"saved after step {self.steps_done} of {self.batches.total}; "
            f"go on with: peregrine train --resume --run {self._world.run}"
        )

    def _save(self) -> None:
        """Write a resume state, unless there is one of this very place; the first rank alone."""
        if self._saved_at != self._place and self._world.is_first:
            save_state(self.state, self._folder, self.steps_done)
        self._saved_at, self._saved_time = self._place, time.monotonic()
        self._watch.book("saving", self.state.seconds)


def _begin(job: TrainingJob, batches: Batches, world: World) -> State:
    """The state before the first step: what the data or an earlier training decides, and what a probe does."""
    classifier = _classifier(job)
    start(classifier, job.recipe, job.train, batches.data)
    classifier.to(world.device)
    images = batches.batch(batches.plan(0), 0, 0).images
    precision = choose(job.recipe.precision, classifier, images[:RACED_BATCH], world)
    log = time.strftime("training_log_%Y-%m-%d-%H%M%S.csv")
    state = fresh_state(job.recipe, classifier, precision, batches, History.of(job.recipe), log)
    state.compiled = compiling.choose(job.recipe.compile, classifier, batches, precision, world)
    return state


def _part(dataset: Dataset, world: World) -> Dataset:
    """What this rank judges of a data set."""
    return dataset.subset(world.part(len(dataset)))


def _go_on(job: TrainingJob, batches: Batches, device: torch.device, saved: resume.ResumeState) -> State:
    """The state that was saved; nothing is decided again."""
    content = saved.content
    history = History.of(job.recipe, content["history"])
    classifier = _classifier(job).to(device)
    state = fresh_state(job.recipe, classifier, content["precision"], batches, history, content["log"])
    load_state(state, saved, job.run.checkpoints)
    return state


def _classifier(job: TrainingJob) -> Classifier:
    height, _ = job.train.image_size
    return build_classifier(job.recipe.model, height, len(job.train.class_names), job.recipe.seed)


def _settled(recipe: Recipe, state: State) -> Recipe:
    """The recipe with what probes decided."""
    return recipe.changed({"precision": state.precision, "compile": "on" if state.compiled else "off"})


def weights(network: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """Every trained weight by its name; on the CPU it is the weight's own memory."""
    return {name: weight.detach().cpu().numpy() for name, weight in network.named_parameters() if weight.requires_grad}


class _Stopwatch:
    """Books all time that passes, each moment under one name."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def book(self, name: str, seconds: dict[str, float]) -> None:
        """Add the time since the last booking to `seconds[name]`."""
        now = time.perf_counter()
        seconds[name] = seconds.get(name, 0.0) + now - self._since
        self._since = now
