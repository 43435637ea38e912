"""All images of a data set in one row, so that they can be compared across splits."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from peregrine.data.checks.base import Member
from peregrine.dataset import Dataset, Images, Labels, Splits

_BLOCK_PIXELS = 4096 * 32 * 32  # read at once

Indices = npt.NDArray[np.intp]


class Pool:
    """The images of train, validation and test, in this order; memory maps are read where they are looked at, only.

    Attributes:
        parts: name and images of each split that the data has.
        labels: int64 `(N,)`, indices into `class_names`.
        split_numbers: `(N,)`, indices into `parts`.
    """

    def __init__(self, splits: Splits) -> None:
        named = (("train", splits.train), ("validation", splits.validation), ("test", splits.test))
        self.parts: list[tuple[str, Dataset]] = [(name, part) for name, part in named if part is not None]
        self.class_names = splits.class_names
        self.image_size = splits.train.image_size
        self.labels: Labels = np.concatenate([part.labels for _, part in self.parts])
        lengths = [len(part) for _, part in self.parts]
        self.split_numbers: Indices = np.repeat(np.arange(len(lengths)), lengths)
        self._starts = np.concatenate([[0], np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: npt.ArrayLike) -> Images:
        """The images at `indices`, in that order: uint8 `(n, H, W, 3)`."""
        wanted = np.asarray(indices, np.intp)
        found = np.empty((len(wanted), *self.image_size, 3), np.uint8)
        for number, (_, part) in enumerate(self.parts):
            here = np.flatnonzero(self.split_numbers[wanted] == number)
            if len(here):
                found[here] = part.images[wanted[here] - self._starts[number]]
        return found

    def blocks(self) -> Iterator[tuple[slice, Images]]:
        """All images in pieces that fit into memory, each with its place in the row."""
        size = max(1, _BLOCK_PIXELS // (self.image_size[0] * self.image_size[1]))
        for start, (_, part) in zip(self._starts, self.parts, strict=False):
            for first in range(0, len(part), size):
                images = part.images[first : first + size]
                yield slice(int(start) + first, int(start) + first + len(images)), images

    def member(self, index: int) -> Member:
        """An image as findings name it."""
        number = self.split_numbers[index]
        name, part = self.parts[number]
        label = self.class_names[self.labels[index]]
        return Member(str(part.ids[index - self._starts[number]]), name, label, int(index))

    def members(self, indices: Sequence[int] | Indices) -> tuple[Member, ...]:
        """Several of them."""
        return tuple(self.member(int(index)) for index in indices)
