"""Which precision to train in: asked for, or measured."""

import logging
import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from peregrine import host
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.steps import Steps

ROUNDS = 5
STEPS_PER_ROUND = 2
GAIN = 0.9  # bf16 costs digits, so it has to take less than this share of fp32's time
logger = logging.getLogger("peregrine")


def contenders(wanted: str) -> tuple[str, ...]:
    """The precisions to choose from: the one that is wanted, or with `auto` those that this machine may be good at."""
    fast = _has_bf16()
    if wanted == "bf16" and not fast:
        logger.warning("this machine has no bf16 in hardware; precision=bf16 may be many times slower than fp32")
    if wanted != "auto":
        return (wanted,)
    return ("fp32", "bf16") if fast else ("fp32",)


def choose(steps: Mapping[str, Steps], order: npt.NDArray[np.int32]) -> str:
    """The only contender, or the winner of a short race between `fp32` and `bf16`.

    Rounds alternate, so that whatever else the machine does hits both alike. What the steps change is put back.
    """
    if len(steps) == 1:
        return next(iter(steps))
    states = {name: contender.read() for name, contender in steps.items()}
    seconds = dict.fromkeys(steps, float("inf"))
    rates = np.zeros(STEPS_PER_ROUND, np.float32)
    for _ in range(ROUNDS):
        for name, contender in steps.items():
            start = time.perf_counter()
            contender.train(order, 0, 0, rates)
            seconds[name] = min(seconds[name], (time.perf_counter() - start) / STEPS_PER_ROUND)
    for name, contender in steps.items():
        contender.write(states[name])
    logger.info("a step takes %.3f s in fp32 and %.3f s in bf16", seconds["fp32"], seconds["bf16"])
    return "bf16" if seconds["bf16"] < GAIN * seconds["fp32"] else "fp32"


def _has_bf16() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return host.has_bf16()
    major, _ = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
    return bool(major >= 8)  # Ampere
