"""Changes of an image's values, not of its geometry; `box` finds the pixels that `cut_out` and `mixing` change.

Images are float32 `(B, H, W, 3)` in 0..255. A loop over three channels is a slow loop, so what is the same for every
pixel is repeated over a row first: five times as fast. `torch.lerp` with zeros and ones is exact, and much faster than
`torch.where`.
"""

import torch
from torch import Tensor

from peregrine.augmentation import Augmentation
from peregrine.engines.pytorch.plan import Draws


def recolour(images: Tensor, draws: Draws, settings: Augmentation) -> Tensor:
    """Change the distance of pixels from their channel's mean, then add to all of them; cut off at 0 and 255."""
    means = images.mean((1, 2), keepdim=True)
    stretch = (1 + settings.contrast * draws.signed("contrast"))[:, None, None, None]
    lift = (255 * settings.brightness * draws.signed("brightness"))[:, None, None, None]
    added = (means * (1 - stretch) + lift).repeat(1, 1, images.shape[2], 1)
    return (images * stretch).add_(added).clamp_(0, 255)


def cut_out(images: Tensor, draws: Draws, side: int, mean: Tensor) -> Tensor:
    """Replace a square, its centre anywhere in the image, so it may hang over the border.

    Source: DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout".

    Args:
        side: in pixels.
        mean: float32 `(3,)`, what the square becomes.
    """
    _, height, width, _ = images.shape
    sides = torch.full((len(images),), float(side), device=images.device)
    hole = box(draws.uniform("cutout_y") * height, draws.uniform("cutout_x") * width, sides, sides, height, width)
    return torch.lerp(images, mean.repeat(width, 1), hole)


def box(centre_y: Tensor, centre_x: Tensor, box_height: Tensor, box_width: Tensor, height: int, width: int) -> Tensor:
    """Which pixels of an image have their middle inside a box: 1 or 0 for each channel, float32 `(B, H, W, 3)`.

    Args:
        centre_y, centre_x: in pixels from the image's corner, `(B,)`.
        box_height, box_width: in pixels, `(B,)`.
    """
    rows = _inside(centre_y, box_height, height)
    columns = _inside(centre_x, box_width, width).repeat_interleave(3, dim=1)
    return (rows[:, :, None] * columns[:, None, :]).view(-1, height, width, 3)


def _inside(centre: Tensor, length: Tensor, size: int) -> Tensor:
    """Along one axis: 1 or 0, float32 `(B, size)`."""
    middles = torch.arange(size, device=centre.device) + 0.5
    return ((middles - centre[:, None]).abs() < length[:, None] / 2).float()
