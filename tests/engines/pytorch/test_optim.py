"""The classic optimisers: one step of each against arithmetic by hand."""

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

from peregrine import recipe
from peregrine.engines.pytorch.optim import optimizers

pytestmark = pytest.mark.torch


@pytest.fixture
def network() -> torch.nn.Module:
    """A convolution, a norm and a dense layer, with a gradient in every weight."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    random = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, generator=random)
        weight.grad = torch.randn(weight.shape, generator=random)
    return network


def stepped(network: torch.nn.Module, choice: recipe.Optimizer) -> list[tuple[torch.Tensor, ...]]:
    """Weight before, gradient, and weight after a step, for each weight."""
    before = [weight.detach().clone() for weight in network.parameters()]
    (optimizer,) = optimizers(network, choice, 10, torch.float32)
    optimizer.step()
    after = [weight.detach() for weight in network.parameters()]
    return list(zip(before, (weight.grad for weight in network.parameters()), after, strict=True))


def test_sgd_decays_only_weights_with_two_axes_or_more(network: torch.nn.Module) -> None:
    for before, gradient, after in stepped(network, recipe.SGD(learning_rate=0.1, momentum=0.8, weight_decay=0.05)):
        decayed = gradient + (0.05 * before if before.ndim >= 2 else 0)
        # Nesterov: the momentum after the first step is the gradient itself, and it is looked ahead along.
        torch.testing.assert_close(after, before - 0.1 * (decayed + 0.8 * decayed))


def test_sgd_without_momentum_is_plain(network: torch.nn.Module) -> None:
    for before, gradient, after in stepped(network, recipe.SGD(learning_rate=0.1, momentum=0.0)):
        torch.testing.assert_close(after, before - 0.1 * gradient)


def test_adamw_decays_only_weights_with_two_axes_or_more(network: torch.nn.Module) -> None:
    for before, gradient, after in stepped(network, recipe.AdamW(learning_rate=0.1, weight_decay=0.05)):
        kept = 1 - 0.1 * 0.05 if before.ndim >= 2 else 1  # of the weight itself, not by way of the gradient
        # The first step's moments, corrected, are the gradient and its square.
        torch.testing.assert_close(after, kept * before - 0.1 * gradient / (gradient.abs() + 1e-8))


def test_adam_is_adamw_without_decay(network: torch.nn.Module) -> None:
    for before, gradient, after in stepped(network, recipe.Adam(learning_rate=0.1)):
        torch.testing.assert_close(after, before - 0.1 * gradient / (gradient.abs() + 1e-8))


def test_a_resting_weight_has_no_part(network: torch.nn.Module) -> None:
    network[1].weight.requires_grad_(False)
    for choice in (recipe.Adam(), recipe.AdamW(), recipe.SGD()):
        (optimizer,) = optimizers(network, choice, 10, torch.float32)
        held = [weight for group in optimizer.param_groups for weight in group["params"]]
        assert len(held) == 5
        assert all(weight is not network[1].weight for weight in held)
