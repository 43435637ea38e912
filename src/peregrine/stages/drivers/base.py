"""What drives a measurement: who decides which image is asked about when, and keeps the times and the answers.

A new driver adds a file here and a line in the catalogue.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from peregrine.artifact import Probabilities
from peregrine.dataset import Images

LEAST_SINGLE, LEAST_OFFLINE = 10, 2  # calls of a round, however slow they are

Predict = Callable[[Images], Probabilities]
Places = npt.NDArray[np.intp]


@dataclass
class Timed:
    """Calls of `predict` that were timed, one after the other.

    Attributes:
        nanoseconds: what each call took, from uint8 in host memory to float32 in host memory.
        places: which images each call was asked about.
        answers: what it said.
    """

    nanoseconds: list[int] = field(default_factory=list)
    places: list[Places] = field(default_factory=list)
    answers: list[Probabilities] = field(default_factory=list)

    def call(self, predict: Predict, images: Images, places: Places) -> Probabilities:
        """Time one call about some of the images; picking them out is not in the time."""
        batch = np.ascontiguousarray(images[places])
        start = time.perf_counter_ns()
        answers = predict(batch)
        self.nanoseconds.append(time.perf_counter_ns() - start)
        self.places.append(places)
        self.answers.append(answers)
        return answers


class Driver(Protocol):
    """Asks in the manner of a scenario. `logs` is a folder for what it writes."""

    name: ClassVar[str]

    def __init__(self, logs: Path) -> None: ...

    def single_stream(self, predict: Predict, images: Images, seconds: float, expected_ns: float) -> Timed:
        """One image after the other, for about so many `seconds`; a call is expected to take `expected_ns`."""

    def offline(self, predict: Predict, images: Images, batch: int, seconds: float, expected_ns: float) -> Timed:
        """Many images at once, in batches; a batch is expected to take `expected_ns`."""

    def ask_all(self, predict: Predict, images: Images, batch: int) -> tuple[Probabilities, int]:
        """Each image once: the answers as the driver wrote them down, `(N, C)`, and the nanoseconds of predicting."""


def repeat(predict: Predict, images: Images, size: int, seconds: float, least: int) -> Timed:
    """Batches of one size in the order of the images, for about so many seconds and at least `least` times."""
    timed = Timed()
    end = time.perf_counter_ns() + int(seconds * 1e9)
    start = 0
    while len(timed.nanoseconds) < least or time.perf_counter_ns() < end:
        timed.call(predict, images, np.arange(start, start + size) % len(images))
        start += size
    return timed
