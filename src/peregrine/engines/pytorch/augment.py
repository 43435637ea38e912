"""Random changes of the training images as a pure function of (seed, epoch, image).

Nothing here keeps a state or touches a global generator: an epoch's draws are made at once by `plan_epoch`, and making
them again gives the same. A batch is then cut out of the images by one gather, in which shifting, reflecting at the
border and flipping are index arithmetic, so every pixel comes through exactly.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peregrine.augmentation import Augmentation

_ORDER, _SHIFT, _FLIP, _FIRST_SIDE = range(4)  # what a generator is for


@dataclass(frozen=True)
class EpochPlan:
    """What happens to N images in one epoch.

    Attributes:
        order: int64 `(N,)`, the image at each place of the epoch.
        down, right: int64 `(N,)`, by how many pixels the window onto each image moves.
        flipped: bool `(N,)`, whether each image is mirrored left to right.
    """

    order: Tensor
    down: Tensor
    right: Tensor
    flipped: Tensor

    def to(self, device: torch.device) -> "EpochPlan":
        """The same plan on a device."""
        return EpochPlan(*(part.to(device) for part in (self.order, self.down, self.right, self.flipped)))


def plan_epoch(count: int, seed: int, epoch: int, settings: Augmentation) -> EpochPlan:
    """Draw one epoch, counted from 0, for `count` images."""
    order = torch.randperm(count, generator=_generator(seed, _ORDER, epoch))
    reach = settings.translate
    shifts = torch.randint(-reach, reach + 1, (2, count), generator=_generator(seed, _SHIFT, epoch))
    return EpochPlan(order, shifts[0], shifts[1], _flipped(count, seed, epoch, settings.flip))


def cut(images: Tensor, plan: EpochPlan, places: slice) -> tuple[Tensor, Tensor]:
    """The changed images at some places of the epoch.

    Args:
        images: uint8 `(N, H, W, 3)`.

    Returns:
        uint8 `(B, H, W, 3)`, and the indices of the images, int64 `(B,)`.
    """
    count, height, width, channels = images.shape
    which = plan.order[places]
    rows = _reflected(torch.arange(height, device=images.device) + plan.down[which, None], height)
    columns = _reflected(torch.arange(width, device=images.device) + plan.right[which, None], width)
    columns = torch.where(plan.flipped[which, None], columns.flip(1), columns)
    pixels = (which[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
    flat = images.view(count * height * width, channels)
    return flat.index_select(0, pixels.flatten()).view(len(which), height, width, channels), which


def to_network(images: Tensor, size: int) -> Tensor:
    """uint8 `(B, H, W, 3)` to float32 `(B, 3, size, size)` in 0..255, channels last; smaller ones antialiased."""
    x = images.permute(0, 3, 1, 2)
    if x.shape[-1] != size:
        # Resizing uint8 is six times faster on a CPU; CUDA knows it for floats alone.
        x = x if x.device.type == "cpu" else x.float()
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    return x.float().contiguous(memory_format=torch.channels_last)


def _flipped(count: int, seed: int, epoch: int, kind: str) -> Tensor:
    if kind == "none":
        return torch.zeros(count, dtype=torch.bool)
    if kind == "random":
        return torch.rand(count, generator=_generator(seed, _FLIP, epoch)) < 0.5
    first_side = torch.rand(count, generator=_generator(seed, _FIRST_SIDE)) < 0.5
    return first_side ^ (epoch % 2 == 1)


def _generator(seed: int, *keys: int) -> torch.Generator:
    """A generator on the CPU, so that every device draws the same; other keys give independent streams."""
    state = np.random.SeedSequence((seed, *keys)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Fold indices outside 0..size-1 back in, without repeating the border pixel; up to size-1 beyond it."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
