"""What a replica makes of its part of a batch: gathered, augmented, mixed with its neighbours, and made smaller."""

from typing import Any

import numpy as np

from peregrine.engines.tensorflow import strategy
from peregrine.engines.tensorflow.augment import augment
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.mixing import mix
from peregrine.engines.tensorflow.noise import Noise
from peregrine.engines.tensorflow.resize import to_side
from peregrine.recipe import Recipe

_COINS = 2**32  # beside the seed, where epochs are smaller: decides which side of each image `alternating` starts with


class Batches:
    """The batches of a recipe over a data set of `count` images.

    Args:
        mean: of the images' channels, 0..255.
    """

    def __init__(self, recipe: Recipe, count: int, class_count: int, mean: list[float]) -> None:
        self._recipe = recipe
        self._class_count = class_count
        self._mean = mean
        alternates = recipe.augmentation.flip == "alternating"
        self._first_sides = np.random.default_rng((recipe.seed, _COINS)).random(count) < 0.5 if alternates else None
        # One loop over the pixels instead of dozens; see `affine.py` for what it is worth.
        self._augment = tf.function(self._augmented, jit_compile=True)

    def batch(
        self, images: Any, labels: Any, places: Any, ids: Any, epoch: Any, step: Any, side: int
    ) -> tuple[Any, Any]:
        """This replica's part of a global batch, inside a graph.

        Args:
            images: uint8 `(M, H, W, 3)`.
            labels: int32 `(M,)`.
            places: rows of `images` that make the global batch, int32 `(B,)`.
            ids: the same images' indices in the data set, int32 `(B,)`.
            epoch: counted from 0, int32.
            step: over the whole run, counted from 0, int32.
            side: of the images that come out.

        Returns:
            float32 `(b, side, side, 3)` in 0..255, and targets float32 `(b, C)`.
        """
        settings = self._recipe.augmentation
        noise = Noise.draw(tf.size(places), self._recipe.seed, step, settings)
        start, stop = strategy.part(tf.size(places))
        noise, places, ids = noise.part(start, stop), places[start:stop], ids[start:stop]
        mirrored = self._mirrored(noise, ids, epoch)
        chosen = self._augment(tf.gather(images, places), noise.values, mirrored)
        targets = tf.one_hot(tf.gather(labels, places), self._class_count)
        if noise.shares:
            chosen, targets = mix(chosen, targets, noise)
        return to_side(chosen, side), targets

    def _augmented(self, images: Any, noise: Any, mirrored: Any) -> Any:
        return augment(images, Noise(noise, {}), mirrored, self._recipe.augmentation, self._mean)

    def _mirrored(self, noise: Noise, ids: Any, epoch: Any) -> Any:
        flip = self._recipe.augmentation.flip
        if flip == "random":
            return noise.uniform("flip") < 0.5
        if flip == "alternating":
            return tf.gather(self._first_sides, ids) ^ (epoch % 2 == 1)
        return None
