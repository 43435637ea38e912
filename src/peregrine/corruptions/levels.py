"""Between grey levels and what is reckoned with: uint8 in 0..255, and float32 in 0..1."""

from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.dataset import Images

Values = npt.NDArray[np.float32]

_CRUMB = 1e-3  # of a grey level: what float32 may lose on the way


def to_values(images: Images) -> Values:
    """Grey levels as float32 in 0..1."""
    values: Values = images.astype(np.float32) / np.float32(255)
    return values


def to_levels(values: npt.NDArray[np.floating[Any]]) -> Images:
    """Clipped to 0..1 and cut down to whole grey levels, as the published code does; not rounded."""
    levels: npt.NDArray[np.floating[Any]] = np.clip(values, 0, 1)
    levels *= 255
    levels += _CRUMB
    return levels.astype(np.uint8)
