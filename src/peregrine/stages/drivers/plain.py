"""The plain driver: a loop, for a quick look and where LoadGen is not installed."""

import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from peregrine.artifact import Probabilities
from peregrine.dataset import Images
from peregrine.stages.drivers.base import LEAST_OFFLINE, LEAST_SINGLE, Predict, Timed, repeat


class Plain:
    """The next images when the last are answered."""

    name: ClassVar[str] = "plain"

    def __init__(self, logs: Path) -> None:
        """Of a loop there is nothing to write."""

    def single_stream(self, predict: Predict, images: Images, seconds: float, expected_ns: float) -> Timed:
        return repeat(predict, images, 1, seconds, LEAST_SINGLE)

    def offline(self, predict: Predict, images: Images, batch: int, seconds: float, expected_ns: float) -> Timed:
        return repeat(predict, images, batch, seconds, LEAST_OFFLINE)

    def ask_all(self, predict: Predict, images: Images, batch: int) -> tuple[Probabilities, int]:
        order, nanoseconds = np.random.default_rng(0).permutation(len(images)), 0
        found: list[Probabilities] = []
        for start in range(0, len(images), batch):
            part = np.ascontiguousarray(images[order[start : start + batch]])
            began = time.perf_counter_ns()
            found.append(predict(part))
            nanoseconds += time.perf_counter_ns() - began
        answers = np.concatenate(found)
        return answers[np.argsort(order)], nanoseconds
