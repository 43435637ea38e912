"""CuPy: arrays on an NVIDIA GPU, with the names of the Array API standard. See `peregrine.arrays`."""

from typing import Any

import array_api_compat.cupy as xp
import cupy
import numpy as np
import numpy.typing as npt

__all__ = ["bring", "check", "fetch", "use", "xp"]


def use(gpu: int) -> None:
    """Compute on this GPU, in this thread."""
    cupy.cuda.Device(gpu).use()


def bring(array: Any) -> Any:
    """Copy an array of the host to the GPU; one of the GPU stays."""
    return cupy.asarray(array)


def fetch(array: Any) -> npt.NDArray[Any]:
    """Copy an array of the GPU to the host, when it is computed."""
    found: npt.NDArray[Any] = cupy.asnumpy(array)
    return found


def check() -> None:
    """Compute something, by a kernel of CuPy's own and by cuBLAS; raises whatever they raise."""
    numbers = bring(np.arange(4, dtype=np.float64))
    if (float(xp.sum(numbers)), float(numbers @ numbers)) != (6.0, 14.0):
        raise RuntimeError("it computes wrong sums")
