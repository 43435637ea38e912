"""Answering only where the model is sure: how accurate it is then, and from which confidence on.

The confidence of an answer is the probability of the class that it names. A threshold keeps the answers of at least its
confidence and rejects the others; the share that is kept is the coverage.

Source: Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017, sections 2 and 3.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Labels
from peregrine.metrics import Floats, wilson_interval

CURVE_POINTS = 100


def coverage_curve(probabilities: Floats, labels: Labels) -> list[dict[str, float]]:
    """What thresholds leave: from everything, at threshold 0, to the surest hundredth.

    Args:
        probabilities: `(N, C)`, N ≥ 1.
        labels: int64 `(N,)`.

    Returns:
        Rows of `threshold`, `coverage` and `accuracy` (of the answers kept), up to 100, the thresholds rising.
    """
    thresholds, kept, accuracy = _by_threshold(probabilities, labels)
    wanted = np.ceil(len(labels) * np.arange(CURVE_POINTS, 0, -1) / CURVE_POINTS)
    rows = np.unique(np.searchsorted(-kept, -wanted, side="right") - 1)  # the last that keeps as many
    return [
        {
            "threshold": float(thresholds[row]),
            "coverage": float(kept[row] / len(labels)),
            "accuracy": float(accuracy[row]),
        }
        for row in rows
    ]


def choose_threshold(probabilities: Floats, labels: Labels, target_accuracy: float) -> float | None:
    """The smallest threshold whose answers are at least this accurate; None where there is none.

    It is 0 where all answers together are accurate enough. Otherwise it is the confidence of an answer.
    """
    thresholds, _, accuracy = _by_threshold(probabilities, labels)
    enough = np.flatnonzero(accuracy >= target_accuracy - 1e-9)  # a share of whole images may not be exact
    return float(thresholds[enough[0]]) if len(enough) else None


def half_the_error(accuracy: float) -> float:
    """The accuracy at which half of the mistakes, as a share of the answers, are gone."""
    return (1 + accuracy) / 2


def judge_threshold(probabilities: Floats, labels: Labels, threshold: float) -> dict[str, Any] | None:
    """`coverage`, `accuracy` of the answers kept and its 95% `accuracy_interval`; None where none is kept."""
    kept = probabilities.max(1) >= threshold
    right = int((probabilities.argmax(1) == labels)[kept].sum())
    count = int(kept.sum())
    if not count:
        return None
    return {
        "coverage": count / len(labels),
        "accuracy": right / count,
        "accuracy_interval": list(wilson_interval(right, count)),
    }


def _by_threshold(
    probabilities: Floats, labels: Labels
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """All thresholds that differ in what they keep, rising from 0; the number of answers kept; their accuracy."""
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order].astype(np.float64)
    right = (probabilities.argmax(1) == labels)[order].cumsum()
    last = np.flatnonzero(np.append(falling[1:] < falling[:-1], True))[::-1]  # of those that are equally sure
    thresholds, kept = falling[last], last + 1
    thresholds[0] = 0.0
    return thresholds, kept, right[last] / kept
