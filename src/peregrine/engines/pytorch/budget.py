"""Fill a given time: which of some recipes, how many epochs of it, and for how long its images stay small.

The recipes are points of the accuracy-time curve, cheapest first. The dearest one that still gets half of its own
epochs is taken, with as many epochs as fit; what is left over or lacking is made up by the share of the steps that see
small images.
"""

import logging
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from peregrine.dataset import Dataset
from peregrine.engines.history import History
from peregrine.engines.pytorch import compiling, streaming
from peregrine.engines.pytorch.checkpoint import fresh_state
from peregrine.engines.pytorch.device import synchronise
from peregrine.engines.pytorch.distributed import World
from peregrine.engines.pytorch.graph import build_classifier, save_weights
from peregrine.engines.pytorch.judging import JUDGED_BATCH, judge
from peregrine.engines.pytorch.pipeline import Batches, Resident, Source
from peregrine.engines.pytorch.precision import RACED_BATCH, choose
from peregrine.engines.pytorch.starting import start
from peregrine.engines.pytorch.steps import Stepper
from peregrine.errors import RecipeError
from peregrine.recipe import MIN_SIZE, Growth, Recipe

SMALL = 0.75  # of the side, where a recipe has no small images of its own
LONGEST = 0.95  # share of the steps that may see small images; the last ones see what the model is used for
TIMED_STEPS = 3  # for each image size, and more while that takes less than
TIMED_SHARE = 0.005  # of the budget
PROGRESS = 0.5  # of a run, in whose middle steps are timed
WORTH = 0.5  # share of its own epochs that a recipe needs to be better than a cheaper one
HOPELESS = 1.5  # times the time that is left
COPIES = 4  # of the weights are written after an epoch: the best, the latest, and with momenta the resume state
CLOSE = 0.02  # how far the planned time may lie from the wanted one
logger = logging.getLogger("peregrine")


@dataclass(frozen=True)
class Pace:
    """What a recipe takes on this machine, in seconds.

    Attributes:
        recipe: resolved, as it was timed: its precision, and whether it was compiled.
        step: with images of each size, by their side.
        ending: of an epoch: judging the validation images, and saving.
        steps: in an epoch.
    """

    recipe: Recipe
    step: dict[int, float]
    ending: float
    steps: int

    def run(self, epochs: int, stretch: float) -> float:
        """So many epochs, the small images ending at `stretch` times their share of the run."""
        step, before = 0.0, 0.0
        for until, size in (*_growth(self.recipe), (np.inf, _size(self.recipe))):
            until = min(1.0, stretch * until)
            step += (until - before) * self.step[size]
            before = until
        return epochs * (self.steps * step + self.ending)

    @property
    def longest(self) -> float:
        """Largest stretch."""
        return LONGEST / _growth(self.recipe)[-1][0]


def fit(recipes: Sequence[Recipe], train: Dataset, validation: Dataset | None, world: World, seconds: float) -> Recipe:
    """The one of the recipes, with the epochs and the small images, that trains for `seconds` on this machine.

    Args:
        recipes: resolved, cheapest first.
        seconds: of steps and validation, and of finding this out.

    Raises:
        RecipeError: one epoch of the cheapest recipe takes longer.
    """
    with streaming.source(train, world.device) as source:
        pace, left = _best(recipes, train, source, validation, world, seconds)
    return _filled(pace, left)


def _best(
    recipes: Sequence[Recipe],
    train: Dataset,
    source: Source,
    validation: Dataset | None,
    world: World,
    seconds: float,
) -> tuple[Pace, float]:
    """The dearest recipe that fits, and the seconds that are left for it."""
    chosen: Pace | None = None
    left = seconds
    for recipe in recipes:
        fewest = max(1, round(WORTH * recipe.epochs)) if chosen else 1
        if chosen and _guess(chosen, recipe, fewest, len(train.class_names)) > HOPELESS * left:
            break  # timing its steps would waste what there is
        began = time.perf_counter()
        asked = recipe.changed({"precision": chosen.recipe.precision}) if chosen else recipe
        pace = measure(asked, train, source, validation, world, TIMED_SHARE * seconds)
        left -= world.mean(time.perf_counter() - began)
        if pace.run(fewest, pace.longest) <= (1 + CLOSE) * left:
            chosen = pace
        elif not chosen:
            needed = seconds - left + pace.run(fewest, pace.longest)
            raise RecipeError(
                f"the time budget has to be enough for one epoch of {recipe.name}, {needed:.0f} s on this machine; "
                f"got {seconds:.0f} s"
            )
    assert chosen is not None  # there is at least one recipe
    return chosen, left


def _guess(known: Pace, recipe: Recipe, epochs: int, class_count: int) -> float:
    """What a recipe takes at least, if its arithmetic runs as fast as that of a known one."""
    there, here = (_operations(each, class_count) for each in (known.recipe, recipe))
    return known.run(epochs, known.longest) * here / there


def _operations(recipe: Recipe, class_count: int) -> int:
    """Of one image's way through the network."""
    size = _size(recipe)
    network = build_classifier(recipe.model, size, class_count).network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops())


def measure(
    recipe: Recipe, train: Dataset, source: Source, validation: Dataset | None, world: World, timed_s: float
) -> Pace:
    """Take a few steps with images of each size, and judge a few validation images; nothing of it is kept.

    Args:
        timed_s: how long steps with images of one size are timed, if they are short.
    """
    classifier = build_classifier(recipe.model, _size(recipe), len(train.class_names))
    start(classifier, recipe, train, source)
    classifier.to(world.device)
    batches = Batches(source, recipe, world.rank, world.ranks)
    precision = choose(recipe.precision, classifier, batches.batch(batches.plan(0), 0, 0).images[:RACED_BATCH], world)
    state = fresh_state(recipe, classifier, precision, batches, History())
    state.compiled = compiling.choose(recipe.compile, classifier, batches, precision, world)
    settled = recipe.changed({"precision": precision, "compile": "on" if state.compiled else "off"})
    stepper = Stepper(state, recipe, torch.ones(len(train.class_names), device=world.device), batches.size, world)
    step = {}
    for size in {*(small for _, small in _growth(recipe)), _size(recipe)}:
        sized = Batches(source, recipe.changed({"input.growth": [[1.0, size]]}), world.rank, world.ranks)
        step[size] = world.mean(_seconds_per_step(stepper, sized, world, timed_s))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        save_weights(classifier, Path(folder) / "weights")
        ending = COPIES * (time.perf_counter() - began)
    if validation is not None and len(validation):
        few = Resident.of(validation.subset(slice(0, JUDGED_BATCH)), world.device)
        began = time.perf_counter()
        judge(classifier, few, _size(recipe), lambda: None)
        ending += (time.perf_counter() - began) * len(validation) / len(few) / world.ranks
    told = ", ".join(f"{1000 * step[size]:.0f} ms at {size} pixels" for size in sorted(step))
    logger.info("%s takes for a step %s", recipe.name, told)
    return Pace(settled, step, world.mean(ending), batches.per_epoch)


def _seconds_per_step(stepper: Stepper, batches: Batches, world: World, timed_s: float) -> float:
    """Median, after one step that warms up."""
    plan = batches.plan(0)
    times: list[float] = []
    first = batches.batch(plan, 0, 0)
    if stepper.must_compile(first, PROGRESS):
        stepper.compile(first)
    while len(times) < 1 + TIMED_STEPS or world.mean(sum(times[1:])) < timed_s:
        began = time.perf_counter()
        stepper.step(batches.batch(plan, 0, len(times) % batches.per_epoch), PROGRESS, rate=0.1)
        synchronise(world.device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def _filled(pace: Pace, seconds: float) -> Recipe:
    """The recipe with the number of epochs, and the stretch of its small images, that come closest to `seconds`."""
    recipe = pace.recipe
    own = 1.0 if recipe.input.growth else 0.0
    around = max(1, int(seconds / pace.run(1, own)))
    plans = [(epochs, _stretch(pace, epochs, seconds)) for epochs in (around, around + 1)]

    def badness(plan: tuple[int, float]) -> tuple[bool, float]:
        return abs(pace.run(*plan) - seconds) > CLOSE * seconds, abs(plan[1] - own)

    epochs, stretch = min(plans, key=badness)
    stages = {round(stretch * until, 4): size for until, size in _growth(recipe)}  # of two that end together, the later
    growth = [[until, size] for until, size in stages.items() if until > 0]  # a share of nothing is no stage
    plural = "s" if epochs > 1 else ""
    logger.info("%s for %d epoch%s will take about %.0f s", recipe.name, epochs, plural, pace.run(epochs, stretch))
    return recipe.changed({"epochs": epochs, "input.growth": growth})


def _stretch(pace: Pace, epochs: int, seconds: float) -> float:
    """The stretch with which so many epochs take `seconds`, or the nearest to it; by bisection."""
    low, high = 0.0, pace.longest
    for _ in range(30):
        middle = (low + high) / 2
        if pace.run(epochs, middle) > seconds:
            low = middle
        else:
            high = middle
    return round(low, 6)


def _growth(recipe: Recipe) -> Growth:
    """When images are small: the recipe's own stages, or one that may be used."""
    return recipe.input.growth or ((0.5, max(MIN_SIZE, round(SMALL * _size(recipe)))),)


def _size(recipe: Recipe) -> int:
    assert recipe.input.size != "auto"  # the recipe is resolved
    return recipe.input.size
