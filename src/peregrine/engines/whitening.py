"""Filters that turn small patches of an image into uncorrelated numbers of equal size; for both engines.

Source: Coates and Ng, "Learning Feature Representations with K-means", 2012, section 2; with its numbers and the
negated copies from airbench94 (github.com/KellerJordan/cifar10-airbench).
"""

import numpy as np
import numpy.typing as npt

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


def _principal_directions(images: Floats, patch: int) -> tuple[Floats, Floats]:
    """Eigenvalues `(D,)`, the largest first, and eigenvectors `(D, D)`, one per row, of the patches' second moments.

    D is 3 × patch², in the order (channel, y, x). In float64, a block of images at a time.
    """
    size = images.shape[-1] * patch**2
    moments = np.zeros((size, size))
    patches = 0
    at_once = max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), at_once):
        block = images[start : start + at_once].astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(block, (patch, patch), (1, 2)).reshape(-1, size)
        moments += windows.T @ windows
        patches += len(windows)
    eigenvalues, vectors = np.linalg.eigh(moments / patches)
    return eigenvalues[::-1], vectors.T[::-1]
