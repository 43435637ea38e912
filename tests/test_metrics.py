"""The figures, against scikit-learn and against numbers worked out by hand."""

import json
import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from peregrine import metrics
from peregrine.errors import CheckFailed

NAMES = ("ant", "bee", "cow", "dog", "eel")


def guesses(images: int, classes: int, seed: int = 0, skill: float = 1.0) -> tuple[Any, Any]:
    """Probabilities float32 `(N, C)` that tend towards the labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), labels] += skill
    return metrics.softmax(logits).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(3))
def test_figures_agree_with_scikit_learn(seed: int) -> None:
    probabilities, labels = guesses(500, 5, seed)
    predicted = probabilities.argmax(1)
    found = metrics.evaluate(probabilities, labels, NAMES)
    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, predicted, zero_division=0)
    for index, name in enumerate(NAMES):
        row = found["per_class"][name]
        assert row["precision"] == pytest.approx(precision[index])
        assert row["recall"] == pytest.approx(recall[index])
        assert row["f1"] == pytest.approx(f1[index])
        assert row["images"] == support[index]
    assert found["images"] == 500
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, predicted))
    assert found["macro_precision"] == pytest.approx(reference.precision_score(labels, predicted, average="macro"))
    assert found["macro_recall"] == pytest.approx(reference.recall_score(labels, predicted, average="macro"))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(labels, predicted, average="macro"))
    assert found["top3_accuracy"] == pytest.approx(reference.top_k_accuracy_score(labels, probabilities, k=3))
    exact = probabilities.astype(float) / probabilities.sum(1, keepdims=True, dtype=float)
    assert found["loss"] == pytest.approx(reference.log_loss(labels, exact), rel=1e-6)
    assert found["confusion_matrix"] == reference.confusion_matrix(labels, predicted).tolist()
    json.dumps(found, allow_nan=False)


def test_a_class_without_images_counts_nowhere() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]], np.float32)
    found = metrics.evaluate(probabilities, np.array([0, 1, 1]), NAMES[:3])
    assert found["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["per_class"]["cow"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "images": 0}


def test_answers_that_are_no_numbers_have_no_figures() -> None:
    answers = np.array([[0.5, 0.5], [math.nan, 0.5], [math.inf, 0.0]])
    words = "a model answers with probabilities; for 2 of 3 images, this one answers with NaN or infinity"
    with pytest.raises(CheckFailed, match=words):
        metrics.evaluate(answers, np.zeros(3, np.int64), ("a", "b"))


def test_one_image_and_a_probability_of_zero() -> None:
    found = metrics.evaluate(np.array([[1.0, 0.0]], np.float32), np.array([1]), NAMES[:2])
    assert found["accuracy"] == 0
    assert found["top3_accuracy"] == 1
    assert found["loss"] == pytest.approx(-math.log(np.finfo(np.float32).tiny))
    assert found["ece"] == 1
    assert found["reliability"] == [{"confidence": 1.0, "accuracy": 0.0, "share": 1.0}]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("successes", "trials", "interval"),
    [
        (5, 10, (0.2366, 0.7634)),
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
        (81, 263, (0.2553, 0.3662)),  # Newcombe, Statistics in Medicine 17 (1998), table I
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (1, 1, (0.2065, 1.0)),
    ],
)
def test_wilson_interval(successes: int, trials: int, interval: tuple[float, float]) -> None:
    assert metrics.wilson_interval(successes, trials) == pytest.approx(interval, abs=5e-5)


def test_calibration_error_by_hand() -> None:
    confidences = np.array([0.62, 0.64, 0.95, 1.0], np.float32)
    probabilities = np.stack([confidences, 1 - confidences], 1)
    found = metrics.evaluate(probabilities, np.array([0, 1, 0, 0]), NAMES[:2])
    low, high = found["reliability"]  # 0.6 to 0.667, and 0.933 to 1
    assert (low["confidence"], low["accuracy"], low["share"]) == pytest.approx((0.63, 0.5, 0.5))
    assert (high["confidence"], high["accuracy"], high["share"]) == pytest.approx((0.975, 1.0, 0.5))
    assert found["ece"] == pytest.approx(0.5 * 0.13 + 0.5 * 0.025)


def test_calibrated_guesses_have_little_error() -> None:
    random = np.random.default_rng(0)
    share = random.uniform(0.5, 1, 50_000)
    labels = (random.uniform(size=50_000) > share).astype(np.int64)
    assert metrics.evaluate(np.stack([share, 1 - share], 1), labels, NAMES[:2])["ece"] < 0.01


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    """Labels drawn from softmax(z), logits given as z · T: dividing by T is right."""
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(20_000, 5))
    cumulative = metrics.softmax(logits).cumsum(1)
    labels = (random.uniform(size=(20_000, 1)) > cumulative).sum(1)
    found = metrics.fit_temperature((logits * temperature).astype(np.float32), labels)
    assert found == pytest.approx(temperature, rel=0.03)


def test_the_temperature_is_the_minimum_of_the_loss() -> None:
    probabilities, labels = guesses(400, 5)
    logits = np.log(probabilities) * 3
    best = metrics.fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        return metrics.log_loss(metrics.softmax(logits / temperature), labels)

    assert loss(best) < min(loss(best * 1.05), loss(best / 1.05))


def test_extreme_temperatures() -> None:
    labels = np.array([0, 1, 2])
    right, wrong = np.eye(3) * 10, np.roll(np.eye(3), 1, 1) * 1e6
    # All right: as sure as one more image, wrong, would allow: 4/5 for three images, 2/3 for one.
    assert metrics.fit_temperature(right, labels) == pytest.approx(10 / np.log(8), rel=1e-3)
    assert metrics.fit_temperature(right[:1], labels[:1]) == pytest.approx(10 / np.log(4), rel=1e-3)
    assert metrics.fit_temperature(wrong, labels) == pytest.approx(20, rel=1e-3)
    half = np.concatenate([np.eye(3), np.roll(np.eye(3), 1, 1)]) * 1e5  # far beyond what a float's exponent holds
    assert metrics.fit_temperature(half, np.tile(labels, 2)) == pytest.approx(20, rel=1e-3)


def test_top_k_takes_no_more_than_there_are_classes() -> None:
    probabilities = np.array([[0.1, 0.9], [0.8, 0.2]])
    assert metrics.top_k_accuracy(probabilities, np.array([0, 1]), 3) == 1
    assert metrics.top_k_accuracy(probabilities, np.array([0, 0]), 1) == 0.5


def test_softmax_does_not_overflow() -> None:
    assert metrics.softmax(np.array([[1e4, 0.0], [0.0, 0.0]], np.float32)).tolist() == [[1, 0], [0.5, 0.5]]


def test_paired_interval() -> None:
    difference = np.array([1.0, 0, 0, 0, -1, 0, 1, 0, 0, 0])
    low, high = metrics.paired_interval(difference)
    half = 1.959964 * difference.std(ddof=1) / math.sqrt(10)
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half))
    assert metrics.paired_interval(np.zeros(5)) == (0, 0)
    assert metrics.paired_interval(np.ones(1)) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("gained", "lost", "images", "interval"),
    [
        (1, 7, 21, (-0.508, -0.013)),  # Bentur et al. 2009, in Fagerland, Lydersen and Laake (2014)
        (0, 0, 10, (-0.231, 0.231)),
        (1, 0, 1, (-0.7335, 1.0)),
    ],
)
def test_interval_of_what_changed(gained: int, lost: int, images: int, interval: tuple[float, float]) -> None:
    assert metrics.changed_interval(gained, lost, images) == pytest.approx(interval, abs=6e-4)


def test_of_many_images_it_is_the_normal_approximation() -> None:
    difference = np.repeat([1.0, -1.0, 0.0], [380, 360, 9260])
    assert metrics.changed_interval(380, 360, 10_000) == pytest.approx(metrics.paired_interval(difference), abs=2e-5)
