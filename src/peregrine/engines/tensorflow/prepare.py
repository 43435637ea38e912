"""Before the first step: data on the devices, graphs compiled, probes decided, and where the run begins or goes on."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from peregrine.engines.base import TrainingJob
from peregrine.engines.history import History
from peregrine.engines.tensorflow import network, pipeline, precision, strategy
from peregrine.engines.tensorflow.checkpoint import Position, Variables, fitting, load_state
from peregrine.engines.tensorflow.legs import Leg, leg_of, legs
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.pipeline import Source
from peregrine.engines.tensorflow.starting import Start, find_start
from peregrine.engines.tensorflow.steps import Steps, TrainingData

PHASES = ("training", "preparation", "compilation", "validation", "saving")  # where time goes


@dataclass(frozen=True)
class Prepared:
    """What the loop works with.

    Attributes:
        many_workers: whether steps are taken together with other machines.
    """

    position: Position
    steps: Steps
    source: Source
    legs: list[Leg]
    steps_per_epoch: int
    many_workers: bool


@contextlib.contextmanager
def prepare(job: TrainingJob) -> Iterator[Prepared]:
    """Stand where the job's run begins, or where its newest resume state is; the data is let go of after the block.

    Raises:
        DamagedFile: there are resume states, and all of them are damaged or of another network.
        UsageError: the recipe's `load_model` cannot be started from, or its strategy cannot be had.
        MissingDevice: there are fewer devices than the strategy wants.
    """
    recipe = job.recipe
    saved = load_state(job.run.checkpoints, recipe) if job.resume else None
    seconds = saved[0].seconds if saved else dict.fromkeys(PHASES, 0.0)
    spread = strategy.choose(recipe.strategy)
    with contextlib.ExitStack() as opened:
        with timed(seconds, "preparation"):
            source = opened.enter_context(pipeline.source(job.train, spread))
        yield _prepare(job, saved, seconds, spread, source)


def _prepare(
    job: TrainingJob, saved: tuple[Position, Variables] | None, seconds: dict[str, float], spread: Any, source: Source
) -> Prepared:
    recipe, count = job.recipe, len(job.train)
    per_epoch = steps_per_epoch(count, recipe.batch_size, spread.num_replicas_in_sync)
    every = legs(recipe, network.phases(recipe), recipe.epochs * per_epoch)
    leg = leg_of(every, saved[0].step if saved else 0)
    with timed(seconds, "preparation"):
        start = (
            find_start(recipe.load_model, recipe, job.train.class_names) if recipe.load_model and not saved else None
        )
        data = TrainingData.of(recipe, job.train, job.validation, spread, source)
        # normalised as the network has always known it: weights that were loaded know no other way
        known = start.normalisation if start else saved[0].normalisation if saved else None
        data = replace(data, normalisation=known) if known else data
        names = (saved[0].precision,) if saved else precision.contenders(recipe.precision)
        contenders = {name: Steps(recipe, data, name, fresh=not (saved or start)) for name in names}
        places = min(precision.STEPS_PER_ROUND * recipe.batch_size, count)
        block = source.block(pipeline.order(count, recipe.seed, 0), 0, places)
    with timed(seconds, "compilation"):
        for contender in contenders.values():
            contender.compiled = saved[0].compiled if saved else recipe.compile == "on"
            contender.compile(leg, block)
    with timed(seconds, "preparation"):
        chosen = precision.choose(contenders, leg, block, spread)
        steps = contenders[chosen]
        if recipe.compile == "auto" and not saved:
            steps.compiled = precision.pays_to_compile(steps, leg, block, spread)
    if saved:
        position, variables = saved
        with fitting(job.run.checkpoints / "resume"):
            steps.write(variables)
    else:
        position = _first_position(job, chosen, steps, seconds, start)
    many = isinstance(spread, tf.distribute.MultiWorkerMirroredStrategy)
    return Prepared(position, steps, source, every, per_epoch, many)


def _first_position(
    job: TrainingJob, precision: str, steps: Steps, seconds: dict[str, float], start: Start | None
) -> Position:
    """Before the first step, with the loaded weights, if any: compiling has moved the norms' statistics by a batch."""
    if start:
        steps.begin(start)
    return Position(
        precision=precision,
        log=time.strftime("training_log_%Y-%m-%d-%H%M%S.csv"),
        history=History.of(job.recipe),
        compiled=steps.compiled,
        seconds=seconds,
        normalisation=start.normalisation if start else None,
    )


def steps_per_epoch(count: int, batch_size: int, replicas: int) -> int:
    """The last step of an epoch takes what is left, unless that is too little for every replica to have two images."""
    whole, left = divmod(count, batch_size)
    return whole + (left >= (2 * replicas if replicas > 1 else 1))


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time that the block takes to `seconds[name]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] += time.perf_counter() - start
