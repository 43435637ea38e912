"""Images of one colour, and grey ones among coloured."""

import numpy as np
import numpy.typing as npt

from peregrine import progress
from peregrine.data.checks.base import Case, Finding, count, finding, have
from peregrine.data.checks.pool import Pool
from peregrine.dataset import Images

_GREY = 8  # of 255: channels of grey images differ by less, after JPEG
_FEW = 0.1  # of the images; where more are grey, it belongs to the data


def find(pool: Pool) -> list[Finding]:
    """Blank images, and grey ones where they are few."""
    blank, grey = (np.zeros(len(pool), np.bool_) for _ in range(2))
    with progress.bar("look at colours", len(pool), "image") as advance:
        for place, images in pool.blocks():
            blank[place] = is_blank(images)
            grey[place] = is_grey(images)
            advance(len(images))
    grey &= ~blank
    some = 0 < grey.sum() <= _FEW * len(pool)
    blanks, greys = (pool.members(np.flatnonzero(mask)) for mask in (blank, grey & some))
    return [
        *finding(
            "blank",
            f"{count(len(blanks))} {have(len(blanks))} one colour only; look whether they are meant",
            [Case((member,)) for member in blanks],
        ),
        *finding(
            "grey",
            f"{count(len(greys))} {have(len(greys))} no colour, as most others have; look whether they are meant",
            [Case((member,)) for member in greys],
        ),
    ]


def is_blank(images: Images) -> npt.NDArray[np.bool_]:
    """Which images, uint8 `(n, H, W, 3)`, have the same colour everywhere: `(n,)`."""
    found: npt.NDArray[np.bool_] = np.all(images == images[:, :1, :1], axis=(1, 2, 3))
    return found


def is_grey(images: Images) -> npt.NDArray[np.bool_]:
    """Which images, uint8 `(n, H, W, 3)`, have no colour anywhere: `(n,)`."""
    # in pieces of a channel: all differences at once would be twice the images
    red, green, blue = (images[..., channel] for channel in range(3))
    high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    found: npt.NDArray[np.bool_] = np.all(high - low < _GREY, axis=(1, 2))
    return found
