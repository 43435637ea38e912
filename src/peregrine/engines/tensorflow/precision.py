"""Which precision to train in, and whether to compile whole steps: asked for, or measured."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from peregrine import host
from peregrine.engines.tensorflow import strategy
from peregrine.engines.tensorflow.legs import Leg
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.pipeline import Block
from peregrine.engines.tensorflow.steps import Steps

ROUNDS = 5
STEPS_PER_ROUND = 2
GAIN = 0.9  # bf16 costs digits, and compiling time: each has to take less than this share of the other's
logger = logging.getLogger("peregrine")


def contenders(wanted: str) -> tuple[str, ...]:
    """The precisions to choose from: the one that is wanted, or with `auto` those that this machine may be good at."""
    fast = _has_bf16()
    if wanted == "bf16" and not fast:
        logger.warning("this machine has no bf16 in hardware; precision=bf16 may be many times slower than fp32")
    if wanted != "auto":
        return (wanted,)
    return ("fp32", "bf16") if fast else ("fp32",)


def choose(steps: Mapping[str, Steps], leg: Leg, block: Block, chosen: Any) -> str:
    """The only contender, or the winner of a short race between `fp32` and `bf16`.

    What the steps change is put back.

    Args:
        block: images for STEPS_PER_ROUND steps of the leg.
        chosen: the strategy, whose workers settle on one precision.
    """
    if len(steps) == 1:
        return next(iter(steps))
    states = {name: contender.read() for name, contender in steps.items()}
    seconds = _race({name: _some_steps(contender, leg, block) for name, contender in steps.items()}, chosen)
    for name, contender in steps.items():
        contender.write(states[name])
    logger.info("a step takes %.3f s in fp32 and %.3f s in bf16", seconds["fp32"], seconds["bf16"])
    return "bf16" if seconds["bf16"] < GAIN * seconds["fp32"] else "fp32"


def pays_to_compile(steps: Steps, leg: Leg, block: Block, chosen: Any) -> bool:
    """Whether steps are faster when XLA compiles them as a whole. What the steps change is put back.

    Only asked on one GPU. On two cores of Zen 4 XLA took 1.45 times as long for airbench94's network, and compiling
    costs half a minute; over several replicas it would have to compile the exchange of gradients.
    """
    if not tf.config.list_physical_devices("GPU") or chosen.num_replicas_in_sync > 1:
        return False
    state = steps.read()
    take = _some_steps(steps, leg, block)

    def taken(compiled: bool) -> Callable[[], None]:
        def run() -> None:
            steps.compiled = compiled
            take()

        return run

    taken(compiled=True)()  # traces
    seconds = _race({"plain": taken(compiled=False), "compiled": taken(compiled=True)}, chosen)
    steps.compiled = False
    steps.write(state)
    logger.info("a step takes %.4f s, compiled by XLA %.4f s", seconds["plain"], seconds["compiled"])
    return seconds["compiled"] < GAIN * seconds["plain"]


def _some_steps(steps: Steps, leg: Leg, block: Block) -> Callable[[], None]:
    """Takes a few steps at rate 0, and waits for them."""
    rates = np.zeros(STEPS_PER_ROUND, np.float32)

    def take() -> None:
        steps.train(leg, block, 0, 0, rates)

    return take


def _race(runners: Mapping[str, Callable[[], None]], chosen: Any) -> dict[str, float]:
    """Shortest time of a step in seconds; rounds alternate, so that whatever else the machine does hits all alike."""
    seconds = dict.fromkeys(runners, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runners.items():
            start = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], (time.perf_counter() - start) / STEPS_PER_ROUND)
    return {name: strategy.mean(chosen, found) for name, found in seconds.items()}


def _has_bf16() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return host.has_bf16()
    major, _ = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
    return bool(major >= 8)  # Ampere
