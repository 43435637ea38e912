"""What every engine does: resolve a recipe, train, and hand back a float32 model.

The stage `training` owns the order of things; an engine owns the numbers. Both engines share the epoch's end
(`history.py`), the resume states (`resume.py`) and the event files (`events.py`), so that they mean the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Dataset, ImageArray
from peregrine.engines.history import History
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.signals import StopRequest


class Monitor(Protocol):
    """Is told how a training gets on. Its calls return at once, nearly always without doing anything."""

    def step(self, history: History, step: int, steps: int, loss: float, accuracy: float) -> None:
        """Called after each look at the losses.

        Args:
            history: the finished epochs.
            step, steps: how many of the steps of the epoch at hand are done.
            loss, accuracy: means over them.
        """
        ...

    def epoch(self, history: History) -> None:
        """Called after each epoch, which is in `history`."""
        ...


class Unwatched:
    """A `Monitor` that nobody looks at."""

    def step(self, history: History, step: int, steps: int, loss: float, accuracy: float) -> None:
        """Do nothing."""

    def epoch(self, history: History) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class TrainingJob:
    """Everything that a training run is given.

    Attributes:
        recipe: resolved by `Engine.resolve`.
        validation: what epochs are judged on; None when nothing may be chosen.
        run: where checkpoints and logs go; locked by the caller.
        resume: go on from the newest resume state, if there is one.
        stop: looked at between two steps; when set, the engine saves a resume state and raises `Interrupted`.
        monitor: is told how the training gets on.
    """

    recipe: Recipe
    train: Dataset
    validation: Dataset | None
    run: RunDirectory
    resume: bool
    stop: StopRequest
    monitor: Monitor = field(default_factory=Unwatched)


@dataclass(frozen=True)
class TrainingResult:
    """What came out of training, beside the checkpoints.

    Attributes:
        recipe: with what the engine decided by a probe (precision), so that running it again is the same run.
        precision: what the steps ran in: `fp32` or `bf16`.
        training_seconds: the loop and its augmentation alone, summed over resumed parts.
        other_seconds: what is not training, by name: `compilation`, `validation`, `preparation`.
        images: training images that went through the steps, over all epochs.
        history: one row per finished epoch, see `history.EpochRow`.
        best_epoch: epoch of the best checkpoint, counted from 1; the last where nothing is chosen.
        checkpoint: the checkpoint that becomes the ancestor.
    """

    recipe: Recipe
    precision: str
    training_seconds: float
    other_seconds: dict[str, float]
    images: int
    history: list[dict[str, Any]]
    best_epoch: int
    checkpoint: Path
    stopped_early: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


class TrainedModel(Protocol):
    """A float32 model, rebuilt from a checkpoint."""

    @property
    def parameters(self) -> int:
        """Number of weights, trained or not."""
        ...

    def logits(self, images: ImageArray) -> npt.NDArray[np.float32]:
        """uint8 `(N, H, W, 3)` to float32 `(N, C)`, in inference mode, in batches of its own choice.

        Raises:
            MachineError: memory ran out.
        """
        ...

    def save(self, folder: Path, temperature: float) -> None:
        """Write the ancestor's file into `folder`: preprocessing, network, `logits / temperature` and softmax."""
        ...


class Engine(Protocol):
    """One training library behind Peregrine's verbs.

    Attributes:
        format: name of the ancestor's format, `keras` or `torch`.
    """

    format: str

    def resolve(self, recipe: Recipe, train: Dataset) -> Recipe:
        """Check what only the engine can check, and fill in the model's options. Writes nothing.

        Raises:
            RecipeError: a key asks for something that this engine, model or data cannot do.
        """
        ...

    def fill_time(
        self, recipes: Sequence[Recipe], train: Dataset, validation: Dataset | None, seconds: float
    ) -> Recipe:
        """One of some resolved recipes, changed so that its training takes `seconds` on this machine.

        Args:
            recipes: cheapest first.

        Raises:
            RecipeError: the time is too short for every one of them, or the engine has no time budget.
        """
        ...

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train to the end of the recipe.

        Raises:
            TrainingDiverged: the loss became NaN or infinite.
            Interrupted: `job.stop` was set; a resume state is saved.
            MachineError: memory ran out; the message names the batch size.
        """
        ...

    def restore(self, recipe: Recipe, checkpoint: Path, class_count: int) -> TrainedModel:
        """Build the float32 model from a checkpoint that `train` wrote.

        Raises:
            DamagedFile: the checkpoint is not of this model.
            MachineError: memory ran out.
        """
        ...
