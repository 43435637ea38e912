"""The batches of an epoch: every image once, and all randomness a function of seed, epoch and step."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import small_runs
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.pipeline import TrainingBatches

pytestmark = pytest.mark.tensorflow


def batches(changes: dict[str, Any] | None = None, count: int = 50) -> TrainingBatches:
    settings = {"augmentation": {}, "batch_size": 16, **(changes or {})}
    return TrainingBatches(small_runs.patterns(count, 0), small_runs.recipe("tensorflow", settings))


def epoch(made: TrainingBatches, number: int) -> tuple[Any, Any]:
    order = made.order(number)
    parts = [made.batch(tf.constant(order), number, step) for step in range(made.steps_per_epoch)]
    images, labels = zip(*parts, strict=True)
    return np.concatenate([part.numpy() for part in images]), np.concatenate([part.numpy() for part in labels])


def test_an_epoch_has_every_image_once_the_last_batch_smaller() -> None:
    made = batches()
    data = small_runs.patterns(50, 0)
    assert made.steps_per_epoch == 4
    images, labels = epoch(made, 0)
    order = made.order(0)
    assert sorted(order) == list(range(50))
    np.testing.assert_array_equal(images, data.images[order])
    np.testing.assert_array_equal(labels, data.labels[order])
    assert not np.array_equal(order, made.order(1))


def test_a_batch_depends_on_seed_epoch_and_step_alone() -> None:
    changes = {"augmentation": {"rotation": 30.0, "flip": "random", "translate": 2}}
    first, second = batches(changes), batches(changes)
    tf.random.set_seed(1)
    order = tf.constant(first.order(3))
    at_once = first.batch(order, 3, 2)[0].numpy()
    second.batch(order, 0, 0)
    np.testing.assert_array_equal(at_once, second.batch(order, 3, 2)[0].numpy())
    assert not np.array_equal(at_once, first.batch(order, 2, 2)[0].numpy())
    assert not np.array_equal(at_once, batches({**changes, "seed": 1}).batch(order, 3, 2)[0].numpy())


def test_alternating_flips_show_every_image_both_ways_in_two_epochs() -> None:
    made = batches({"augmentation": {"flip": "alternating"}})
    data = small_runs.patterns(50, 0).images
    mirrored = []
    for number in range(3):
        images, _ = epoch(made, number)
        images = images[np.argsort(made.order(number))]
        flipped = (images == data[:, :, ::-1]).all((1, 2, 3))
        np.testing.assert_array_equal(images[~flipped], data[~flipped])
        mirrored.append(flipped)
    assert 10 < mirrored[0].sum() < 40
    np.testing.assert_array_equal(mirrored[1], ~mirrored[0])
    np.testing.assert_array_equal(mirrored[2], mirrored[0])
