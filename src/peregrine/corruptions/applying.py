"""One corruption of many images: by its name, its severity and a seed."""

from collections.abc import Callable

import numpy as np

from peregrine.corruptions import blur, digital, noise, weather
from peregrine.corruptions.published import settings
from peregrine.dataset import Images
from peregrine.errors import UsageError, suggestion

SEVERITIES = (1, 2, 3, 4, 5)

# In the paper's order. A new one adds its published settings too.
CORRUPTIONS: dict[str, Callable[..., Images]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}


def corrupt(images: Images, name: str, severity: int, seed: int = 0) -> Images:
    """The images with one corruption; the same arguments give the same pixels.

    Every severity draws the same numbers, as far as it needs as many: so that severities differ by their strength.

    Args:
        images: uint8 `(N, H, W, 3)`, H = W. The published settings for the nearest size are taken.
        name: a key of `CORRUPTIONS`.
        severity: 1 to 5.

    Returns:
        uint8 `(N, H, W, 3)`, a new array.

    Raises:
        UsageError: there is no such corruption or severity, or the images are not square.
    """
    if name not in CORRUPTIONS:
        raise UsageError(f"unknown corruption {name!r}{suggestion(name, CORRUPTIONS)}; known: {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise UsageError(f"a corruption's severity is 1 to 5; got {severity}")
    if images.shape[1] != images.shape[2]:
        raise UsageError(f"corruptions take square images; got {images.shape[1]}×{images.shape[2]} pixels")
    if not len(images):
        return images.copy()
    random = np.random.default_rng([seed, list(CORRUPTIONS).index(name)])
    return CORRUPTIONS[name](images, random, *settings(images.shape[1]).strengths[name][severity - 1])
