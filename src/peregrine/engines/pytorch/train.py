"""The training loop. A step depends on the state and on (seed, epoch, step), and on nothing else."""

import logging
import time

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from peregrine import progress
from peregrine.dataset import Labels
from peregrine.engines import board, resume
from peregrine.engines.base import TrainingJob, TrainingResult
from peregrine.engines.events import EventWriter
from peregrine.engines.history import EpochRow, History, check_loss
from peregrine.engines.pytorch.augment import EpochPlan, to_network
from peregrine.engines.pytorch.checkpoint import BEST, LATEST, State, load_state, save_state
from peregrine.engines.pytorch.device import memory_explained, pick
from peregrine.engines.pytorch.graph import Classifier, Normalise, build_classifier, save_weights
from peregrine.engines.pytorch.optim import optimizers, set_rates
from peregrine.engines.pytorch.pipeline import Batches, Resident, as_tensor
from peregrine.engines.pytorch.precision import Precision, autocast, choose
from peregrine.engines.statistics import class_weights, sample
from peregrine.progress import Advance

SAVE_EVERY_S = 60.0  # within an epoch
LOOK_EVERY_S = 1.0  # on a GPU, where looking at a loss makes the host wait for it
RACED_BATCH = 128  # images that the precisions race over
JUDGED_BATCH = 500  # validation images at once
logger = logging.getLogger("peregrine")


def train(job: TrainingJob) -> TrainingResult:
    """Train to the end of the recipe; see `engines.base.Engine.train`."""
    with memory_explained(job.recipe.batch_size):
        loop = _Loop(job)
        loop.run()
    state = loop.state
    return TrainingResult(
        recipe=job.recipe.changed({"precision": state.precision}),
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

    def __init__(self, job: TrainingJob) -> None:
        self._watch = _Stopwatch()
        self._job = job
        self._recipe = job.recipe
        self._folder = job.run.checkpoints
        self._device = pick()
        self.batches = Batches(Resident.of(job.train, self._device), job.recipe)
        self._validation = Resident.of(job.validation, self._device) if job.validation is not None else None
        self._class_weights = torch.from_numpy(class_weights(job.train, job.recipe)).to(self._device)
        saved = resume.newest(self._folder / "resume") if job.resume else None
        if saved is None:
            self.state = _begin(job, self.batches, self._device)
        else:
            self.state = _go_on(job, self.batches, self._device, saved)
        self._saved_at = -1 if saved is None else self.steps_done
        self._saved_time = self._looked_time = time.monotonic()
        self._looked = self.state.step
        self._gradients: dict[str, npt.NDArray[np.float32]] = {}  # of the newest finished epoch's last step
        self._watch.book("preparation", self.state.seconds)

    @property
    def steps_done(self) -> int:
        """Over all epochs."""
        return self.state.epoch * self.batches.per_epoch + self.state.step

    def run(self) -> None:
        """Train the epochs that are left."""
        state = self.state
        self._save()
        first_epoch = state.epoch + 1 if self.steps_done else 0
        with (
            board.open_events(self._job, first_epoch) as events,
            progress.bar("train", self.batches.total, "step") as advance,
        ):
            advance(self.steps_done)
            while state.epoch < self._recipe.epochs and not state.history.should_stop:
                self._steps(advance)
                self._end_epoch(events)
                self._leave_if_asked(advance)

    # ---- steps --------------------------------------------------------------------------------------------------

    def _steps(self, advance: Advance) -> None:
        """What is left of the epoch at hand."""
        state = self.state
        plan = self.batches.plan(state.epoch)
        state.classifier.train()
        while state.step < self.batches.per_epoch:
            self._leave_if_asked(advance)
            self._step(plan)
            now = time.monotonic()
            if self._device.type == "cpu" or now - self._looked_time >= LOOK_EVERY_S:
                self._look(advance)
            if now - self._saved_time >= SAVE_EVERY_S and state.step < self.batches.per_epoch:
                self._look(advance)
                self._watch.book("training", state.seconds)
                self._save()
        self._look(advance)
        self._watch.book("training", state.seconds)

    def _step(self, plan: EpochPlan) -> None:
        state, recipe = self.state, self._recipe
        set_rates(state.optimizers, self._rate(self.steps_done) / recipe.optimizer.learning_rate)
        network = state.classifier.network
        network.before_step(self.steps_done / self.batches.total)
        images, labels = self.batches.batch(plan, state.epoch, state.step)
        with autocast(state.precision, self._device):
            logits = network(state.classifier.normalise(images))
        losses = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing, reduction="none")
        loss = (losses * self._class_weights[labels]).mean()
        torch.autograd.backward(loss)
        if state.step + 1 == self.batches.per_epoch and board.wants_histograms(self._job):
            self._gradients = gradients(network)  # copies: some optimisers write into them
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        state.losses[state.step] = loss.detach()
        state.hits[state.step] = (logits.argmax(1) == labels).sum()
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
        for number, loss in enumerate(state.losses[first : state.step].tolist(), first + 1):
            check_loss(loss, state.epoch + 1, number)
        if state.step > first:
            loss, accuracy = self._means()
            where = f"epoch {state.epoch + 1}/{self._recipe.epochs}"
            advance(state.step - first, f"{where}, loss {loss:.3f}, accuracy {accuracy:.1%}")
        self._looked, self._looked_time = state.step, time.monotonic()

    def _means(self) -> tuple[float, float]:
        """Loss and accuracy over the steps of the epoch at hand."""
        state = self.state
        losses, hits = state.losses[: state.step].cpu().numpy(), state.hits[: state.step].cpu().numpy()
        return float(losses.mean(dtype=np.float64)), float(hits.mean() / self.batches.size)

    # ---- between steps ------------------------------------------------------------------------------------------

    def _end_epoch(self, events: EventWriter | None) -> None:
        """Judge the finished epoch and write everything that is written once an epoch."""
        state = self.state
        val_loss = val_accuracy = predicted = None
        if self._validation:
            val_loss, val_accuracy, predicted = judge(state.classifier, self._validation)
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
            save_weights(state.classifier, self._folder / BEST)
        save_weights(state.classifier, self._folder / LATEST)
        state.history.write_csv(self._job.run.logs / state.log)
        if events is not None:
            self._show(events, row, predicted)
        logger.info("%s", row)
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
            gradients=self._gradients,
        )

    def _leave_if_asked(self, advance: Advance) -> None:
        """Save and leave when the run was asked to stop.

        Raises:
            Interrupted: it was.
        """
        if not self._job.stop:
            return
        self._look(advance)
        self._watch.book("training", self.state.seconds)
        self._save()
        path = self._job.run.path
        raise self._job.stop.interrupted(
            f"saved after step {self.steps_done} of {self.batches.total}; "
            f"go on with: peregrine train --resume --run {path}"
        )

    def _save(self) -> None:
        """Write a resume state, unless there is one of this very step."""
        if self._saved_at != self.steps_done:
            save_state(self.state, self._folder, self.steps_done)
        self._saved_at, self._saved_time = self.steps_done, time.monotonic()
        self._watch.book("saving", self.state.seconds)


def _begin(job: TrainingJob, batches: Batches, device: torch.device) -> State:
    """The state before the first step: what the data decides, and what a probe does."""
    classifier = _classifier(job)
    classifier.normalise = Normalise.of(job.train.images)
    some = sample(job.train.images)
    classifier.network.fit(classifier.normalise(to_network(as_tensor(some), some.shape[1])))
    classifier.to(device)
    images, _ = batches.batch(batches.plan(0), 0, 0)
    precision = choose(job.recipe.precision, classifier, images[:RACED_BATCH])
    log = time.strftime("training_log_%Y-%m-%d-%H%M%S.csv")
    return _state(job, batches, classifier, precision, log, History.of(job.recipe))


def _go_on(job: TrainingJob, batches: Batches, device: torch.device, saved: resume.ResumeState) -> State:
    """The state that was saved; nothing is decided again."""
    content = saved.content
    history = History.of(job.recipe, content["history"])
    state = _state(job, batches, _classifier(job).to(device), content["precision"], content["log"], history)
    load_state(state, saved, job.run.checkpoints)
    return state


def _classifier(job: TrainingJob) -> Classifier:
    height, _ = job.train.image_size
    return build_classifier(job.recipe.model, height, len(job.train.class_names), job.recipe.seed)


def _state(
    job: TrainingJob, batches: Batches, classifier: Classifier, precision: Precision, log: str, history: History
) -> State:
    product = torch.bfloat16 if precision == "bf16" else torch.float32
    device = classifier.normalise.mean.device
    return State(
        classifier=classifier,
        optimizers=optimizers(classifier.network, job.recipe.optimizer, batches.size, product),
        precision=precision,
        log=log,
        history=history,
        losses=torch.zeros(batches.per_epoch, device=device),
        hits=torch.zeros(batches.per_epoch, dtype=torch.int64, device=device),
    )


@torch.inference_mode()
def judge(classifier: Classifier, data: Resident) -> tuple[float, float, Labels]:
    """Mean cross-entropy, accuracy and the predicted classes, int64 `(N,)`.

    In float32 and eval mode, without smoothing, weights or augmentation.
    """
    classifier.eval()
    loss, hits = torch.zeros(2, dtype=torch.float64, device=data.labels.device)
    predicted = []
    for images, labels in zip(
        torch.split(data.images, JUDGED_BATCH), torch.split(data.labels, JUDGED_BATCH), strict=True
    ):
        logits = classifier.logits(images)
        loss += F.cross_entropy(logits, labels, reduction="sum")
        predicted.append(logits.argmax(1))
        hits += (predicted[-1] == labels).sum()
    return float(loss) / len(data), float(hits) / len(data), torch.cat(predicted).cpu().numpy()


def weights(network: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """Every trained weight by its name; on the CPU it is the weight's own memory."""
    return {name: weight.detach().cpu().numpy() for name, weight in network.named_parameters() if weight.requires_grad}


def gradients(network: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """A copy of every weight's gradient, by the weight's name."""
    found = ((name, weight.grad) for name, weight in network.named_parameters())
    return {name: gradient.to("cpu", copy=True).numpy() for name, gradient in found if gradient is not None}


class _Stopwatch:
    """Books all time that passes, each moment under one name."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def book(self, name: str, seconds: dict[str, float]) -> None:
        """Add the time since the last booking to `seconds[name]`."""
        now = time.perf_counter()
        seconds[name] = seconds.get(name, 0.0) + now - self._since
        self._since = now
