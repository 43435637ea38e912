"""Labelled images in memory or memory-mapped: `Dataset`, and the three `Splits` that a run works with."""

import hashlib
import itertools
import math
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine import arrays
from peregrine.errors import DataError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Places = slice | npt.NDArray[np.integer[Any]]

MEASURED_PIXELS = 4096 * 32 * 32  # at once
USUAL_SIDE = 64  # pixels; of larger images, fewer go through a network at once


class Selection:
    """Some images of a memory map, in any order: what is indexed is read, and nothing else.

    Has of an array what the rest of Peregrine needs; `[:]` is all of it.

    Args:
        images: uint8 `(M, H, W, 3)`.
        places: `(N,)`, which of them.
    """

    def __init__(self, images: Images, places: npt.NDArray[np.intp]) -> None:
        self.mapped = np.asarray(images)  # the same map, without what its class does at every index
        self._places = places
        self.dtype = images.dtype
        self.ndim = images.ndim
        self.shape = (len(places), *images.shape[1:])
        self.nbytes = math.prod(self.shape) * images.itemsize

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: int | np.integer[Any] | Places) -> Images:
        return self.mapped[self._places[key]]

    def __iter__(self) -> Iterator[Images]:
        return (self.mapped[place] for place in self._places)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)

    def select(self, places: Places) -> "Selection":
        """Some of these; nothing is read."""
        return Selection(self.mapped, self._places[places])


ImageArray = Images | Selection


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with one label each.

    Attributes:
        images: uint8 `(N, H, W, 3)` RGB, an `ndarray`, a `memmap`, or a `Selection` of one.
        labels: int64 `(N,)`, each an index into `class_names`.
        ids: `(N,)` strings that name each image to a person: a file, or `test/17`.
        class_names: one name per class. Data meets a model by these names, never by index.
    """

    images: ImageArray
    labels: Labels
    ids: npt.NDArray[np.str_]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise DataError(f"images are uint8 (N, H, W, 3); got {images.dtype} {images.shape}")
        if labels.dtype != np.int64 or labels.shape != images.shape[:1] or self.ids.shape != labels.shape:
            raise DataError(
                f"labels are int64 (N,) and ids (N,), one for each of {len(images)} images; "
                f"got labels {labels.dtype} {labels.shape} and ids {self.ids.shape}"
            )
        if len(set(self.class_names)) != len(self.class_names):
            raise DataError(f"class names differ from each other; got {', '.join(self.class_names)}")
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(self.class_names)):
            raise DataError(f"labels are 0 to {len(self.class_names) - 1}; got {labels.min()} to {labels.max()}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Images per class, `(C,)`."""
        return np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted hashes of (class name, shape, pixels) of every image.

        The same images have the same fingerprint whatever file format they came from and in whatever order.
        """
        return self._fingerprints[0]

    @property
    def ordered_fingerprint(self) -> str:
        """SHA-256 over the same hashes in the order of the images; the order of the classes does not matter."""
        return self._fingerprints[1]

    @cached_property
    def _fingerprints(self) -> tuple[str, str]:
        """Both, for every image has to be read."""
        shape = np.asarray(self.images.shape[1:], np.int64).tobytes()
        prefixes = [hashlib.sha256(name.encode() + b"\0" + shape) for name in self.class_names]
        digests = []
        images = itertools.chain.from_iterable(blocks(self.images))
        for image, label in zip(images, self.labels.tolist(), strict=True):
            digest = prefixes[label].copy()
            digest.update(np.ascontiguousarray(image))
            digests.append(digest.digest())
        by_hash, in_order = (hashlib.sha256(b"".join(order)).hexdigest() for order in (sorted(digests), digests))
        return by_hash, in_order

    def subset(self, indices: npt.ArrayLike | slice) -> "Dataset":
        """The images at `indices`, in that order; of a memory map, none is read."""
        chosen = indices if isinstance(indices, slice) else np.asarray(indices, np.intp)
        images: ImageArray
        if isinstance(self.images, Selection):
            images = self.images.select(chosen)
        elif isinstance(self.images, np.memmap) and not isinstance(chosen, slice):
            images = Selection(self.images, chosen)
        else:
            images = self.images[chosen]
        return replace(self, images=images, labels=self.labels[chosen], ids=self.ids[chosen])

    def in_class_order(self, class_names: Sequence[str]) -> "Dataset":
        """The same images with labels that index `class_names`, the order that a model was trained with.

        Raises:
            DataError: a class of this data set is unknown to the model.
        """
        wanted = tuple(class_names)
        if wanted == self.class_names:
            return self
        unknown = [name for name in self.class_names if name not in wanted]
        if unknown:
            raise DataError(
                f"the model knows the classes {', '.join(wanted)}; the data has others: {', '.join(unknown)}"
            )
        order = np.array([wanted.index(name) for name in self.class_names], np.int64)
        return replace(self, labels=order[self.labels], class_names=wanted)


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set, each with its own job: train fits, validation chooses, test judges.

    Attributes:
        train: what is trained on; empty in data that is only judged on.
        validation: what every choice is made on; None when nothing may be chosen.
        test: what the final verdict is taken on, once.
        source: what the user named, `cifar10` or a folder; written into the run, so that later verbs find the data.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset
    source: str = "memory"
    notes: tuple[str, ...] = field(default=())  # what a person should know: files left out, a split that was made

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names

    def part(self, name: str) -> Dataset:
        """`train`, `validation` or `test`.

        Raises:
            DataError: there is no such part.
        """
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        part = parts.get(name)
        if not part:
            present = ", ".join(key for key, value in parts.items() if value)
            raise DataError(f"this data has the splits {present}; got {name!r}")
        return part


def stratified_split(labels: Labels, fraction: float, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Indices of the larger and the smaller part, both sorted, with `fraction` of every class in the smaller.

    A class with two images or more has at least one on each side.
    """
    generator = np.random.default_rng(seed)
    small = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        small.append(members[:count])
    chosen = np.sort(np.concatenate(small)) if small else np.empty(0, np.intp)
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def at_once(most: int, size: int, side: int = USUAL_SIDE) -> int:
    """How many images of `size` pixels to work on at once: `most` up to a side of `side` pixels, fewer of larger ones.

    Together, the larger ones have as many pixels: what a network makes of them takes no more memory.
    """
    return max(1, most * side**2 // max(side, size) ** 2)


def blocks(images: ImageArray) -> Iterator[Images]:
    """All images, uint8 `(N, H, W, 3)`, in order, some at a time.

    What was read of a memory map is let go of afterwards: the file stays in the system's cache, where there is room,
    and does not count as memory of this process.
    """
    size = max(1, MEASURED_PIXELS // (images.shape[1] * images.shape[2]))
    whole = images if isinstance(images, Selection) else np.asarray(images)  # without what a map does at every index
    for start in range(0, len(images), size):
        yield whole[start : start + size]
        _let_go(images.mapped if isinstance(images, Selection) else images)


def _let_go(images: Images) -> None:
    base: Any = images
    while isinstance(base, np.ndarray):
        base = base.base
    # what is written into a private map would be lost
    if isinstance(base, mmap.mmap) and not images.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def packed(images: ImageArray, place: arrays.Place) -> Any:
    """All images in one array at a place: uint8 `(N, H, W, 3)`; on the CPU without a copy, where that can be.

    They are brought block by block, so that of a memory map no more than a block is in the host's memory.
    """
    if place is arrays.CPU:
        return images[:]
    like = place.bring(images[:0])
    found = place.xp.empty(images.shape, dtype=like.dtype, device=like.device)
    start = 0
    for block in blocks(images):
        found[start : start + len(block), ...] = place.bring(block)
        start += len(block)
    return found


def channel_statistics(images: ImageArray, there: arrays.Place | None = None) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each RGB channel over all pixels, in 0..255.

    From sums of whole numbers, in one pass: the same to the bit on every device.

    Args:
        there: where `images` lie, if not in the host's memory.

    Raises:
        UsageError, MissingDevice, MissingDependency: as `device.serving`.
    """
    pixels = math.prod(images.shape[:3])
    place = there or arrays.choose("statistics", pixels)
    count = max(1, place.pixels // (images.shape[1] * images.shape[2]))
    sums = np.zeros((2, 3), np.int64)
    parts: Iterable[Any] = (images,) if there else blocks(images)
    for block in parts:
        for start in range(0, block.shape[0], count):
            some = place.bring(block[start : min(start + count, block.shape[0]), ...])
            sums += place.fetch(_sums(some, place.xp)).astype(np.int64)
    mean, square = sums / pixels
    return mean.tolist(), np.sqrt(np.maximum(square - mean**2, 0)).tolist()


def _sums(images: Any, xp: Any) -> Any:
    """Of each channel's values and of their squares: uint64 `(2, 3)`. In integers, whose sums need no order.

    Along rows first, side by side, in 32 bits, which is fast everywhere and enough for images of 66,000 rows.
    """
    count, height, width, channels = images.shape
    values = xp.reshape(xp.astype(images, xp.uint32), (count, height, width * channels))
    totals = []
    for numbers in (values, values * values):
        columns = xp.sum(xp.sum(numbers, axis=1, dtype=xp.uint32), axis=0, dtype=xp.uint64)
        totals.append(xp.sum(xp.reshape(columns, (width, channels)), axis=0, dtype=xp.uint64))
    return xp.stack(totals)
