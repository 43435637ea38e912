"""The engine behind the catalogue's key `tensorflow`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Dataset, ImageArray, at_once
from peregrine.engines import memory
from peregrine.engines.base import TrainedModel, TrainingJob, TrainingResult
from peregrine.engines.statistics import sample
from peregrine.engines.tensorflow import network, train
from peregrine.engines.tensorflow.checkpoint import fitting, load_model, save_model
from peregrine.engines.tensorflow.memory import memory_explained
from peregrine.errors import RecipeError
from peregrine.formats import FORMATS
from peregrine.recipe import Recipe

BATCH = 500  # images at once in `logits`, if they are small


class TensorFlowEngine:
    """Trains Keras networks with a loop of its own; see `engines.base.Engine`."""

    format = "keras"

    def resolve(self, recipe: Recipe, train: Dataset) -> Recipe:
        """Check what only this engine can check, and fill in the network's options and the input size.

        Raises:
            RecipeError: a key asks for something that the engine, the network or the data cannot do.
        """
        if recipe.optimizer.name == "sgd" and recipe.optimizer.weight_decay:
            raise RecipeError(
                "optimizer.weight_decay of sgd is not in the engine tensorflow, where networks have l2; "
                f"got {recipe.optimizer.weight_decay}; use --set optimizer.weight_decay=0"
            )
        if recipe.precision == "fp16":
            raise RecipeError(
                "precision of the engine tensorflow is fp32 or bf16; got fp16; use --set precision=auto or the engine "
                "pytorch"
            )
        if recipe.callbacks.checkpoint_format == "safetensors":
            raise RecipeError("callbacks.checkpoint_format of the engine tensorflow is keras or h5; got safetensors")
        if recipe.input.growth and not network.takes_any_size(recipe):
            raise RecipeError(
                f"input.growth needs a network for images of any size; {recipe.model.name} is not one; "
                "use --set input.growth=[]"
            )
        side, smallest = train.image_size[0], network.smallest_input(recipe)
        for size in (side, *(small for _, small in recipe.input.growth)):
            if size < smallest:
                raise RecipeError(
                    f"the model {recipe.model.name} takes images of {smallest} pixels or more; got {size}; "
                    f"use --set input.size={smallest}"
                )
            if size > side:
                raise RecipeError(f"input.growth is up to the image size, {side} pixels; got {size}")
        if recipe.augmentation.translate >= side:
            raise RecipeError(
                f"augmentation.translate is below the image size, {side} pixels; got {recipe.augmentation.translate}"
            )
        chosen = {"name": recipe.model.name, **network.resolved(recipe, sample(train.images)).model_dump(mode="json")}
        return recipe.changed({"input.size": side, "model": chosen})

    def fill_time(
        self, recipes: Sequence[Recipe], train: Dataset, validation: Dataset | None, seconds: float
    ) -> Recipe:
        """Not in this engine.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            f"a time budget needs a recipe of the engine pytorch; {recipes[0].name} is of tensorflow; set its epochs"
        )

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train to the end of the recipe.

        Raises:
            TrainingDiverged: the loss became NaN or infinite.
            Interrupted: `job.stop` was set; a resume state is saved.
            MachineError: memory ran out; the message names the batch size.
            DamagedFile: there are resume states to go on from, and all of them are damaged or of another network.
        """
        return train.train(job)

    def restore(self, recipe: Recipe, checkpoint: Path, class_count: int) -> TrainedModel:
        """Build the float32 model from a checkpoint that `train` wrote.

        Raises:
            DamagedFile: the checkpoint cannot be read, or is of another model.
            MachineError: memory ran out.
        """
        assert recipe.input.size != "auto"  # the recipe is resolved
        with memory_explained(memory.ran_out_in_answers(recipe.input.size)):
            trained = load_model(checkpoint)
            with fitting(checkpoint):
                return KerasModel(recipe, class_count, trained)


class KerasModel:
    """A trained network in float32; see `engines.base.TrainedModel`."""

    def __init__(self, recipe: Recipe, class_count: int, trained: Any) -> None:
        self._recipe = recipe
        self._class_count = class_count
        self._model = network.deployable(recipe, class_count, trained, temperature=1.0)
        self._logits = network.compiled(self._model, "logits")

    @property
    def parameters(self) -> int:
        """Number of weights, trained or not."""
        return int(self._model.count_params())

    def logits(self, images: ImageArray) -> npt.NDArray[np.float32]:
        """uint8 `(N, H, W, 3)` to float32 `(N, C)`.

        Raises:
            MachineError: memory ran out.
        """
        answers, size = np.empty((len(images), self._class_count), np.float32), images.shape[1]
        count = at_once(BATCH, size)
        with memory_explained(memory.ran_out_in_answers(size)):
            for start in range(0, len(images), count):
                part = images[start : start + count]
                answers[start : start + len(part)] = self._logits(np.ascontiguousarray(part)).numpy()
        return answers

    def save(self, folder: Path, temperature: float) -> None:
        """Write `model.keras`: uint8 `images` to float32 `probabilities`, built-in layers alone."""
        model = network.deployable(self._recipe, self._class_count, self._model, temperature)
        save_model(model, folder / FORMATS[TensorFlowEngine.format].file)
