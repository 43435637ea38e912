"""What a model knows before the first step: from an earlier training (`load_model` of a recipe), or from the data."""

import logging
from collections.abc import Sequence

import torch

from peregrine.dataset import Dataset
from peregrine.engines.origin import find_origin
from peregrine.engines.pytorch.augment import to_network
from peregrine.engines.pytorch.graph import Classifier, Normalise, load_weights
from peregrine.engines.pytorch.pipeline import Source, as_tensor, colours
from peregrine.engines.statistics import sample
from peregrine.recipe import Recipe

logger = logging.getLogger("peregrine")


def start(classifier: Classifier, recipe: Recipe, train: Dataset, data: Source) -> None:
    """Fill a freshly built model on the CPU; a run that is gone on with has everything in its resume state.

    Args:
        data: where the training images are for the steps.

    Raises:
        UsageError: what `load_model` names is not there, not Peregrine's, or of other classes, another network or
            another input size.
        RecipeError, MachineError: the file that the network takes its first weights from is gone.
        DamagedFile: a file is not what its checksum or format says.
    """
    if recipe.load_model:
        _load(classifier, recipe, train.class_names)
        return
    standard = classifier.network.standard()
    classifier.normalise = (
        Normalise(torch.tensor(standard.mean), torch.tensor(standard.std))
        if standard
        else Normalise.by(*colours(data, train))
    )
    some = sample(train.images)
    classifier.network.fit(classifier.normalise(to_network(as_tensor(some), some.shape[1])))


def _load(classifier: Classifier, recipe: Recipe, class_names: Sequence[str]) -> None:
    """Weights, statistics and normalisation, for these weights know no other, whatever the new images are like."""
    origin = find_origin(recipe.load_model)
    origin.check(recipe, class_names)
    origin.warn_of_other_split(recipe)
    load_weights(classifier, origin.file)
    classifier.temperature.fill_(1)  # that of an Artifact was fitted to what the weights were
    logger.info("%s has no optimizer's state: the optimizer starts fresh", origin.file)
