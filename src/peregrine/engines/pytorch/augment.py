"""Random changes of training images, each of one image alone; `mixing.py` has those of two.

Cropping and flipping are index arithmetic within one gather, so every pixel comes through exactly and stays uint8. All
other changes work on floats. What is changed how is in the `Draws` of the images.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peregrine.augmentation import Augmentation
from peregrine.engines.pytorch import affine
from peregrine.engines.pytorch.colour import cut_out, recolour
from peregrine.engines.pytorch.plan import Draws


def augment(images: Tensor, which: Tensor, draws: Draws, settings: Augmentation, mean: Tensor) -> Tensor:
    """Apply everything that `settings` asks for, except for mixing.

    Args:
        images: uint8 `(N, H, W, 3)`.
        which: int64 `(B,)`, those to take out of them.
        draws: of B images.
        mean: of the training images' channels, float32 `(3,)` in 0..255; what `cutout` leaves.

    Returns:
        `(B, H, W, 3)` in 0..255: uint8 when images are only moved, else float32.
    """
    if affine.is_affine(settings):
        _, height, width, _ = images.shape
        # The mirroring comes free of charge with the map, and the shift with the places.
        rows, columns = places(draws, height, width)
        read = affine.maps(draws, settings, height, width)
        images = affine.resample(images.index_select(0, which), read, settings.fill, rows, columns)
    else:
        images = move(images, which, draws)
    if settings.brightness or settings.contrast:
        images = recolour(images.float(), draws, settings)
    if settings.cutout:
        images = cut_out(images.float(), draws, settings.cutout, mean)
    return images


def move(images: Tensor, which: Tensor, draws: Draws) -> Tensor:
    """Shift and mirror images: uint8 `(N, H, W, 3)` to uint8 `(B, H, W, 3)`."""
    count, height, width, channels = images.shape
    rows, columns = places(draws, height, width)
    columns = torch.where(draws.flipped[:, None], columns.flip(1), columns)
    pixels = (which[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
    flat = images.view(count * height * width, channels)
    return flat.index_select(0, pixels.flatten()).view(len(which), height, width, channels)


def places(draws: Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of shifted images, the border reflected (abc → cbabc): int64 `(B, H)` and `(B, W)`."""
    device = draws.down.device
    rows = _reflected(torch.arange(height, device=device) + draws.down[:, None], height)
    return rows, _reflected(torch.arange(width, device=device) + draws.right[:, None], width)


def to_network(images: Tensor, size: int) -> Tensor:
    """`(B, H, W, 3)` in 0..255 to float32 `(B, 3, size, size)`, channels last; smaller ones antialiased."""
    x = images.permute(0, 3, 1, 2)
    if x.shape[-1] != size:
        if x.device.type != "cpu":
            x = x.float()  # CUDA resizes floats alone
        elif x.dtype != torch.uint8:
            x = x.round().to(torch.uint8)  # six times faster on a CPU
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    return x.float().contiguous(memory_format=torch.channels_last)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Fold indices outside 0..size-1 back in, without repeating the border pixel; up to size-1 beyond it."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
