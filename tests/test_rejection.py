"""Coverage and thresholds, against counting."""

import json
from typing import Any

import numpy as np
import pytest

from peregrine.metrics import wilson_interval
from peregrine.rejection import choose_threshold, coverage_curve, half_the_error, judge_threshold


def guesses(images: int, seed: int = 0, levels: int | None = None) -> tuple[Any, Any]:
    """Calibrated answers to a question with two choices; `levels` of confidence, so that many are equal."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.5, 1, images)
    if levels:
        confidence = 0.5 + np.floor((confidence - 0.5) * 2 * levels) / levels / 2
    labels = (random.uniform(size=images) > confidence).astype(np.int64)
    return np.stack([confidence, 1 - confidence], 1).astype(np.float32), labels


@pytest.mark.parametrize(("images", "levels"), [(1, None), (7, None), (333, None), (5_000, None), (5_000, 4), (200, 1)])
def test_every_point_of_the_curve_is_what_its_threshold_keeps(images: int, levels: int | None) -> None:
    probabilities, labels = guesses(images, levels=levels)
    curve = coverage_curve(probabilities, labels)
    assert curve[0]["threshold"] == 0
    assert curve[0]["coverage"] == 1
    assert 1 <= len(curve) <= 100
    for point in curve:
        found = judge_threshold(probabilities, labels, point["threshold"])
        assert found is not None
        assert found["coverage"] == pytest.approx(point["coverage"])
        assert found["accuracy"] == pytest.approx(point["accuracy"])
    thresholds, coverages = ([point[key] for point in curve] for key in ("threshold", "coverage"))
    assert thresholds == sorted(set(thresholds))
    assert coverages == sorted(set(coverages), reverse=True)
    if images == 5_000 and not levels:
        assert coverages == pytest.approx(np.arange(100, 0, -1) / 100)
    json.dumps(curve, allow_nan=False)


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("levels", [None, 10])
def test_the_smallest_threshold_that_reaches_the_target(target: float, levels: int | None) -> None:
    probabilities, labels = guesses(1_500, levels=levels)
    threshold = choose_threshold(probabilities, labels, target)
    assert threshold is not None

    def accuracy(level: float) -> float:
        found = judge_threshold(probabilities, labels, level)
        assert found is not None
        return float(found["accuracy"])

    assert accuracy(threshold) >= target
    lower = [level for level in np.unique(probabilities.max(1)) if level < threshold]
    assert lower
    assert all(accuracy(float(level)) < target for level in lower)


def test_where_nothing_needs_to_be_rejected_and_where_nothing_helps() -> None:
    probabilities, labels = guesses(1_000)
    accuracy = float((probabilities.argmax(1) == labels).mean())
    assert choose_threshold(probabilities, labels, accuracy) == 0
    assert choose_threshold(probabilities, labels, accuracy / 2) == 0
    sure_and_wrong = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]], np.float32)
    assert choose_threshold(sure_and_wrong, np.array([1, 0, 0]), 0.9) is None
    assert half_the_error(1.0) == 1
    assert half_the_error(0.9) == pytest.approx(0.95)


def test_a_threshold_judged_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], np.float32)
    labels = np.array([0, 1, 1, 0])
    assert judge_threshold(probabilities, labels, float(np.float32(0.7))) == {
        "coverage": 0.75,
        "accuracy": 2 / 3,
        "accuracy_interval": list(wilson_interval(2, 3)),
    }
    assert judge_threshold(probabilities, labels, 0.95) is None
