"""Data that is larger than the memory for it, read by a thread while the steps work on what was read before."""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from peregrine import host
from peregrine.dataset import Dataset
from peregrine.engines.pytorch.pipeline import AHEAD, Resident, Source, as_tensor

Ids = npt.NDArray[np.int64]


@contextlib.contextmanager
def source(dataset: Dataset, device: torch.device) -> Iterator[Source]:
    """Resident where the memory allows it, else streamed. On a GPU, it may take a third of what is free there."""
    room = host.resident_bytes()
    if device.type == "cuda":
        room = min(room, torch.cuda.mem_get_info(device)[0] // 3)
    if dataset.images.nbytes <= room:
        yield Resident.of(dataset, device)
    else:
        with contextlib.closing(Streamed(dataset, device)) as streamed:
            yield streamed


class Streamed:
    """A data set of which no more than a few blocks are in memory.

    Attributes:
        labels: int64 `(N,)`, on the device.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.labels = as_tensor(dataset.labels).to(device)
        self._images = dataset.images
        self._device = device
        self._reader = ThreadPoolExecutor(1, "peregrine-reader")
        self._reading: deque[tuple[Ids, Future[tuple[Tensor, Tensor]]]] = deque()  # what was foreseen

    def __len__(self) -> int:
        return len(self.labels)

    def block(self, order: Tensor, wanted: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """See `Source`; read ahead, unless something else was foreseen."""
        if self._reading and not np.array_equal(self._reading[0][0], wanted[0]):
            self._forget()
        for ids in wanted[len(self._reading) :]:
            self._reading.append((ids, self._reader.submit(self._read, ids)))
        images, which = self._reading.popleft()[1].result()
        return images.to(self._device, non_blocking=True), which.to(self._device, non_blocking=True)

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Source`."""
        order = np.arange(len(self))
        blocks = [order[start : start + size] for start in range(0, len(self), size)]
        for number, labels in enumerate(torch.split(self.labels, size)):
            images, _ = self.block(labels, blocks[number : number + 1 + AHEAD])
            yield images, labels

    def close(self) -> None:
        """End the thread."""
        self._forget()
        self._reader.shutdown()

    def _forget(self) -> None:
        """Drop what is read and what is still to be read."""
        for _, future in self._reading:
            future.cancel()
        self._reading.clear()

    def _read(self, ids: Ids) -> tuple[Tensor, Tensor]:
        """Images from front to back, which a disk likes best, and where among them those of `ids` are."""
        there = np.argsort(ids)
        where = np.empty_like(there)
        where[there] = np.arange(len(ids))
        images = self._images[ids[there]]
        found = torch.from_numpy(images), torch.from_numpy(where)
        return found if self._device.type == "cpu" else (found[0].pin_memory(), found[1].pin_memory())
