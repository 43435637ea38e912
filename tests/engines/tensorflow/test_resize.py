"""Smaller images against Pillow's and PyTorch's antialiased bilinear."""

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
from PIL import Image

from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.resize import matrix, to_side

pytestmark = pytest.mark.tensorflow
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("side", [24, 20, 16, 9])
def test_gives_what_pillow_gives(side: int) -> None:
    expected = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)) for image in IMAGES]
    found = to_side(tf.constant(IMAGES, tf.float32), side).numpy()
    np.testing.assert_allclose(found, expected, atol=1.01)  # Pillow rounds after each of two passes


def test_the_same_size_is_left_alone() -> None:
    images = tf.constant(IMAGES, tf.float32)
    assert to_side(images, 32) is images


def test_rows_and_columns_are_not_mixed_up() -> None:
    tall = np.random.default_rng(0).normal(size=(2, 12, 6, 3)).astype(np.float32)
    expected = np.einsum("oh,bhwc,pw->bopc", matrix(12, 4), tall, matrix(6, 4))
    np.testing.assert_allclose(to_side(tf.constant(tall), 4), expected, atol=1e-5)
