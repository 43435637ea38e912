"""Mixup and cutmix: pixels and targets change by the same share, and a part of a batch is what it is in the whole."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
from peregrine.augmentation import Augmentation
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.mixing import mix
from peregrine.engines.tensorflow.noise import COLUMNS, Noise

pytestmark = pytest.mark.tensorflow
SIDE = 16


def batch(count: int) -> tuple[Any, Any]:
    """Images of one grey each, so that a pixel tells where it comes from; and targets, one class each."""
    images = tf.ones([count, SIDE, SIDE, 3]) * tf.range(count, dtype=tf.float32)[:, None, None, None]
    return images, tf.eye(count)


def noise(settings: Augmentation, count: int) -> Noise:
    return Noise.draw(count, 0, 7, settings)


def test_mixup_blends_neighbours_by_one_share() -> None:
    images, targets = batch(6)
    drawn = noise(Augmentation(mixup=1.0), 6)
    mixed, shares = (values.numpy() for values in mix(images, targets, drawn))
    share = drawn.shares["mixup"].numpy()
    assert len(set(share.round(6))) == 6
    for number in range(6):
        other = number ^ 1
        np.testing.assert_allclose(mixed[number], share[number] * number + (1 - share[number]) * other, rtol=1e-5)
        assert shares[number, number] == pytest.approx(share[number], abs=1e-5)
        assert shares[number, other] == pytest.approx(1 - share[number], abs=1e-5)


def test_cutmix_takes_a_box_and_as_much_of_the_target() -> None:
    images, targets = batch(40)
    mixed, shares = (values.numpy() for values in mix(images, targets, noise(Augmentation(cutmix=1.0), 40)))
    areas = []
    for number in range(40):
        taken = mixed[number, :, :, 0] == (number ^ 1)
        assert (taken | (mixed[number, :, :, 0] == number)).all()
        rows, columns = np.flatnonzero(taken.any(1)), np.flatnonzero(taken.any(0))
        assert taken.sum() == len(rows) * len(columns)
        assert shares[number, number ^ 1] == pytest.approx(taken.mean(), abs=1e-6)
        areas.append(taken.mean())
    assert 0.1 < np.mean(areas) < 0.5  # half of it on average, less what hangs over the border
    assert len(set(areas)) > 15


def test_with_both_each_image_gets_one_of_the_two() -> None:
    images, targets = batch(200)
    mixed, shares = (values.numpy() for values in mix(images, targets, noise(Augmentation(mixup=1.0, cutmix=1.0), 200)))
    boxed = np.array([len(np.unique(image)) == 2 for image in mixed])
    assert 50 < boxed.sum() < 130
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)


def test_the_last_of_an_odd_number_stays_alone() -> None:
    images, targets = batch(3)
    mixed, shares = mix(images, targets, noise(Augmentation(mixup=1.0), 3))
    np.testing.assert_array_equal(mixed[2], images[2])
    np.testing.assert_array_equal(shares[2], targets[2])


def test_a_part_of_a_batch_is_what_it_is_in_the_whole() -> None:
    settings = Augmentation(mixup=0.4, cutmix=1.0)
    images, targets = batch(10)
    whole = mix(images, targets, noise(settings, 10))
    part = mix(images[4:], targets[4:], noise(settings, 10).part(4, 10))
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one[4:], other)


def test_small_alphas_draw_shares_near_both_ends() -> None:
    share = noise(Augmentation(mixup=0.05), 1000).shares["mixup"].numpy()
    assert np.isfinite(share).all()
    assert ((share < 0.05) | (share > 0.95)).mean() > 0.7
    assert 0.4 < share.mean() < 0.6


def test_noise_is_a_function_of_seed_and_step() -> None:
    settings = Augmentation(mixup=1.0)
    one, same, step, seed = (Noise.draw(8, *key, settings) for key in ((3, 5), (3, 5), (3, 6), (4, 5)))
    np.testing.assert_array_equal(one.values, same.values)
    np.testing.assert_array_equal(one.shares["mixup"], same.shares["mixup"])
    for other in (step, seed):
        assert not np.intersect1d(one.values, other.values).size
        assert not np.intersect1d(one.shares["mixup"], other.shares["mixup"]).size
    assert one.values.shape == (8, len(COLUMNS))
    assert set(one.whole("shift_x", 1).numpy()) <= {-1, 0, 1}
