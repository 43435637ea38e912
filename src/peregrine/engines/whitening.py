"""Filters that turn small patches of an image into uncorrelated numbers of equal size; for both engines.

Source: Coates and Ng, "Learning Feature Representations with K-means", 2012, section 2; with its numbers and the
negated copies from airbench94 (github.com/KellerJordan/cifar10-airbench).
"""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine import arrays

SHRINKAGE = 5e-4  # added to the eigenvalues, so that faint directions are not blown up
NULL = 1e-6  # share of the largest eigenvalue below which a direction holds rounding errors alone
_PIXELS_AT_ONCE = 1 << 19

Floats = npt.NDArray[np.floating]


def filter_count(images: Floats, patch: int) -> int:
    """How many filters the images support: two for each direction in which their patches vary.

    Args:
        images: float `(n, H, W, 3)`, normalised.
        patch: side of a patch in pixels.
    """
    eigenvalues, _ = _principal_directions(images, patch)
    return 2 * int((eigenvalues > NULL * eigenvalues[0]).sum())


def whitening_filters(images: Floats, patch: int, count: int) -> npt.NDArray[np.float32]:
    """The `count / 2` strongest directions as filters, then their negations: float32 `(count, 3, patch, patch)`.

    Args:
        images: float `(n, H, W, 3)`, normalised; a few thousand 32-pixel images are enough.
        patch: side of a patch in pixels.
        count: even, at most `filter_count`; directions beyond that would amplify rounding errors.
    """
    eigenvalues, directions = _principal_directions(images, patch)
    half = count // 2
    filters = directions[:half] / np.sqrt(eigenvalues[:half, None] + SHRINKAGE)
    # An eigenvector has no sign of its own; with a fixed one, every LAPACK gives the same filters.
    largest = np.take_along_axis(filters, np.abs(filters).argmax(1)[:, None], 1)
    filters = (filters * np.sign(largest)).reshape(half, images.shape[-1], patch, patch).astype(np.float32)
    return np.concatenate([filters, -filters])


def patch_moments(images: Floats, patch: int, place: arrays.Place) -> npt.NDArray[np.float64]:
    """The mean product of each two numbers of a patch: `(D, D)`, D in the order (channel, y, x).

    In float64, a block of images at a time. Libraries and devices agree to 1e-12 of the largest.
    """
    size = images.shape[-1] * patch**2
    moments = np.zeros((size, size))
    patches = 0
    at_once = max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), at_once):
        windows = _windows(place.bring(images[start : start + at_once]), patch, place.xp)
        moments += place.fetch(place.xp.matrix_transpose(windows) @ windows)
        patches += windows.shape[0]
    return moments / patches


def _windows(images: Any, patch: int, xp: Any) -> Any:
    """All patches, float64 `(n, D)`."""
    pixels = xp.astype(images, xp.float64)
    rows, columns = images.shape[1] - patch + 1, images.shape[2] - patch + 1
    shifted = [
        pixels[:, down : down + rows, right : right + columns, :]
        for down, right in itertools.product(range(patch), repeat=2)
    ]
    return xp.reshape(xp.stack(shifted, axis=-1), (-1, images.shape[-1] * patch**2))


def _principal_directions(images: Floats, patch: int) -> tuple[Floats, Floats]:
    """Eigenvalues `(D,)`, the largest first, and eigenvectors `(D, D)`, one per row, of the patches' second moments.

    The sums may come from a GPU; these few numbers are always worked out by LAPACK on the CPU.
    """
    place = arrays.choose("whitening", math.prod(images.shape[:3]))
    eigenvalues, vectors = np.linalg.eigh(patch_moments(images, patch, place))
    return eigenvalues[::-1], vectors.T[::-1]
