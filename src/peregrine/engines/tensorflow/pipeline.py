"""Batches of a resident data set: uint8 on the device, gathered and augmented in the graph.

The order of the images and every random change is a function of (seed, epoch, step) alone, so a run can go on at any
step as if it had never stopped.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Dataset
from peregrine.engines.tensorflow import augment
from peregrine.engines.tensorflow.library import tf
from peregrine.recipe import Recipe

_COINS = -1  # the step whose noise decides which side of each image `alternating` starts with


class Resident:
    """A data set in the device's memory.

    Attributes:
        count: number of images.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.count = len(dataset)
        self._images = tf.constant(dataset.images)
        self._labels = tf.constant(dataset.labels, tf.int32)

    def batch(self, indices: Any) -> tuple[Any, Any]:
        """uint8 images `(B, H, W, 3)` and int32 labels `(B,)`, for use inside a graph."""
        return tf.gather(self._images, indices), tf.gather(self._labels, indices)


class TrainingBatches:
    """The training data as the steps of a recipe see it.

    Attributes:
        steps_per_epoch: the last step of an epoch takes what is left.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe) -> None:
        self.steps_per_epoch = -(-len(dataset) // recipe.batch_size)
        self._data = Resident(dataset)
        self._recipe = recipe
        self._first_sides = self._noise(len(dataset), _COINS)[:, augment.FLIP] < 0.5

    def order(self, epoch: int) -> npt.NDArray[np.int32]:
        """The order in which an epoch, counted from 0, visits the images: a permutation, `(N,)`."""
        generator = np.random.default_rng((self._recipe.seed, epoch))
        return generator.permutation(self._data.count).astype(np.int32)

    def batch(self, order: Any, epoch: Any, step: Any) -> tuple[Any, Any]:
        """Augmented float32 images `(B, H, W, 3)` in 0..255 and int32 labels, for use inside a graph.

        Args:
            order: the epoch's permutation, int32 `(N,)`.
            epoch: counted from 0, int32.
            step: within the epoch, counted from 0, int32.
        """
        size = self._recipe.batch_size
        indices = order[step * size : tf.minimum((step + 1) * size, self._data.count)]
        images, labels = self._data.batch(indices)
        noise = self._noise(tf.size(indices), epoch * self.steps_per_epoch + step)
        settings = self._recipe.augmentation
        return augment.augment(images, noise, self._mirrored(noise, indices, epoch), settings), labels

    def _mirrored(self, noise: Any, indices: Any, epoch: Any) -> Any:
        flip = self._recipe.augmentation.flip
        if flip == "random":
            return noise[:, augment.FLIP] < 0.5
        if flip == "alternating":
            return tf.gather(self._first_sides, indices) ^ (epoch % 2 == 1)
        return None

    def _noise(self, count: Any, step: Any) -> Any:
        """Uniform in [0, 1), `(count, COLUMNS)`; Philox, so every device draws the same."""
        seed = tf.stack([tf.constant(self._recipe.seed, tf.int64), tf.cast(step, tf.int64)])
        return tf.random.stateless_uniform([count, augment.COLUMNS], seed, alg="philox")
