"""The images that a conversion to INT8 looks at: some to find ranges with, others to compare settings on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from peregrine import files, metrics
from peregrine.artifact import Probabilities
from peregrine.dataset import Dataset, Images, Labels

CALIBRATION_IMAGES = 512
JUDGED_IMAGES = 2_000
_SEED = 0


@dataclass(frozen=True)
class Samples:
    """Of the training split to calibrate with; of the validation split to choose by, with what is expected there.

    Attributes:
        calibration: uint8 `(n, H, W, 3)`, all classes alike.
        judged: uint8 `(m, H, W, 3)`; other images than those.
        labels: int64 `(m,)`.
        expected: the ancestor's probabilities `(m, C)`.
    """

    calibration: Images
    judged: Images
    labels: Labels
    expected: Probabilities

    def difference(self, answers: Probabilities) -> float:
        """Mean |Δp| of answers to the judged images: what settings are chosen by, for it is steadier than accuracy."""
        return float(np.abs(answers - self.expected).mean())

    def drop_points(self, answers: Probabilities) -> float:
        """Accuracy that answers to the judged images lose, in percentage points."""
        before, after = (metrics.accuracy(found, self.labels) for found in (self.expected, answers))
        return 100 * (before - after)

    def save(self, path: Path) -> None:
        """Write them for a worker."""
        with files.writing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def stratified(part: Dataset, count: int) -> npt.NDArray[np.intp]:
    """Indices of up to `count` images, sorted: the same number of each class, as far as there are so many."""
    generator = np.random.default_rng(_SEED)
    shuffled = generator.permutation(len(part))
    labels = part.labels[shuffled]
    turn = np.empty(len(part), np.int64)  # an image is the how-manieth of its class
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = np.arange(len(members))
    order = np.lexsort((labels, turn))[:count]
    return np.sort(shuffled[order])
