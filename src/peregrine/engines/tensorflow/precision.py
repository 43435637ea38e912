"""Which precision to train in: asked for, or measured."""

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from peregrine import host
from peregrine.engines.tensorflow.steps import Steps

ROUNDS = 3
STEPS_PER_ROUND = 2
NEEDED_GAIN = 1.05  # fp32 is the more exact one, so a tie is its


def contenders(asked: str) -> tuple[str, ...]:
    """The precisions to choose from: the one that was asked for, or with `auto` those this machine may be good at."""
    if asked != "auto":
        return (asked,)
    return ("fp32", "bf16") if host.has_bf16() else ("fp32",)


def fastest(steps: Mapping[str, Steps], order: npt.NDArray[np.int32]) -> str:
    """The precision whose compiled steps take the least time; the first needs to be beaten clearly.

    Rounds are interleaved, so that whatever else the machine does hits all alike. What the steps change is put back.
    """
    chosen, *others = steps
    if not others:
        return chosen
    states = {name: candidate.read() for name, candidate in steps.items()}
    seconds = dict.fromkeys(steps, float("inf"))
    rates = np.zeros(STEPS_PER_ROUND, np.float32)
    for _ in range(ROUNDS):
        for name, candidate in steps.items():
            start = time.perf_counter()
            candidate.train(order, 0, 0, rates)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    for name, candidate in steps.items():
        candidate.write(states[name])
    best = min(others, key=seconds.__getitem__)
    return best if seconds[best] * NEEDED_GAIN < seconds[chosen] else chosen
