"""Optimisers: Muon for convolutions with SGD for the rest, or one of the classic ones for everything."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from peregrine import recipe
from peregrine.engines.muon import ITERATIONS, NEWTON_SCHULZ


def optimizers(network: nn.Module, choice: recipe.Optimizer, batch_size: int, product: torch.dtype) -> list[Optimizer]:
    """The optimisers of a recipe; each group keeps its full rate as `full_lr`.

    Args:
        batch_size: images in every step. The gradients are of the mean loss over them.
        product: type of Muon's matrix products.
    """
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    found: list[Optimizer]
    if choice.name == "adam":
        found = [torch.optim.Adam(trained, lr=choice.learning_rate)]
    elif choice.name == "adamw":
        found = [torch.optim.AdamW(_decaying(trained, choice.weight_decay), lr=choice.learning_rate)]
    elif choice.name == "sgd":
        groups = _decaying(trained, choice.weight_decay)
        found = [SGD(groups, lr=choice.learning_rate, momentum=choice.momentum, nesterov=choice.momentum > 0)]
    else:
        muon = Muon([w for w in trained if w.ndim == 4], choice.learning_rate, choice.momentum, product)
        found = [muon, _sgd(trained, choice, batch_size)]
    for group in (group for optimizer in found for group in optimizer.param_groups):
        group["full_lr"] = group["lr"]
    return found


def _decaying(trained: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Weights with two axes or more decay; biases and norms do not."""
    return [
        {"params": [weight for weight in trained if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in trained if weight.ndim < 2], "weight_decay": 0.0},
    ]


def set_rates(found: Iterable[Optimizer], factor: float) -> None:
    """Set every rate to `factor` of its full value."""
    for optimizer in found:
        for group in optimizer.param_groups:
            group["lr"] = factor * group["full_lr"]


def _sgd(trained: Sequence[nn.Parameter], choice: recipe.Muon, batch_size: int) -> SGD:
    """SGD for what is no convolution. What is per image in the recipe grows with the mean loss's batch."""
    biases = [weight for weight in trained if weight.ndim == 1]
    others = [weight for weight in trained if weight.ndim not in (1, 4)]
    groups = []
    for weights, per_image in ((biases, choice.bias_learning_rate), (others, choice.head_learning_rate)):
        # SGD multiplies the decay with the rate, on which it does not depend here.
        decay = choice.weight_decay / per_image
        groups.append({"params": weights, "lr": per_image * batch_size, "weight_decay": decay})
    return SGD(groups, momentum=choice.sgd_momentum, nesterov=choice.sgd_momentum > 0)


class Muon(Optimizer):
    """Nesterov momentum whose step is made orthogonal; a weight `(O, I, h, w)` counts as a matrix `(O, h w I)`.

    Before each step a weight is rescaled to norm √O: then a step of one rate turns the weights of every layer by the
    same angle, and needs no decay.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; rescaling and three iterations from airbench94_muon
    (github.com/KellerJordan/cifar10-airbench).

    Args:
        weights: of convolutions; they and their momentum stay in float32.
        product: type of the matrix products.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float, product: torch.dtype) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})
        self._product = product

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # no closure, no loss
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group["lr"], group["momentum"])

    def _update(self, weight: Tensor, rate: float, momentum: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        average = state["momentum_buffer"].mul_(momentum).add_(weight.grad)
        direction = weight.grad.add(average, alpha=momentum)  # type: ignore[union-attr]  # `step` looked
        # Columns in the order (h, w, I) are a view of a channels-last weight, and orthogonalising commutes with any
        # order of the columns.
        rows_last = direction.permute(0, 2, 3, 1)
        update = orthogonalise(rows_last.flatten(1), self._product).view(rows_last.shape).permute(0, 3, 1, 2)
        weight.mul_(math.sqrt(len(weight)) / weight.norm()).add_(update, alpha=-rate)


def orthogonalise(matrix: Tensor, product: torch.dtype, iterations: int = ITERATIONS) -> Tensor:
    """Roughly the nearest matrix with orthonormal rows (or columns, where they are fewer): `(R, C)` to `(R, C)`."""
    a, b, c = NEWTON_SCHULZ
    x: Tensor = (matrix / (matrix.norm() + 1e-7)).to(product)
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)
