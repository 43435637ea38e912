"""Changes that blend each training image, and its target, with another of the same batch.

The other is its neighbour in the batch, whose order is random already: 0 with 1, 2 with 3; the last of an odd number
has none. So a batch that is split between ranks at an even place gives what it gives as a whole.
"""

import torch
from torch import Tensor

from peregrine.engines.pytorch.colour import box
from peregrine.engines.pytorch.plan import Draws


def mix(images: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Apply `mixup` or `cutmix`, whichever has shares; with both, each image gets one of the two.

    Args:
        images: float32 `(B, H, W, 3)`.
        labels: int64 `(B,)`.

    Returns:
        The mixed images; the other images' labels, int64 `(B,)`; and the share of each target that is theirs, float32
        `(B,)`.
    """
    partner = partners(len(images), images.device)
    taken = _taken(draws, *images.shape[1:3])
    mixed = torch.lerp(images, images.index_select(0, partner), taken)
    return mixed, labels[partner], taken.mean((1, 2, 3))


def partners(count: int, device: torch.device) -> Tensor:
    """0 ↔ 1, 2 ↔ 3, …: int64 `(count,)`."""
    index = torch.arange(count, device=device)
    other = index ^ 1
    return torch.where(other < count, other, index)


def _taken(draws: Draws, height: int, width: int) -> Tensor:
    """Of each pixel, the share that comes from the other image: float32 `(B, H, W, 3)` or `(B, 1, 1, 1)`."""
    if "cutmix" not in draws.shares:
        return (1 - draws.shares["mixup"])[:, None, None, None]
    side = torch.sqrt(1 - draws.shares["cutmix"])
    centre_y, centre_x = draws.uniform("box_y") * height, draws.uniform("box_x") * width
    boxed = box(centre_y, centre_x, side * height, side * width, height, width)
    if "mixup" not in draws.shares:
        return boxed
    blended = (draws.uniform("kind") < 0.5)[:, None, None, None]
    return torch.lerp(boxed, (1 - draws.shares["mixup"])[:, None, None, None], blended.float())
