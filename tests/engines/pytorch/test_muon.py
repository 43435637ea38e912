import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

from peregrine import recipe
from peregrine.engines.pytorch.optim import Muon, optimizers, orthogonalise, set_rates

pytestmark = pytest.mark.torch


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 90), (90, 16), (32, 32)])
def test_orthogonalised_singular_values_are_about_one(shape: tuple[int, int]) -> None:
    values = torch.linalg.svdvals(orthogonalise(gaussian(*shape), torch.float32, iterations=6))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_orthogonalising_keeps_the_singular_vectors() -> None:
    matrix = gaussian(8, 40)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ orthogonalise(matrix, torch.float32) @ right.T
    torch.testing.assert_close(turned, torch.diag(turned.diag()), atol=1e-4, rtol=0)


def test_orthogonalising_does_not_look_at_the_scale() -> None:
    matrix = gaussian(8, 40)
    torch.testing.assert_close(
        orthogonalise(matrix, torch.float32), orthogonalise(1000 * matrix, torch.float32), atol=1e-5, rtol=0
    )


def test_bf16_products_come_close() -> None:
    matrix = gaussian(16, 90)
    difference = orthogonalise(matrix, torch.bfloat16) - orthogonalise(matrix, torch.float32)
    assert difference.norm() / 4 < 0.05


def test_a_step_rescales_and_then_turns_the_weight() -> None:
    start, gradient = gaussian(8, 5, 3, 3), gaussian(8, 5, 3, 3, seed=1)
    weight = torch.nn.Parameter(start.clone().contiguous(memory_format=torch.channels_last))
    weight.grad = gradient.clone()
    Muon([weight], lr=0.5, momentum=0.6, product=torch.float32).step()
    rescaled = start * (8**0.5 / start.norm())
    expected = rescaled - 0.5 * orthogonalise(gradient.flatten(1), torch.float32).view(8, 5, 3, 3)
    torch.testing.assert_close(weight.detach(), expected, atol=1e-5, rtol=1e-5)


def test_two_steps_use_nesterov_momentum() -> None:
    first, second = gaussian(4, 5, 3, 3), gaussian(4, 5, 3, 3, seed=1)
    weight = torch.nn.Parameter(gaussian(4, 5, 3, 3, seed=2))
    muon = Muon([weight], lr=0.1, momentum=0.5, product=torch.float32)
    weight.grad = first
    muon.step()
    before = weight.detach() * (2 / weight.detach().norm())
    weight.grad = second
    muon.step()
    direction = second + 0.5 * (0.5 * first + second)
    expected = before - 0.1 * orthogonalise(direction.flatten(1), torch.float32).view(4, 5, 3, 3)
    torch.testing.assert_close(weight.detach(), expected, atol=1e-5, rtol=1e-5)


def test_each_weight_has_one_optimiser_and_its_own_rate() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    network[1].weight.requires_grad_(False)
    choice = recipe.Muon(learning_rate=0.3, bias_learning_rate=0.05, head_learning_rate=0.6, weight_decay=0.0002)
    muon, sgd = optimizers(network, choice, 10, torch.float32)
    set_rates([muon, sgd], 0.5)
    rates = {
        id(weight): group["lr"] for found in (muon, sgd) for group in found.param_groups for weight in group["params"]
    }
    assert rates == pytest.approx({
        id(network[0].weight): 0.15,
        id(network[1].bias): 0.25,
        id(network[3].bias): 0.25,
        id(network[3].weight): 3.0,
    })  # fmt: skip
    # the decay of a step is the same for all, whatever the rate
    assert [group["weight_decay"] * group["full_lr"] for group in sgd.param_groups] == pytest.approx([0.002, 0.002])
    (adam,) = optimizers(network, recipe.Adam(), 10, torch.float32)
    assert sum(len(group["params"]) for group in adam.param_groups) == 4
