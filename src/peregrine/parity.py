"""Parity: does a Candidate still predict what the trained model predicts?

Pure arithmetic on the answers of two models to the same images; who asked them, and where, is not known here.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine import metrics
from peregrine.dataset import Labels

ENOUGH_IMAGES = 2_000  # below this only a clear difference fails, and only a clear agreement passes


@dataclass(frozen=True)
class Limits:
    """What a Candidate may differ by.

    Attributes:
        agreement: smallest share of images with the ancestor's top class, ties counted as agreeing.
        difference: largest |Δp| of any class of any image; None is not judged.
        drop_points: largest loss of accuracy in percentage points, ties included; 0 allows ties alone.
    """

    agreement: float
    difference: float | None
    drop_points: float


LIMITS = {
    "fp32": Limits(agreement=1.0, difference=0.001, drop_points=0.0),
    "fp16": Limits(agreement=0.998, difference=0.02, drop_points=0.1),
    "bf16": Limits(agreement=0.99, difference=None, drop_points=0.2),
    "int8": Limits(agreement=0.97, difference=None, drop_points=0.5),
}


@dataclass(frozen=True)
class Verdict:
    """The outcome of one comparison.

    Attributes:
        verdict: `passed`, `failed`, or `inconclusive`: fewer than 2,000 images, too few to tell.
        agreement: share of images where both name the same class, or the ancestor's two classes tie.
        ties, disagreements: images where the top classes differ: within twice the |Δp| limit of each other in the
            ancestor's eyes, and beyond it.
        max_difference, mean_difference: of |Δp| over all images and classes.
        accuracy_drop_points: ancestor's accuracy less the Candidate's, in percentage points, with its paired 95%
            interval.
        reasons: the limits that were broken or may be, in words.
    """

    verdict: str
    images: int
    agreement: float
    ties: int
    disagreements: int
    max_difference: float
    mean_difference: float
    accuracy: float
    ancestor_accuracy: float
    accuracy_drop_points: float
    accuracy_drop_interval: tuple[float, float]
    limits: Limits
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the Candidate may be used: it did not fail."""
        return self.verdict != "failed"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(ancestor: metrics.Floats, candidate: metrics.Floats, labels: Labels, limits: Limits) -> Verdict:
    """Judge a Candidate's answers by its ancestor's.

    Args:
        ancestor, candidate: probabilities `(N, C)` of the same images, N ≥ 1. An answer that is not a number counts
            as a wrong class, at a |Δp| of 1, and fails.
        labels: int64 `(N,)`.
    """
    sound = np.asarray((np.isfinite(ancestor) & np.isfinite(candidate)).all(axis=1))
    before, after = (np.where(sound[:, None], answers.astype(np.float64), 0.0) for answers in (ancestor, candidate))
    difference = np.where(sound[:, None], np.abs(before - after), 1.0)
    first, second = ancestor.argmax(1), candidate.argmax(1)
    rows = np.arange(len(labels))
    gap = before[rows, first] - before[rows, second]  # in the ancestor's eyes
    tie = sound & (first != second) & (gap <= 2 * (limits.difference or 0.0))
    disagree = ((first != second) & ~tie) | ~sound
    was_right, is_right = first == labels, (second == labels) & sound
    lost = was_right.astype(np.int64) - is_right

    agreed = len(labels) - int(disagree.sum())
    largest = float(difference.max())
    verdict, reasons = _judge(limits, bool(sound.all()), agreed, largest, lost if limits.drop_points else lost * ~tie)
    drop, interval = _drop_points(lost, limits)
    return Verdict(
        verdict=verdict,
        images=len(labels),
        agreement=agreed / len(labels),
        ties=int(tie.sum()),
        disagreements=int(disagree.sum()),
        max_difference=largest,
        mean_difference=float(difference.mean()),
        accuracy=float(is_right.mean()),
        ancestor_accuracy=float(was_right.mean()),
        accuracy_drop_points=drop,
        accuracy_drop_interval=interval,
        limits=limits,
        reasons=reasons,
    )


def _judge(
    limits: Limits, sound: bool, agreed: int, largest: float, lost: npt.NDArray[np.int64]
) -> tuple[str, tuple[str, ...]]:
    """The verdict and its reasons.

    From 2,000 images on, every broken limit fails. With fewer, shares are rough estimates: one beyond its limit fails
    only if its whole 95% interval is, and a loss of accuracy passes only if its whole interval is within the limit.
    A NaN and |Δp| are no estimates: more images can only make them worse.
    """
    images = len(lost)
    agreement = agreed / images
    drop, (low, high) = _drop_points(lost, limits)
    broken: list[tuple[bool, str]] = []  # whether it is certain with few images too, and the limit in words
    if not sound:
        broken.append((True, "an answer is not a number"))
    if limits.difference is not None and largest > limits.difference:
        broken.append((True, f"largest |Δp| {largest:.3g} is above {limits.difference}"))
    if agreement < limits.agreement:
        certain = metrics.wilson_interval(agreed, images)[1] < limits.agreement
        broken.append(
            (certain, f"agreement on {agreed:,} of {images:,} images ({agreement:.2%}) is below {limits.agreement:.1%}")
        )
    if drop > limits.drop_points:
        words = f"accuracy drops by {drop:.3g} points, the limit is {limits.drop_points}"
        broken.append((low > limits.drop_points, words))

    reasons = tuple(words for _, words in broken)
    if images >= ENOUGH_IMAGES or any(certain for certain, _ in broken):
        return ("failed" if broken else "passed"), reasons
    if broken:
        return "inconclusive", reasons
    if high > limits.drop_points:
        words = f"{images:,} images are too few to tell whether accuracy drops by more than {limits.drop_points} points"
        return "inconclusive", (words,)
    return "passed", ()


def _drop_points(lost: npt.NDArray[np.int64], limits: Limits) -> tuple[float, tuple[float, float]]:
    """Percentage points of accuracy lost, with the paired 95% interval; `lost` is 1, 0 or -1 for each image.

    Where a loss is allowed, the interval has a width even if no image changes: 0.5 points take 553 such images. Where
    none is, each image decides, and a width would only make every proof on few images inconclusive.
    """
    if limits.drop_points:
        low, high = metrics.changed_interval(int((lost > 0).sum()), int((lost < 0).sum()), len(lost))
    else:
        low, high = metrics.paired_interval(lost.astype(np.float64))
    return 100 * int(lost.sum()) / len(lost), (max(-100.0, 100 * low), min(100.0, 100 * high))
