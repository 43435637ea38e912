"""What both engines take from the training data."""

import numpy as np
import pytest

import small_runs
from peregrine.engines.statistics import class_weights, sample


def test_a_sample_is_spread_over_sorted_data() -> None:
    images = np.arange(200, dtype=np.uint8)[:, None, None, None] * np.ones((1, 300, 300, 3), np.uint8)
    assert sample(images)[:, 0, 0, 0].tolist() == np.linspace(0, 199, 100).astype(int).tolist()


def test_balanced_weights_average_to_one_over_the_images() -> None:
    data = small_runs.patterns(40, 0).subset(np.array([0, 4, 8, 12, 1, 5, 2, 3]))
    np.testing.assert_array_equal(class_weights(data, small_runs.recipe("tensorflow")), np.ones(4))
    weights = class_weights(data, small_runs.recipe("tensorflow", {"class_weights": "balanced"}))
    np.testing.assert_allclose(weights, [0.5, 1, 2, 2])
    assert weights[data.labels].mean() == pytest.approx(1)
