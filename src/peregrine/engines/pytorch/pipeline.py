"""The training data on the device, and the batches that the steps of a recipe see.

A batch is a function of (seed, epoch, step) alone, so a run can go on at any step as if it had never stopped.
"""

import warnings
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from peregrine.dataset import Dataset, Images
from peregrine.engines.pytorch import augment
from peregrine.recipe import Recipe


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
        return cls(as_tensor(dataset.images).to(device), as_tensor(dataset.labels).to(device))

    def __len__(self) -> int:
        return len(self.labels)


class Batches:
    """Augmented batches of one size; the few images that an epoch leaves over are others in each epoch.

    Attributes:
        size: images in every batch.
        per_epoch: steps in an epoch.
        total: steps in the whole run.
    """

    def __init__(self, data: Resident, recipe: Recipe) -> None:
        self._data = data
        self._recipe = recipe
        self.size = min(recipe.batch_size, len(data))
        self.per_epoch = len(data) // self.size
        self.total = self.per_epoch * recipe.epochs

    def plan(self, epoch: int) -> augment.EpochPlan:
        """What happens to the images in an epoch, counted from 0."""
        plan = augment.plan_epoch(len(self._data), self._recipe.seed, epoch, self._recipe.augmentation)
        return plan.to(self._data.images.device)

    def batch(self, plan: augment.EpochPlan, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """One batch of an epoch's plan; epoch and step within it are counted from 0.

        Returns:
            float32 `(B, 3, S, S)` in 0..255, channels last, at the size that is due; and int64 labels `(B,)`.
        """
        images, which = self._cut(plan, epoch, step, self.size)
        return images, self._data.labels[which]

    def shown(self, epoch: int, count: int) -> Images:
        """The first images of an epoch as the network sees them, `count` at most: uint8 `(N, S, S, 3)`."""
        images, _ = self._cut(self.plan(epoch), epoch, 0, min(count, self.size))
        shown: Images = images.permute(0, 2, 3, 1).round().to(torch.uint8).cpu().numpy()
        return shown

    def _cut(self, plan: augment.EpochPlan, epoch: int, step: int, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` images of a batch, and which they are."""
        first = step * self.size
        images, which = augment.cut(self._data.images, plan, slice(first, first + count))
        return augment.to_network(images, self._image_size(epoch * self.per_epoch + step)), which

    def _image_size(self, done: int) -> int:
        size = self._recipe.input.size
        assert size != "auto"  # `resolve` has filled it in
        return next((small for until, small in self._recipe.input.growth if done < until * self.total), size)


def as_tensor(array: npt.NDArray[Any]) -> Tensor:
    """The same memory as a tensor that must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))
