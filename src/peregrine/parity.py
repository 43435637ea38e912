"""Parity: does a Candidate still predict what the trained model predicts?

Pure arithmetic on the answers of two models to the same images; who asked them, and where, is not known here.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from peregrine import metrics
from peregrine.dataset import Labels

ENOUGH_IMAGES = 2_000  # below this only a clear difference fails


@dataclass(frozen=True)
class Limits:
    """What a Candidate may differ by.

    Attributes:
        agreement: smallest share of images with the ancestor's top class, ties counted as agreeing.
        difference: largest |Δp| of any class of any image; None is not judged.
        drop_points: largest loss of accuracy in percentage points; 0 allows ties alone.
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
        verdict: `passed`, `failed`, or `inconclusive` (too few images to tell).
        agreement: share of images where both name the same class, or the ancestor's two classes tie.
        ties, disagreements: images where the top classes differ: within twice the |Δp| limit of each other in the
            ancestor's eyes, and beyond it.
        max_difference, mean_difference: of |Δp| over all images and classes.
        accuracy_drop_points: ancestor's accuracy less the Candidate's, in percentage points, with its paired 95%
            interval.
        reasons: the limits that were broken, in words.
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
        ancestor, candidate: probabilities `(N, C)` of the same images, N ≥ 1.
        labels: int64 `(N,)`.
    """
    images = len(labels)
    rows = np.arange(images)
    first, second = ancestor.argmax(1), candidate.argmax(1)
    gap = ancestor[rows, first] - ancestor[rows, second]
    tie = (first != second) & (gap <= 2 * (limits.difference or 0.0))
    disagree = (first != second) & ~tie
    difference = np.abs(ancestor.astype(np.float64) - candidate)
    largest = float(difference.max())
    lost = (first == labels).astype(float) - (second == labels)
    lost_beyond_ties = np.where(tie, 0.0, lost)
    drop = 100 * float(lost_beyond_ties.mean())
    low, high = (100 * bound for bound in metrics.paired_interval(lost_beyond_ties))
    agreement = 1 - float(disagree.mean())

    if not np.isfinite(candidate).all():
        reasons, clear = ["an answer is not a number"], True
    else:
        reasons, clear = _broken_limits(limits, images, agreement, largest, drop, low)
    failed = bool(reasons) and (clear or images >= ENOUGH_IMAGES)
    verdict = "failed" if failed else "inconclusive" if images < ENOUGH_IMAGES and reasons else "passed"
    return Verdict(
        verdict=verdict,
        images=images,
        agreement=agreement,
        ties=int(tie.sum()),
        disagreements=int(disagree.sum()),
        max_difference=_finite(largest),
        mean_difference=_finite(float(difference.mean())),
        accuracy=float((second == labels).mean()),
        ancestor_accuracy=float((first == labels).mean()),
        accuracy_drop_points=100 * float(lost.mean()),
        accuracy_drop_interval=(_finite(low), _finite(high)),
        limits=limits,
        reasons=tuple(reasons),
    )


def _broken_limits(
    limits: Limits, images: int, agreement: float, largest: float, drop: float, drop_low: float
) -> tuple[list[str], bool]:
    """The broken limits in words, and whether one of them is broken whatever the number of images.

    |Δp| is exact on each image. Shares are estimates: with few images they fail only with their whole interval.
    """
    reasons, clear = [], False
    if limits.difference is not None and not largest <= limits.difference:
        reasons.append(f"largest |Δp| {largest:.4f} is above {limits.difference}")
        clear = True
    if agreement < limits.agreement:
        reasons.append(f"agreement {agreement:.2%} is below {limits.agreement:.1%}")
        clear |= metrics.wilson_interval(round(agreement * images), images)[1] < limits.agreement
    if drop > limits.drop_points:
        reasons.append(f"accuracy drops by {drop:.2f} points, the limit is {limits.drop_points}")
        clear |= drop_low > limits.drop_points
    return reasons, clear


def _finite(value: float) -> float:
    """JSON has no infinity."""
    return value if np.isfinite(value) else float(np.sign(value) * np.finfo(np.float32).max) if value == value else -1.0
