"""What both engines take from the training data before they train."""

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Dataset, ImageArray, Images
from peregrine.recipe import Recipe

SAMPLED_PIXELS = 5000 * 32 * 32


def sample(images: ImageArray) -> Images:
    """A few thousand images, evenly spread, for a data set may be sorted by class."""
    count = min(len(images), max(100, SAMPLED_PIXELS // (images.shape[1] * images.shape[2])))
    return images[np.linspace(0, len(images) - 1, count).astype(np.intp)]


def class_weights(train: Dataset, recipe: Recipe) -> npt.NDArray[np.float32]:
    """The weight of each class in the loss, float32 `(C,)`; over the training images, they average to 1."""
    counts = train.counts
    if recipe.class_weights == "none":
        return np.ones(len(counts), np.float32)
    return (len(train) / (len(counts) * counts)).astype(np.float32)
