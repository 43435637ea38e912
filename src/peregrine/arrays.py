"""Arrays: NumPy's on the CPU or CuPy's on an NVIDIA GPU, behind one namespace, that of the Array API standard.

What both can compute is written once, with the standard's functions alone; so the tests can run it on any library that
keeps to the standard. Sums are of whole numbers where they can be, as integers or in floats that hold them exactly:
then their order does not matter, and every library on every device gives the same bits.

Source: Python array API standard 2023.12, data-apis.org/array-api.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine import device


@dataclass(frozen=True)
class Place:
    """Where arrays are computed.

    Attributes:
        name: `cpu` or `cuda`.
        xp: the namespace.
        bring: takes an array from the host's memory there; what is there already stays.
        fetch: takes an array from there to the host's memory, and waits for it.
        pixels: how many are best worked on at once: what fits into a core's cache, or what keeps a GPU busy.
    """

    name: str
    xp: Any
    bring: Callable[[Any], Any]
    fetch: Callable[[Any], npt.NDArray[Any]]
    pixels: int


CPU = Place("cpu", np, np.asarray, np.asarray, pixels=1 << 16)


def choose(task: str, amount: int, gpu: int = 0) -> Place:
    """Where a task is to be done; see `device.serving`.

    Args:
        task: a key of `device.PAYS_FROM`.
        amount: how much there is to do, in the task's unit.
        gpu: which one, if it comes to that; this thread uses it from now on.

    Raises:
        UsageError, MissingDevice, MissingDependency: as `device.serving`.
    """
    library = device.serving("arrays", task, amount)
    if library is None:
        return CPU
    library.use(gpu)
    return Place("cuda", library.xp, library.bring, library.fetch, pixels=1 << 22)


def planes_to_pixels(planes: npt.NDArray[Any], place: Place) -> npt.NDArray[Any]:
    """Images `(N, 3, H, W)` as `(N, H, W, 3)`, in the host's memory; on the CPU a view."""
    return place.fetch(place.xp.permute_dims(place.bring(planes), (0, 2, 3, 1)))
