"""Stands in for `libraries.cupy` and `libraries.cudf` where there is no GPU, so that the way to them is tested.

Its arrays are array-api-strict's, on a device that NumPy cannot look into: what mixes them with the host's, or
uses more than the Array API standard, fails.
"""

from typing import Any

import array_api_strict as xp
import numpy as np
import numpy.typing as npt
from pandas import DataFrame

__all__ = ["DataFrame", "bring", "check", "fetch", "use", "xp"]

_HOST, _ELSEWHERE = xp.Device("CPU_DEVICE"), xp.Device("device1")


def use(gpu: int) -> None:
    """There is one."""
    assert gpu == 0


def bring(array: Any) -> Any:
    return array if hasattr(array, "to_device") and not isinstance(array, np.ndarray) else _copied(array)


def _copied(array: Any) -> Any:
    return xp.asarray(np.array(array), device=_ELSEWHERE)


def fetch(array: Any) -> npt.NDArray[Any]:
    return np.array(np.from_dlpack(array.to_device(_HOST)))


def check() -> None:
    """It works."""
