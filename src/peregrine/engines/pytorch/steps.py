"""One training step: forward, loss, backward, update."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from peregrine.engines.pytorch.checkpoint import State
from peregrine.engines.pytorch.compiling import Compiled, caller
from peregrine.engines.pytorch.distributed import World
from peregrine.engines.pytorch.loss import batch_loss
from peregrine.engines.pytorch.norms import synchronise
from peregrine.engines.pytorch.optim import set_rates
from peregrine.engines.pytorch.pipeline import Batch
from peregrine.engines.pytorch.precision import autocast
from peregrine.recipe import Recipe


class Stepper:
    """Takes steps with the model and the optimisers of a state, together with all ranks.

    Args:
        class_weights: float32 `(C,)`, on the device.
        batch_size: images in every batch, of all ranks together.
    """

    def __init__(self, state: State, recipe: Recipe, class_weights: Tensor, batch_size: int, world: World) -> None:
        self._state = state
        self._smoothing = recipe.label_smoothing
        self._class_weights = class_weights
        self._batch_size = batch_size
        self._world = world
        synchronise(state.classifier.network, world)
        self._network = caller(state.classifier.network, state.compiled, world)
        self.gradients: Mapping[str, npt.NDArray[np.float32]] = {}

    def must_compile(self, batch: Batch, progress: float) -> bool:
        """Whether `compile` is due before a step."""
        if not isinstance(self._network, Compiled):
            return False
        self._state.classifier.network.before_step(progress)
        return not self._network.fits(batch.images)

    def compile(self, batch: Batch) -> None:
        """Compile what the next step needs, so that steps take the time of steps; see `compiling.Compiled`."""
        assert isinstance(self._network, Compiled)
        self._network.compile(self._state.classifier.normalise(batch.images), self._state.precision)

    def step(self, batch: Batch, progress: float, rate: float, keep_gradients: bool = False) -> tuple[Tensor, Tensor]:
        """Take one step.

        Args:
            progress: share of the run's steps that are done.
            rate: what every learning rate is multiplied with.
            keep_gradients: copy them into `gradients`, by the weights' names.

        Returns:
            This rank's share of the batch's mean loss, float32, and its number of right answers, int64; both scalars
            on the device.
        """
        state = self._state
        set_rates(state.optimizers, rate)
        state.classifier.network.before_step(progress)
        with autocast(state.precision, self._world.device):
            logits = self._network(state.classifier.normalise(batch.images))
        # The parts of the whole batch's mean add up to it, but the ranks' gradients are averaged.
        share = len(batch.labels) / self._batch_size
        loss = share * batch_loss(logits, batch, self._class_weights, self._smoothing)
        torch.autograd.backward(state.scaler.scale(loss * self._world.ranks))
        for optimizer in state.optimizers:
            state.scaler.unscale_(optimizer)
        if keep_gradients:
            self.gradients = _gradients(state.classifier.network)  # copies: some optimisers write into them
        for optimizer in state.optimizers:
            state.scaler.step(optimizer)
            optimizer.zero_grad()
        state.scaler.update()
        return loss.detach(), right_answers(logits, batch)


def right_answers(logits: Tensor, batch: Batch) -> Tensor:
    """How many name the class with the larger share of their image: int64, a scalar."""
    labels = batch.labels
    if batch.mixed is not None:
        others, shares = batch.mixed
        labels = torch.where(shares > 0.5, others, labels)
    return (logits.argmax(1) == labels).sum()


def _gradients(network: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """A copy of every weight's gradient, by the weight's name."""
    found = ((name, weight.grad) for name, weight in network.named_parameters())
    return {name: gradient.to("cpu", copy=True).numpy() for name, gradient in found if gradient is not None}
