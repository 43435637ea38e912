"""The training data on its way into the steps: resident on the devices, or streamed block by block.

The order of the images and every random change is a function of (seed, epoch, step) alone, so a run can go on at any
step as if it had never stopped, and a streamed run is the resident run.
"""

import contextlib
import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from peregrine import arrays, host
from peregrine.dataset import Dataset, ImageArray, channel_statistics, packed
from peregrine.engines.tensorflow import strategy
from peregrine.engines.tensorflow.library import tf


@dataclass(frozen=True)
class Block:
    """Images at hand, and which of them the next steps see.

    Attributes:
        images: uint8 `(M, H, W, 3)`, on each replica's device.
        labels: int32 `(M,)`.
        places: int32 `(n,)`, the rows of `images` in the order of the steps.
        ids: int32 `(n,)`, the same images' indices in the data set.
    """

    images: Any
    labels: Any
    places: npt.NDArray[np.int32]
    ids: npt.NDArray[np.int32]


class Source(Protocol):
    """Where blocks come from."""

    def block(self, order: npt.NDArray[np.int32], start: int, stop: int) -> Block:
        """The images at places `start` to `stop` of an epoch's order."""
        ...


class Resident:
    """The whole data set in the memory of every replica's device.

    Attributes:
        images: uint8 `(N, H, W, 3)`, on each.
    """

    def __init__(self, dataset: Dataset, chosen: Any) -> None:
        self.images = _whole(dataset.images, chosen)
        self._labels = strategy.on_replicas(chosen, lambda: tf.constant(dataset.labels, tf.int32))

    def block(self, order: npt.NDArray[np.int32], start: int, stop: int) -> Block:
        """The same images for every block."""
        return Block(self.images, self._labels, order[start:stop], order[start:stop])


class Streamed:
    """A data set that is larger than the memory for it: the next block is read while the steps work on this one."""

    def __init__(self, dataset: Dataset, chosen: Any) -> None:
        self._dataset = dataset
        self._strategy = chosen
        self._reader = ThreadPoolExecutor(1, "peregrine-reader")
        self._next: tuple[Any, Future[Any]] | None = None

    def block(self, order: npt.NDArray[np.int32], start: int, stop: int) -> Block:
        """Read it, unless it was foreseen; and foresee that the one after it is as long."""
        ids = order[start:stop]
        foreseen, self._next = self._next, None
        images = foreseen[1].result() if foreseen and np.array_equal(foreseen[0], ids) else self._read(ids)
        after = order[stop : 2 * stop - start]
        if len(after):
            self._next = after, self._reader.submit(self._read, after)
        labels = self._dataset.labels[ids].astype(np.int32)
        return Block(
            strategy.on_replicas(self._strategy, lambda: tf.constant(images)),
            strategy.on_replicas(self._strategy, lambda: tf.constant(labels)),
            np.arange(len(ids), dtype=np.int32),
            ids,
        )

    def close(self) -> None:
        """End the thread."""
        self._next = None
        self._reader.shutdown(cancel_futures=True)

    def _read(self, ids: npt.NDArray[np.int32]) -> Any:
        """From front to back, which a disk likes best."""
        images = np.empty((len(ids), *self._dataset.images.shape[1:]), np.uint8)
        places = np.argsort(ids)
        images[places] = self._dataset.images[ids[places]]
        return images


@contextlib.contextmanager
def source(dataset: Dataset, chosen: Any) -> Iterator[Source]:
    """Resident where the memory allows it, else streamed; for the replicas of the `chosen` strategy.

    On GPUs, it may take a third of what one has: TensorFlow does not tell how much of that is free.
    """
    room = host.resident_bytes()
    gpu = host.gpu_memory_bytes() if strategy.on_gpus(chosen) else None
    if gpu is not None:
        room = min(room, gpu // 3)
    if dataset.images.nbytes <= room:
        yield Resident(dataset, chosen)
    else:
        with contextlib.closing(Streamed(dataset, chosen)) as streamed:
            yield streamed


def colours(data: Source, train: Dataset) -> tuple[list[float], list[float]]:
    """`channel_statistics` of the training images: on the GPU, if they are there and are many, without a copy."""
    if isinstance(data, Resident) and "GPU" in data.images[0].device:
        place = arrays.choose("statistics", math.prod(train.images.shape[:3]))
        if place is not arrays.CPU:
            return channel_statistics(place.xp.from_dlpack(tf.experimental.dlpack.to_dlpack(data.images[0])), place)
    return channel_statistics(train.images)


def _whole(images: ImageArray, chosen: Any) -> tuple[Any, ...]:
    """All images on the device of each replica; many of them come to a single GPU block by block.

    Then no copy of all of them is in the host's memory.
    """
    if chosen.num_replicas_in_sync == 1 and tf.config.list_logical_devices("GPU"):
        place = arrays.choose("packing", math.prod(images.shape[:3]))
        if place is not arrays.CPU:
            array = packed(images, place)
            place.fetch(array[:1, :1, :1, :])  # waits for all of it, as TensorFlow does not know CuPy's streams
            return (as_tensor(array),)
    found = images[:]
    return strategy.on_replicas(chosen, lambda: tf.constant(found))


def as_tensor(array: Any) -> Any:
    """The same memory as a tensor, of an array that may be written to and that nobody computes any more."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int32]:
    """The order in which an epoch, counted from 0, visits the images: a permutation, `(count,)`."""
    return np.random.default_rng((seed, epoch)).permutation(count).astype(np.int32)
