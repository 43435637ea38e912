"""Weather and light: snow, frost on the lens, fog, a day that is too bright."""

import functools

import numpy as np

from peregrine.corruptions.blur import magnified, smeared
from peregrine.corruptions.levels import Values, to_levels, to_values
from peregrine.dataset import Images
from peregrine.metrics import Floats

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # Source: ITU-R BT.601, as in OpenCV's RGB2GRAY
_TEXTURES = 4
_TINT = np.array([0.92, 0.98, 1.0], np.float32)  # ice is a little blue


def snow(
    images: Images,
    random: np.random.Generator,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius: float,
    smear: float,
    keep: float,
) -> Images:
    """Whiten the image and let flakes fall over it, once as they are and once turned by half a circle.

    Args:
        mean, deviation: of the normal noise that flakes are made of.
        zoom: how much the flakes are enlarged.
        threshold: what of the noise is no flake.
        radius, smear: of the flakes' motion, in pixels, at -135° to -45°.
        keep: share of the image's own colours.
    """
    values = to_values(images)
    flakes = mean + deviation * random.standard_normal((*images.shape[:3], 1), np.float32)
    flakes = magnified(flakes, zoom)
    flakes[flakes < threshold] = 0
    flakes = to_values(to_levels(flakes))
    flakes = smeared(flakes, random.uniform(-135, -45, len(images)), radius, smear)
    white = np.maximum(values, 1.5 * (values @ _GREY)[..., None] + 0.5)
    return to_levels(keep * values + (1 - keep) * white + flakes + flakes[:, ::-1, ::-1])


def frost(images: Images, random: np.random.Generator, keep: float, ice: float) -> Images:
    """Lay a texture of ice over the image.

    The published one takes photographs of frost. Ours is made of noise, see `ice_textures`, so an error under frost is
    not one of CIFAR-10-C's.

    Args:
        keep: factor of the image.
        ice: factor of the texture.
    """
    size = images.shape[1]
    textures = ice_textures(2 * size)
    chosen = random.integers(0, len(textures), len(images))
    top, left = random.integers(0, 2 * size, (2, len(images), 1)) + np.arange(size)[None, None, :]
    wrapped = textures[chosen[:, None, None], top[:, :, None] % (2 * size), left[:, None, :] % (2 * size)]
    return to_levels(keep * to_values(images) + ice * wrapped[..., None] * _TINT)


@functools.cache
def ice_textures(side: int) -> Values:
    """Textures of frost, float32 `(4, side, side)` in 0..1, periodic, always the same.

    Needles are where smooth noise, drawn out along a line, crosses zero; several directions of them lie on a veil that
    is thick in some places and thin in others.
    """
    random = np.random.default_rng(0)
    textures = np.empty((_TEXTURES, side, side), np.float32)
    for texture in textures:
        needles = np.zeros((side, side))
        for turn in random.uniform(0, np.pi, 5):
            lines = np.exp(-((_smooth_noise(side, 1.6, turn, 4, random) / 0.2) ** 2))
            needles += lines * np.clip(0.5 + 0.5 * _smooth_noise(side, 2, 0, 1, random), 0, 1)
        texture[:] = 0.5 + 0.2 * _standard(_standard(needles) + 0.7 * _smooth_noise(side, 2, 0, 1, random))
    return np.clip(textures, 0, 1)


def _smooth_noise(side: int, slope: float, turn: float, stretch: float, random: np.random.Generator) -> Floats:
    """Periodic noise of mean 0 and deviation 1, whose spectrum falls as frequency^-slope.

    Args:
        turn: the direction in which it is drawn out, in radians.
        stretch: how many times.
    """
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    frequency = np.hypot(along * stretch, across)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(random.standard_normal((side, side))) * frequency**-slope
    spectrum[0, 0] = 0
    return _standard(np.fft.irfft2(spectrum, (side, side)))


def _standard(values: Floats) -> Floats:
    result: Floats = (values - values.mean()) / values.std()
    return result


def fog(images: Images, random: np.random.Generator, strength: float, decay: float) -> Images:
    """Add a cloud to the image, and darken both until the brightest pixel would be as bright as it was.

    Args:
        strength: of the cloud at its thickest, with white as 1.
        decay: how much smoother the cloud is from one octave to the next.
    """
    values = to_values(images)
    brightest = values.max((1, 2, 3), keepdims=True)
    cloudy = values + np.float32(strength) * plasma(len(images), images.shape[1], decay, random)[..., None]
    return to_levels(cloudy * (brightest / (brightest + strength)))


def plasma(count: int, size: int, decay: float, random: np.random.Generator) -> Values:
    """Clouds by the diamond-square algorithm, float32 `(count, size, size)`: periodic, from 0 to 1, then cut to size.

    Each halving of the grid adds uniform noise to the mean of four neighbours, first in the middles of squares, then
    in the middles of their sides. The published code gives the noise an amplitude that is the square of a number which
    shrinks by `decay`; so the amplitude shrinks by its square.
    """
    side = 1 << (size - 1).bit_length()
    cloud = np.zeros((count, side, side), np.float32)
    step, swing = side, 1.0
    while step > 1:
        half = step // 2
        corners = cloud[:, ::step, ::step]

        down, across = corners + np.roll(corners, -1, 1), corners + np.roll(corners, -1, 2)
        middles = (down + np.roll(down, -1, 2)) / 4 + swing * random.uniform(-1, 1, corners.shape)
        cloud[:, half::step, half::step] = middles
        above, beside = middles + np.roll(middles, 1, 1), middles + np.roll(middles, 1, 2)
        cloud[:, ::step, half::step] = (across + above) / 4 + swing * random.uniform(-1, 1, corners.shape)
        cloud[:, half::step, ::step] = (down + beside) / 4 + swing * random.uniform(-1, 1, corners.shape)
        step, swing = half, swing / decay**2
    cloud -= cloud.min((1, 2), keepdims=True)
    cloud /= cloud.max((1, 2), keepdims=True)
    return cloud[:, :size, :size]


def brightness(images: Images, random: np.random.Generator, more: float) -> Images:
    """Raise the value of every pixel, in the sense of hue, saturation and value.

    With hue and saturation kept, all three channels grow by the same factor; only black has none.

    Args:
        more: with white as 1.
    """
    values = to_values(images)
    value = values.max(3, keepdims=True)
    brighter = np.minimum(value + np.float32(more), 1)
    return to_levels(np.where(value > 0, values * (brighter / np.maximum(value, 1 / 255)), brighter))
