"""A time is filled: by arithmetic with a known pace, and once with real steps."""

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from peregrine.dataset import Dataset
from peregrine.engines.pytorch import budget
from peregrine.engines.pytorch.budget import Pace, fit
from peregrine.engines.pytorch.device import pick
from peregrine.engines.pytorch.distributed import World
from peregrine.engines.pytorch.engine import PyTorchEngine
from peregrine.errors import RecipeError
from peregrine.recipe import Recipe

pytestmark = pytest.mark.torch
MakeRecipe = Callable[..., Recipe]
MakeData = Callable[..., Dataset]


def pace_of(recipe: Recipe, small: float, full: float, ending: float = 0.5, steps: int = 100) -> Pace:
    growth = recipe.input.growth or ((0.5, 9),)
    assert recipe.input.size != "auto"
    return Pace(recipe, {growth[0][1]: small, recipe.input.size: full}, ending, steps)


@pytest.fixture
def world() -> World:
    return World(pick(), "run")


def test_the_time_of_a_run_is_that_of_its_steps_and_the_ends_of_epochs(tiny: MakeRecipe) -> None:
    recipe = tiny({"input.size": 12, "input.growth": [[0.5, 10]]})
    pace = pace_of(recipe, small=0.1, full=0.3)
    assert pace.run(2, 1.0) == pytest.approx(2 * (100 * (0.5 * 0.1 + 0.5 * 0.3) + 0.5))
    assert pace.run(2, 0.0) == pytest.approx(2 * (100 * 0.3 + 0.5))
    assert pace.run(1, pace.longest) == pytest.approx(100 * (0.95 * 0.1 + 0.05 * 0.3) + 0.5)


@pytest.mark.parametrize("seconds", [19.0, 30.0, 47.0, 61.0, 100.0, 1234.5])
@pytest.mark.parametrize("growth", [[[0.5, 10]], []])
def test_every_time_above_an_epoch_is_met(
    seconds: float, growth: list[list[float]], tiny: MakeRecipe, shades: MakeData, world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = shades()
    recipe = tiny({"input.size": 12, "input.growth": growth})
    monkeypatch.setattr(budget, "measure", lambda recipe, *rest: pace_of(recipe, small=0.1, full=0.3))
    found = fit([recipe], data, None, world, seconds)
    met = pace_of(found, small=0.1, full=0.3).run(found.epochs, 1.0 if found.input.growth else 0.0)
    assert met == pytest.approx(seconds, rel=0.05)
    assert found.changed({"epochs": recipe.epochs, "input.growth": recipe.to_dict()["input"]["growth"]}) == recipe


def test_small_images_for_no_time_are_no_stage(
    tiny: MakeRecipe, shades: MakeData, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a stage until 0 the engine says that it is none."""
    monkeypatch.setattr(budget, "measure", lambda recipe, *rest: pace_of(recipe, small=0.1, full=0.3))
    found = fit([tiny({"input.size": 12})], shades(), None, world, 30.499)  # an epoch at full size takes 30.5 s
    assert all(until > 0 for until, _ in found.input.growth)
    assert PyTorchEngine().resolve(found, shades()).epochs == found.epochs


def test_stages_that_end_together_are_one(
    tiny: MakeRecipe, shades: MakeData, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With next to no time for small images."""
    monkeypatch.setattr(budget, "_stretch", lambda pace, epochs, seconds: 0.0002)
    monkeypatch.setattr(
        budget, "measure", lambda recipe, *rest: Pace(recipe, {8: 0.1, 10: 0.2, 12: 0.3}, ending=0.5, steps=100)
    )
    recipe = tiny({"input.size": 12, "input.growth": [[0.5, 8], [0.6, 10]]})
    assert fit([recipe], shades(), None, world, 61.0).input.growth == ((0.0001, 10),)


def test_the_dearest_recipe_that_gets_half_of_its_epochs_is_taken(
    tiny: MakeRecipe, shades: MakeData, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shades()
    recipes = [tiny({"input.size": 12, "name": name, "epochs": 10}) for name in ("cheap", "middle", "dear")]
    cost = {"cheap": 0.01, "middle": 0.1, "dear": 1.0}
    monkeypatch.setattr(
        budget, "measure", lambda recipe, *rest: pace_of(recipe, cost[recipe.name], 2 * cost[recipe.name], ending=0)
    )
    monkeypatch.setattr(budget, "_guess", lambda known, recipe, epochs, classes: 0.0)
    assert fit(recipes, data, None, world, 20).name == "cheap"
    assert fit(recipes, data, None, world, 100).name == "middle"
    assert fit(recipes, data, None, world, 3000).name == "dear"


def test_a_recipe_out_of_reach_is_not_timed(
    tiny: MakeRecipe, shades: MakeData, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []

    def measure(recipe: Recipe, *rest: object) -> Pace:
        timed.append(recipe.name)
        return pace_of(recipe, small=0.1, full=0.3)

    monkeypatch.setattr(budget, "measure", measure)
    data = shades()
    small, huge = tiny({"input.size": 12, "name": "small"}), tiny({"input.size": 12, "model.widths": [60, 120]})
    recipes = [PyTorchEngine().resolve(recipe, data) for recipe in (small, huge)]
    assert fit(recipes, data, None, world, 40).name == "small"
    assert timed == ["small"]


def test_a_time_too_short_for_an_epoch_is_refused(
    tiny: MakeRecipe, shades: MakeData, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measure", lambda recipe, *rest: pace_of(recipe, small=0.1, full=0.3))
    with pytest.raises(RecipeError, match=r"enough for one epoch of tiny, 12 s on this machine; got 5 s"):
        fit([tiny({"input.size": 12})], shades(), None, world, 5)


def test_real_steps_are_timed_and_nothing_is_changed(tiny: MakeRecipe, shades: MakeData, world: World) -> None:
    data = shades()
    before = data.images.copy()
    recipe = PyTorchEngine().resolve(tiny({"input.size": 12}), data)
    pace = budget.measure(recipe, data, budget.Resident.of(data, world.device), shades(30, seed=1), world, 0.1)
    assert set(pace.step) == {10, 12}
    assert all(0 < seconds < 5 for seconds in pace.step.values())
    assert 0 < pace.ending < 5
    assert pace.steps == len(data) // recipe.batch_size
    np.testing.assert_array_equal(data.images, before)
    assert pace.recipe == recipe.changed({"compile": "off"})  # as `auto` comes to on a CPU; fp32 was asked for
