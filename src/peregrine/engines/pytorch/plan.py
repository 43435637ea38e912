"""What happens to the training images in an epoch, drawn at once: a pure function of (seed, epoch, image).

Nothing here keeps a state or touches a global generator, and every draw is made on the CPU: making it again gives the
same, on every device, in every process and wherever the pixels lie.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from peregrine.augmentation import Augmentation

COLUMNS = (
    "rotation", "shear", "height", "width", "zoom_y", "zoom_x", "brightness", "contrast", "cutout_y", "cutout_x",
    "box_y", "box_x", "kind",
)  # fmt: skip

_NEED_NOISE = (
    "rotation", "shear", "height_shift", "width_shift", "zoom", "brightness", "contrast", "cutout", "cutmix",
)  # fmt: skip
_SHARES = ("mixup", "cutmix")  # settings whose shares come from a Beta distribution
_ORDER, _SHIFT, _FLIP, _FIRST_SIDE, _NOISE, _MIXUP, _CUTMIX = range(7)  # what a generator is for


@dataclass(frozen=True)
class Draws:
    """What happens to each of B images.

    Attributes:
        down, right: int64 `(B,)`, by how many pixels the window onto each image moves.
        flipped: bool `(B,)`, whether each image is mirrored left to right.
        noise: uniform, float32 `(B, len(COLUMNS))` in [0, 1); `(B, 0)` where nothing needs it.
        shares: Beta-distributed, float32 `(B,)` in [0, 1], by the name of the setting that needs them.
    """

    down: Tensor
    right: Tensor
    flipped: Tensor
    noise: Tensor
    shares: dict[str, Tensor]

    def at(self, which: Tensor) -> "Draws":
        """Those of some of the images."""
        shares = {name: values[which] for name, values in self.shares.items()}
        return Draws(self.down[which], self.right[which], self.flipped[which], self.noise[which], shares)

    def to(self, device: torch.device) -> "Draws":
        """The same on a device."""
        shares = {name: values.to(device) for name, values in self.shares.items()}
        down, right, flipped, noise = (part.to(device) for part in (self.down, self.right, self.flipped, self.noise))
        return Draws(down, right, flipped, noise, shares)

    def uniform(self, column: str) -> Tensor:
        """In [0, 1), `(B,)`."""
        return self.noise[:, COLUMNS.index(column)]

    def signed(self, column: str) -> Tensor:
        """In [-1, 1), `(B,)`."""
        return 2 * self.uniform(column) - 1


@dataclass(frozen=True)
class EpochPlan:
    """What happens to N images in one epoch.

    Attributes:
        order: int64 `(N,)`, the image at each place of the epoch.
        ids: the same in the host's memory, for who reads the images from a disk.
        draws: what happens to each image, by its index, not by its place.
    """

    order: Tensor
    ids: npt.NDArray[np.int64]
    draws: Draws

    def to(self, device: torch.device) -> "EpochPlan":
        """The same plan on a device."""
        return EpochPlan(self.order.to(device), self.ids, self.draws.to(device))


def plan_epoch(count: int, seed: int, epoch: int, settings: Augmentation) -> EpochPlan:
    """Draw one epoch, counted from 0, for `count` images."""
    order = torch.randperm(count, generator=_generator(seed, _ORDER, epoch))
    reach = settings.translate
    shifts = torch.randint(-reach, reach + 1, (2, count), generator=_generator(seed, _SHIFT, epoch))
    columns = len(COLUMNS) if any(getattr(settings, name) for name in _NEED_NOISE) else 0
    draws = Draws(
        down=shifts[0],
        right=shifts[1],
        flipped=_flipped(count, seed, epoch, settings.flip),
        noise=torch.rand((count, columns), generator=_generator(seed, _NOISE, epoch)),
        shares=_shares(count, seed, epoch, settings),
    )
    return EpochPlan(order, order.numpy(), draws)


def _flipped(count: int, seed: int, epoch: int, kind: str) -> Tensor:
    if kind == "none":
        return torch.zeros(count, dtype=torch.bool)
    if kind == "random":
        return torch.rand(count, generator=_generator(seed, _FLIP, epoch)) < 0.5
    first_side = torch.rand(count, generator=_generator(seed, _FIRST_SIDE)) < 0.5
    return first_side ^ (epoch % 2 == 1)


def _shares(count: int, seed: int, epoch: int, settings: Augmentation) -> dict[str, Tensor]:
    """Draws from Beta(α, α); by NumPy, because PyTorch's take no generator."""
    found = {}
    for name, purpose in zip(_SHARES, (_MIXUP, _CUTMIX), strict=True):
        if alpha := getattr(settings, name):
            values = np.random.default_rng((seed, purpose, epoch)).beta(alpha, alpha, count)
            found[name] = torch.from_numpy(values.astype(np.float32))
    return found


def _generator(seed: int, *keys: int) -> torch.Generator:
    """A generator on the CPU, so that every device draws the same; other keys give independent streams."""
    state = np.random.SeedSequence((seed, *keys)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)
