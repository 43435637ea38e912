"""Begin with the weights of an earlier training instead of fresh ones: `load_model` of a recipe."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peregrine.engines.origin import find_origin
from peregrine.engines.tensorflow.checkpoint import fitting, load_for_training
from peregrine.engines.tensorflow.network import Normalisation, copy_weights
from peregrine.engines.tensorflow.record import OptimizerState
from peregrine.recipe import Recipe

logger = logging.getLogger("peregrine")


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        file: where it comes from.
        model: the network. It has the layers of `network.plain`, perhaps with others around them that have no weights.
        optimizer: the state of an optimiser of the recipe's kind; None begins afresh.
    """

    file: Path
    model: Any
    optimizer: OptimizerState | None

    @property
    def normalisation(self) -> Normalisation:
        """What the network does to pixels; its weights know no other, whatever the new images are like."""
        return Normalisation.from_model(self.model)

    def fill(self, model: Any, optimizer: Any) -> None:
        """Give a network of the same recipe, and its built optimiser, what the start holds.

        Raises:
            DamagedFile: the weights are of another network, whatever the file's record says.
        """
        with fitting(self.file):
            copy_weights(self.model, model)
        if self.optimizer is None:
            return
        state = list(self.optimizer.values())
        if [value.shape for value in state] != [tuple(variable.shape) for variable in optimizer.variables]:
            logger.warning("the optimizer's state in %s is of other weights: the optimizer starts fresh", self.file)
            return
        for variable, value in zip(optimizer.variables, state, strict=True):
            variable.assign(value)


def find_start(path: str | Path, recipe: Recipe, class_names: Sequence[str]) -> Start:
    """Open what `recipe.load_model` names; a message in the log says where the optimiser starts fresh.

    Args:
        path: a checkpoint, an Artifact or a run.
        recipe: resolved.

    Raises:
        UsageError: it is not there, not Peregrine's, or of other classes, another network or another input size.
        DamagedFile: it is not what its checksum or format says.
    """
    origin = find_origin(path)
    origin.check(recipe, class_names)
    origin.warn_of_other_split(recipe)
    model, optimizer = load_for_training(origin.file)
    ours, theirs = recipe.optimizer.name, origin.recipe.optimizer.name
    if optimizer is None:
        logger.info("%s has no optimizer's state: the optimizer starts fresh", origin.file)
    elif ours != theirs:
        logger.warning("%s was trained with %s, this run has %s: the optimizer starts fresh", origin.file, theirs, ours)
        optimizer = None
    return Start(origin.file, model, optimizer)
