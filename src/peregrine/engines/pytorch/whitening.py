"""Filters that turn small patches of an image into uncorrelated numbers of equal size.

Source: Coates and Ng, "Learning Feature Representations with K-means", 2012, section 2; with its numbers and the
negated copies from airbench94 (github.com/KellerJordan/cifar10-airbench).
"""

import torch
from torch import Tensor

SHRINKAGE = 5e-4  # added to the eigenvalues, so that faint directions are not blown up
NULL = 1e-6  # share of the largest eigenvalue below which a direction holds rounding errors alone
_PIXELS_AT_ONCE = 1 << 19


def filter_count(images: Tensor, patch: int) -> int:
    """How many filters the images support: two for each direction in which their patches vary.

    Args:
        images: float32 `(n, 3, H, W)`, normalised.
        patch: side of a patch in pixels.
    """
    eigenvalues, _ = _principal_directions(images, patch)
    return 2 * int((eigenvalues > NULL * eigenvalues[0]).sum())


def whitening_filters(images: Tensor, patch: int, count: int) -> Tensor:
    """The `count / 2` strongest directions as filters, then their negations: float32 `(count, 3, patch, patch)`.

    Args:
        images: float32 `(n, 3, H, W)`, normalised; a few thousand 32-pixel images are enough.
        patch: side of a patch in pixels.
        count: even, at most `filter_count`; directions beyond that would amplify rounding errors.
    """
    eigenvalues, directions = _principal_directions(images, patch)
    half = count // 2
    filters = directions[:half] / (eigenvalues[:half, None] + SHRINKAGE).sqrt()
    # An eigenvector has no sign of its own; with a fixed one, every LAPACK gives the same filters.
    largest = filters.gather(1, filters.abs().argmax(1, keepdim=True))
    filters = (filters * largest.sign()).reshape(half, images.shape[1], patch, patch).float()
    return torch.cat([filters, -filters])


def _principal_directions(images: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues `(D,)`, the largest first, and eigenvectors `(D, D)`, one per row, of the patches' second moments.

    D is 3 × patch². In float64 on the CPU, a block of images at a time.
    """
    size = images.shape[1] * patch**2
    moments = torch.zeros(size, size, dtype=torch.float64)
    patches = 0
    for block in torch.split(images.cpu(), max(1, _PIXELS_AT_ONCE // images[0, 0].numel())):
        windows = block.double().unfold(2, patch, 1).unfold(3, patch, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, size)
        moments += windows.T @ windows
        patches += len(windows)
    eigenvalues, vectors = torch.linalg.eigh(moments / patches)
    return eigenvalues.flip(0), vectors.T.flip(0)
