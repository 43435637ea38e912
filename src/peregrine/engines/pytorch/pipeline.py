"""The training data, and the batches that the steps of a recipe see.

A batch is a function of (seed, epoch, step) alone, so a run can go on at any step as if it had never stopped; and it is
the same one wherever the pixels lie and however many ranks share it.
"""

import math
import statistics
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from peregrine import arrays
from peregrine.dataset import Dataset, ImageArray, Images, at_once, channel_statistics, packed
from peregrine.engines.pytorch.augment import augment, to_network
from peregrine.engines.pytorch.mixing import mix
from peregrine.engines.pytorch.plan import EpochPlan, plan_epoch
from peregrine.errors import RecipeError
from peregrine.recipe import Recipe

AHEAD = 3  # blocks that are named before they are needed
SUMMED = 1000  # images at once, if they are small


class Source(Protocol):
    """Where images come from.

    Attributes:
        labels: int64 `(N,)`, on the device.
    """

    labels: Tensor

    def __len__(self) -> int: ...

    def block(self, order: Tensor, wanted: Sequence[npt.NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """Some of the images, on the device.

        Args:
            order: which, int64 `(B,)`, on the device.
            wanted: the same in the host's memory, and after it what will be asked for next.

        Returns:
            uint8 `(M, H, W, 3)`, and which of them are meant, int64 `(B,)`.
        """
        ...

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images from first to last, with their labels, `size` at once."""
        ...


class Resident:
    """A data set on the device.

    Attributes:
        images: uint8 `(N, H, W, 3)`.
        labels: int64 `(N,)`.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device) -> Self:
        """Bring a data set to the device; on the CPU a memory-mapped one stays where it is."""
        return cls(_whole(dataset.images, device), as_tensor(dataset.labels).to(device))

    def __len__(self) -> int:
        return len(self.labels)

    def block(self, order: Tensor, wanted: Sequence[npt.NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """All images, for they are here anyway."""
        return self.images, order

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Source`."""
        return zip(torch.split(self.images, size), torch.split(self.labels, size), strict=True)


@dataclass(frozen=True)
class Batch:
    """Training images and what they show.

    Attributes:
        images: float32 `(B, 3, S, S)` in 0..255, channels last, at the size that is due.
        labels: int64 `(B,)`.
        mixed: with mixup or cutmix, the labels of the images that were mixed in, int64 `(B,)`, and their shares of the
            targets, float32 `(B,)`.
    """

    images: Tensor
    labels: Tensor
    mixed: tuple[Tensor, Tensor] | None


class Batches:
    """Augmented batches of one size; the few images that an epoch leaves over are others in each epoch.

    Attributes:
        data: the images that they are of.
        size: images in every batch, of all ranks together.
        mine: which of them are this rank's: of equal number where that is possible, and from an even place on, for
            `mixing` pairs neighbours.
        per_epoch: steps in an epoch.
        total: steps in the whole run.

    Raises:
        RecipeError: a batch has too few images for so many ranks.
    """

    def __init__(self, data: Source, recipe: Recipe, rank: int = 0, ranks: int = 1) -> None:
        self.data = data
        self._recipe = recipe
        self.size = min(recipe.batch_size, len(data))
        if self.size < 2 * ranks:
            raise RecipeError(
                f"batch_size gives each of {ranks} processes two images or more of every batch, {2 * ranks} in all; "
                f"got {self.size}; use a larger one or fewer processes"
            )
        self.mine = _part(self.size, rank, ranks)
        self.per_epoch = len(data) // self.size
        self.total = self.per_epoch * recipe.epochs
        self._mean = mean_colour(data, self._full_size) if recipe.augmentation.cutout else torch.zeros(3)

    def plan(self, epoch: int) -> EpochPlan:
        """What happens to the images in an epoch, counted from 0."""
        plan = plan_epoch(len(self.data), self._recipe.seed, epoch, self._recipe.augmentation)
        return plan.to(self.data.labels.device)

    def batch(self, plan: EpochPlan, epoch: int, step: int) -> Batch:
        """This rank's part of one batch of an epoch's plan; epoch and step within it are counted from 0."""
        return self._made(plan, epoch, step, self.mine)

    def shown(self, epoch: int, count: int) -> Images:
        """The first images of an epoch as the network sees them, `count` at most: uint8 `(N, S, S, 3)`."""
        images = self._made(self.plan(epoch), epoch, 0, slice(0, min(count, self.size))).images
        shown: Images = images.permute(0, 2, 3, 1).round().to(torch.uint8).cpu().numpy()
        return shown

    def usual(self) -> Tensor:
        """Images of the first batch at the size that most batches have: float32 `(B, 3, S, S)`."""
        sizes = [self._image_size(step) for step in range(self.total)]
        epoch, step = divmod(sizes.index(statistics.mode(sizes)), self.per_epoch)
        return self.batch(self.plan(epoch), epoch, step).images

    def _made(self, plan: EpochPlan, epoch: int, step: int, part: slice) -> Batch:
        """A part of a batch."""
        parts = [
            slice(first * self.size + part.start, first * self.size + part.stop)
            for first in range(step, min(step + 1 + AHEAD, self.per_epoch))
        ]
        order = plan.order[parts[0]]
        block, which = self.data.block(order, [plan.ids[part] for part in parts])
        draws, labels, mixed = plan.draws.at(order), self.data.labels[order], None
        images = augment(block, which, draws, self._recipe.augmentation, self._mean)
        if draws.shares:
            images, others, shares = mix(images.float(), labels, draws)
            mixed = others, shares
        return Batch(to_network(images, self._image_size(epoch * self.per_epoch + step)), labels, mixed)

    def _image_size(self, done: int) -> int:
        growth = self._recipe.input.growth
        return next((small for until, small in growth if done < until * self.total), self._full_size)

    @property
    def _full_size(self) -> int:
        size = self._recipe.input.size
        assert size != "auto"  # `resolve` has filled it in
        return size


def mean_colour(data: Source, size: int) -> Tensor:
    """Of all images' channels, float32 `(3,)`; summed as integers, so that it is the same on every device.

    Args:
        size: side of the images, in pixels.
    """
    total = torch.zeros(3, dtype=torch.int64, device=data.labels.device)
    pixels = 0
    for images, _ in data.in_order(at_once(SUMMED, size)):
        total += images.sum((1, 2), dtype=torch.int32).sum(0)  # five times as fast as in int64 at once
        pixels += images[..., 0].numel()
    return (total.double() / pixels).float()


def colours(data: Source, train: Dataset) -> tuple[list[float], list[float]]:
    """`channel_statistics` of the training images: on the GPU, if they are there and are many, without a copy."""
    if isinstance(data, Resident) and data.images.is_cuda:
        place = arrays.choose("statistics", data.images[..., 0].numel(), data.images.device.index)
        if place is not arrays.CPU:
            return channel_statistics(place.xp.from_dlpack(data.images), place)
    return channel_statistics(train.images)


def _whole(images: ImageArray, device: torch.device) -> Tensor:
    """All images on the device; many of them come to a GPU block by block, and not by a copy in the host's memory."""
    if device.type == "cuda":
        place = arrays.choose("packing", math.prod(images.shape[:3]), device.index or 0)
        if place is not arrays.CPU:
            return as_tensor(packed(images, place))
    return as_tensor(images[:]).to(device)


def as_tensor(array: Any) -> Tensor:
    """The same memory as a tensor, of an array on the host or on a GPU; it must not be written to."""
    if not isinstance(array, np.ndarray):
        return torch.utils.dlpack.from_dlpack(array)  # waits, on the GPU, for what is still being computed
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))


def _part(count: int, rank: int, ranks: int) -> slice:
    """A rank's places within a batch of `count` images."""
    start, stop = (number * count // ranks // 2 * 2 for number in (rank, rank + 1))
    return slice(start, count if rank == ranks - 1 else stop)
