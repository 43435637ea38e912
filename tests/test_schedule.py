"""Each shape at its corners, against the libraries that users come from, and never outside 0 to 1."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrine.schedule import Constant, Cosine, Linear, OneCycle, Step

EVERY = [Constant(), Linear(), Cosine(), Step(), OneCycle()]


def test_the_shapes() -> None:
    assert [Constant(warmup=0.5).factor(step, 4) for step in range(4)] == [0.5, 1, 1, 1]
    assert [Linear().factor(step, 4) for step in range(4)] == [1, 0.75, 0.5, 0.25]
    assert [Cosine().factor(step, 4) for step in range(4)] == pytest.approx([1, 0.5 + math.sqrt(0.125), 0.5, 0.1464466])
    assert [Step(milestones=(0.5, 0.75), gamma=0.1).factor(step, 4) for step in range(4)] == pytest.approx(
        [1, 1, 0.1, 0.01]
    )
    assert Linear(warmup=0.5).factor(1, 8) == pytest.approx(0.5 * (1 - 1 / 8))


def test_one_cycle_is_pytorchs() -> None:
    torch: Any = pytest.importorskip("torch", reason="compares with PyTorch")
    steps = 50
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step() if len(found) < steps else None
    # Theirs turns at whole steps, ours at the fraction.
    assert [OneCycle().factor(step, steps) for step in range(steps)] == pytest.approx(found, abs=0.06)
    assert OneCycle().factor(0, steps) == pytest.approx(found[0])
    assert max(OneCycle().factor(step, steps) for step in range(steps)) == pytest.approx(1)


@given(st.sampled_from(EVERY), st.integers(1, 10_000), st.data())
def test_a_factor_is_between_0_and_1(schedule: Any, steps: int, data: st.DataObject) -> None:
    assert 0 <= schedule.factor(data.draw(st.integers(0, steps - 1)), steps) <= 1
