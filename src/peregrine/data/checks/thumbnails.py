"""Images made small, so that large ones cost no more to compare than small ones."""

import numpy as np
from PIL import Image

from peregrine.data import packing
from peregrine.dataset import Images


def shrunk(images: Images, side: int) -> Images:
    """Square images uint8 `(n, S, S, 3)` averaged down to `(n, side, side, 3)`; smaller ones as they are."""
    if images.shape[1] <= side:
        return images

    def shrink(image: Images) -> Images:
        return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))

    return np.stack(list(packing.parallel(shrink, images)))
