"""Everything random about an epoch is a function of seed, epoch and image."""

from dataclasses import fields

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

from peregrine.augmentation import Augmentation
from peregrine.engines.pytorch.plan import COLUMNS, Draws, EpochPlan, plan_epoch

pytestmark = pytest.mark.torch
EVERYTHING = Augmentation(flip="random", translate=2, rotation=10.0, cutout=3, mixup=0.4, cutmix=1.0)


def same(one: Draws, other: Draws) -> dict[str, bool]:
    """Which parts are equal."""
    parts = {name.name: (getattr(one, name.name), getattr(other, name.name)) for name in fields(Draws)}
    shares = parts.pop("shares")
    parts |= {name: (values, shares[1][name]) for name, values in shares[0].items()}
    return {name: torch.equal(*pair) for name, pair in parts.items()}


def test_draws_reach_both_ends_and_no_further() -> None:
    plan = plan_epoch(2000, seed=0, epoch=0, settings=Augmentation(translate=2))
    assert set(plan.draws.down.tolist()) == set(plan.draws.right.tolist()) == {-2, -1, 0, 1, 2}
    assert not plan.draws.flipped.any()
    assert sorted(plan.order.tolist()) == list(range(2000))
    np.testing.assert_array_equal(plan.ids, plan.order)


def test_alternating_flips_show_every_image_both_ways_in_two_epochs() -> None:
    settings = Augmentation(flip="alternating")
    flipped = [plan_epoch(1000, seed=0, epoch=epoch, settings=settings).draws.flipped for epoch in range(4)]
    assert 400 < flipped[0].sum() < 600
    assert torch.equal(flipped[0], ~flipped[1])
    assert torch.equal(flipped[0], flipped[2])
    randomly = [plan_epoch(1000, 0, epoch, Augmentation(flip="random")).draws.flipped for epoch in range(3)]
    assert not torch.equal(randomly[0], randomly[2])


def test_plans_are_functions_of_seed_and_epoch_alone() -> None:
    def plan(seed: int, epoch: int) -> EpochPlan:
        return plan_epoch(50, seed, epoch, EVERYTHING)

    first = plan(7, 3)
    torch.rand(10)  # the global generators have no say
    np.random.default_rng().random(10)
    again = plan(7, 3)
    assert torch.equal(first.order, again.order)
    assert all(same(first.draws, again.draws).values())
    for other in (plan(7, 4), plan(8, 3)):
        assert not torch.equal(first.order, other.order)
        assert not any(same(first.draws, other.draws).values())


def test_one_change_leaves_the_draws_of_the_others() -> None:
    """So that switching one on or off shows what that one is worth."""
    with_it, without = (plan_epoch(50, 0, 0, EVERYTHING.model_copy(update={"mixup": share})) for share in (0.4, 0.0))
    assert torch.equal(with_it.order, without.order)
    assert torch.equal(with_it.draws.noise, without.draws.noise)
    assert torch.equal(with_it.draws.shares["cutmix"], without.draws.shares["cutmix"])


def test_noise_is_uniform_and_there_only_when_it_is_needed() -> None:
    noise = plan_epoch(5000, 0, 0, Augmentation(zoom=0.1)).draws.noise
    assert noise.shape == (5000, len(COLUMNS))
    assert 0 <= noise.min() < 0.001
    assert 0.999 < noise.max() < 1
    correlations = np.corrcoef(noise.numpy().T) - np.eye(len(COLUMNS))
    assert np.abs(correlations).max() < 0.06
    assert plan_epoch(50, 0, 0, Augmentation(flip="random", translate=2, mixup=1.0)).draws.noise.shape == (50, 0)


def test_small_alphas_draw_shares_near_both_ends() -> None:
    for alpha in (0.05, 0.001):
        share = plan_epoch(1000, 0, 0, Augmentation(mixup=alpha)).draws.shares["mixup"]
        assert share.isfinite().all()
        assert ((share < 0.05) | (share > 0.95)).float().mean() > 0.7
        assert 0.4 < share.mean() < 0.6


def test_some_of_the_draws() -> None:
    draws = plan_epoch(20, 0, 0, EVERYTHING).draws
    which = torch.tensor([4, 2, 19])
    some = draws.at(which)
    assert torch.equal(some.down, draws.down[which])
    assert torch.equal(some.shares["mixup"], draws.shares["mixup"][which])
    assert torch.equal(some.signed("kind"), 2 * draws.uniform("kind")[which] - 1)
