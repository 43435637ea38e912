"""The engine behind the catalogue's key `pytorch`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from peregrine.augmentation import Augmentation
from peregrine.dataset import Dataset, ImageArray, at_once
from peregrine.engines import memory
from peregrine.engines.base import TrainedModel, TrainingJob, TrainingResult
from peregrine.engines.pytorch import budget, train
from peregrine.engines.pytorch.device import memory_explained, pick
from peregrine.engines.pytorch.distributed import meeting
from peregrine.engines.pytorch.graph import (
    Classifier,
    build_classifier,
    load_weights,
    network_module,
    network_options,
    save_weights,
)
from peregrine.engines.pytorch.pipeline import as_tensor
from peregrine.engines.statistics import sample
from peregrine.errors import RecipeError
from peregrine.formats import FORMATS
from peregrine.recipe import Recipe
from peregrine.signals import StopRequest

BATCH = 500  # images at once in `logits`, if they are small


class PyTorchEngine:
    """Trains with PyTorch; see `engines.base.Engine`."""

    format = "torch"

    def resolve(self, recipe: Recipe, train: Dataset) -> Recipe:
        """Check what only this engine can check, and fill in the network's options.

        Raises:
            RecipeError: a key asks for something that the engine, the network or the data cannot do.
            DataError: the images do not vary.
        """
        size = train.image_size[0]
        _check_unbuilt(recipe)
        _check_augmentation(recipe.augmentation, size)
        _check_growth(recipe, size)
        if recipe.batch_size < 2:
            raise RecipeError(
                f"batch_size is 2 or more in the engine pytorch, whose norms compare images; got {recipe.batch_size}"
            )
        module, options = network_module(recipe.model), network_options(recipe.model)
        smallest = module.smallest_input(options)
        if size < smallest:
            raise RecipeError(f"the model {recipe.model.name} takes images of {smallest} pixels or more; got {size}")
        options = module.resolve(options, sample(train.images))
        return recipe.changed({"model": {"name": recipe.model.name, **options.model_dump(mode="json")}})

    def fill_time(
        self, recipes: Sequence[Recipe], train: Dataset, validation: Dataset | None, seconds: float
    ) -> Recipe:
        """One of some resolved recipes, changed so that its training takes `seconds`; see `budget.fit`.

        Raises:
            RecipeError: the time is too short for one epoch.
        """
        with meeting(None, StopRequest()) as world:
            return budget.fit(recipes, train, validation, world, seconds)

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train to the end of the recipe.

        Raises:
            TrainingDiverged: the loss became NaN or infinite.
            Interrupted: `job.stop` was set; a resume state is saved.
            MachineError: memory ran out; the message names the batch size.
        """
        return train.train(job)

    def restore(self, recipe: Recipe, checkpoint: Path, class_count: int) -> TrainedModel:
        """Build the float32 model from a checkpoint that `train` wrote.

        Raises:
            DamagedFile: the checkpoint is not of this model.
            MachineError: memory ran out.
        """
        assert recipe.input.size != "auto"  # the recipe is resolved
        with memory_explained(memory.ran_out_in_answers(recipe.input.size)):
            classifier = build_classifier(recipe.model, recipe.input.size, class_count)
            load_weights(classifier, checkpoint)
            return RestoredModel(classifier.to(pick()).eval())


class RestoredModel:
    """A trained float32 model; see `engines.base.TrainedModel`."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    @property
    def parameters(self) -> int:
        """Number of weights, trained or not."""
        return sum(weight.numel() for weight in self._classifier.parameters())

    @torch.inference_mode()
    def logits(self, images: ImageArray) -> npt.NDArray[np.float32]:
        """uint8 `(N, H, W, 3)` to float32 `(N, C)`.

        Raises:
            MachineError: memory ran out.
        """
        device, size = self._classifier.temperature.device, images.shape[1]
        count = at_once(BATCH, size)
        parts = (as_tensor(images[start : start + count]) for start in range(0, max(1, len(images)), count))
        with memory_explained(memory.ran_out_in_answers(size)):
            return torch.cat([self._classifier.logits(part.to(device)).cpu() for part in parts]).numpy()

    def save(self, folder: Path, temperature: float) -> None:
        """Write the ancestor's weights, with the temperature among them."""
        self._classifier.temperature.fill_(temperature)
        save_weights(self._classifier, folder / FORMATS[PyTorchEngine.format].file)


def _check_unbuilt(recipe: Recipe) -> None:
    """Keys of every recipe that ask for what only the other engine has."""
    callbacks, strategy = recipe.callbacks, recipe.strategy
    for key, value, built in (
        ("strategy.name", strategy.name, ("auto", "none")),
        ("strategy.devices", strategy.devices, ("auto",)),
        ("callbacks.checkpoint_format", callbacks.checkpoint_format, ("auto", "safetensors")),
    ):
        if value not in built:
            raise RecipeError(
                f"the engine pytorch has {key} {' or '.join(map(repr, built))}; got {value!r}; "
                f"use --set {key}={built[0]} or the engine tensorflow"
            )


def _check_augmentation(wanted: Augmentation, size: int) -> None:
    if wanted.translate >= size:
        raise RecipeError(f"augmentation.translate is below the image size, {size} pixels; got {wanted.translate}")


def _check_growth(recipe: Recipe, size: int) -> None:
    """Stages do not enlarge the images."""
    for _, small in recipe.input.growth:
        if small > size:
            raise RecipeError(
                f"input.growth has sizes up to the images' own, {size} pixels; got {small}; use --set input.growth=[]"
            )
