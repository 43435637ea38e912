"""The images that a conversion to INT8 looks at: some to find ranges with, others to compare settings on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from peregrine import files
from peregrine.artifact import Probabilities
from peregrine.dataset import Dataset, Images, Labels, at_once

CALIBRATION_IMAGES = 512
JUDGED_IMAGES = 2_000
BATCH = 64  # small images at once: while ranges are looked for, every value of the network is held
_SEED = 0


@dataclass(frozen=True)
class Samples:
    """Of the training split to calibrate with; of the validation split to choose by, with what is expected there.

    Attributes:
        calibration: uint8 `(n, H, W, 3)`, all classes alike.
        judged: uint8 `(m, H, W, 3)`; other images than those.
        labels: int64 `(m,)`, of the judged images.
        expected: the ancestor's probabilities `(m, C)` for them.
        least_agreement: smallest share of images with the ancestor's top class.
        most_drop_points: largest loss of accuracy, in percentage points.
        record: which images they are, for the manifest.
    """

    calibration: Images
    judged: Images
    labels: Labels
    expected: Probabilities
    least_agreement: float
    most_drop_points: float
    record: dict[str, Any]

    def difference(self, answers: Probabilities) -> float:
        """Mean |Δp| of answers to the judged images: what settings are chosen by, for it is steadier than accuracy."""
        return float(np.abs(answers - self.expected).mean())

    def agreement(self, answers: Probabilities) -> float:
        """Share of the judged images with the ancestor's top class."""
        return float((answers.argmax(1) == self.expected.argmax(1)).mean())

    def drop_points(self, answers: Probabilities) -> float:
        """Accuracy that answers to the judged images lose, in percentage points."""
        before, after = (int((found.argmax(1) == self.labels).sum()) for found in (self.expected, answers))
        return 100 * (before - after) / len(self.labels)

    def within_limits(self, agreement: float, drop_points: float) -> bool:
        """Whether a conversion may be expected to pass its proof."""
        return agreement >= self.least_agreement and drop_points <= self.most_drop_points

    def save(self, path: Path) -> None:
        """Write them for a worker."""
        arrays = {name: value for name, value in vars(self).items() if name != "record"}
        with files.writing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, record=np.array(json.dumps(self.record)), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        limits = {name: float(found[name]) for name in ("least_agreement", "most_drop_points")}
        return cls(**{**found, **limits, "record": json.loads(str(found["record"]))})


def draw(
    train: Dataset,
    validation: Dataset | None,
    answer: Callable[[Dataset], Probabilities],
    least_agreement: float,
    most_drop_points: float,
) -> Samples:
    """Choose the images, the same ones every time.

    Args:
        train: to calibrate with.
        validation: to judge by; None where nothing was held out, and then other training images judge.
        answer: asks the ancestor.
        least_agreement, most_drop_points: what a proof will ask for.
    """
    # Of few training images half are left to judge, where nothing else is.
    count = CALIBRATION_IMAGES if validation is not None else min(CALIBRATION_IMAGES, len(train) // 2)
    chosen = stratified(train, count)
    rest = validation if validation is not None else train.subset(np.setdiff1d(np.arange(len(train)), chosen))
    calibration, judged = train.subset(chosen), rest.subset(stratified(rest, JUDGED_IMAGES))
    record = {
        "calibration_split": "train",
        "calibration_images": len(calibration),
        "calibration_fingerprint": calibration.fingerprint,
        "judged_split": "train" if validation is None else "validation",
        "judged_images": len(judged),
        "judged_fingerprint": judged.fingerprint,
    }
    return Samples(
        calibration.images[:],
        judged.images[:],
        judged.labels,
        answer(judged),
        least_agreement,
        most_drop_points,
        record,
    )


def batches(images: Images) -> list[Images]:
    """The images in order, as many at once as a calibration may hold all values of."""
    size = at_once(BATCH, images.shape[1])
    return [images[start : start + size] for start in range(0, len(images), size)]


def stratified(part: Dataset, count: int) -> npt.NDArray[np.intp]:
    """Indices of up to `count` images, sorted: the same number of each class, as far as there are so many."""
    shuffled = np.random.default_rng(_SEED).permutation(len(part))
    labels = part.labels[shuffled]
    turn = np.empty(len(part), np.int64)  # an image is the how-manieth of its class
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = np.arange(len(members))
    order = np.lexsort((labels, turn))[:count]
    return np.sort(shuffled[order])
