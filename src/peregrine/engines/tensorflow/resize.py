"""Smaller images for the first part of a run: bilinear and antialiased, a matrix for rows and one for columns."""

from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.engines.tensorflow.library import tf


def to_side(images: Any, side: int) -> Any:
    """Float32 `(B, H, W, 3)` to `(B, side, side, 3)`; those of that size are left alone."""
    _, height, width, channels = images.shape
    if (height, width) == (side, side):
        return images
    rows = tf.matmul(matrix(height, side), tf.reshape(images, [-1, height, width * channels]))
    across = tf.transpose(tf.reshape(rows, [-1, side, width, channels]), [2, 0, 1, 3])
    columns = tf.matmul(matrix(width, side), tf.reshape(across, [width, -1]))
    return tf.transpose(tf.reshape(columns, [side, -1, side, channels]), [1, 2, 0, 3])


def matrix(before: int, after: int) -> npt.NDArray[np.float32]:
    """Takes a line of pixels to a shorter one, `(after, before)`: a triangle as wide as two new pixels around each."""
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale
    distances = np.abs(np.arange(before) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = np.maximum(0, 1 - distances)
    result: npt.NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return result
