"""Blur: out of focus, through frosted glass, by a moving camera, by one that comes nearer."""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

from peregrine.corruptions.levels import Values, to_levels, to_values
from peregrine.dataset import Images

_FAINT = 1e-4  # what weighs less changes no pixel by more than a fortieth of a grey level


def defocus_blur(images: Images, random: np.random.Generator, radius: float, softness: float) -> Images:
    """Average over a disk; the edge is mirrored, without its last pixel.

    Args:
        radius: of the disk, in pixels.
        softness: standard deviation of the Gaussian that smooths the disk's edge, in pixels.
    """
    kernel = disk(radius, softness)
    reach = len(kernel) // 2
    padded = np.pad(to_values(images), ((0, 0), (reach, reach), (reach, reach), (0, 0)), "reflect")
    return to_levels(signal.fftconvolve(padded, kernel[None, :, :, None], "valid", axes=(1, 2)))


def disk(radius: float, softness: float) -> Values:
    """The disk's kernel, float32 `(k, k)`, which sums to 1.

    The published one stands in a field of 17 pixels and is mirrored at its border, which a radius of 8 touches. This
    one has room, and differs by less than a thousandth there.
    """
    half = 1 if radius <= 8 else 2
    reach = math.ceil(radius) + half
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    sharp = (x**2 + y**2 <= radius**2).astype(float)
    steps = np.arange(-half, half + 1)
    smooth = np.exp(-(steps**2) / (2 * softness**2))
    smooth /= smooth.sum()
    soft: npt.NDArray[np.float32] = ndimage.correlate(
        sharp / sharp.sum(), np.outer(smooth, smooth), mode="constant"
    ).astype(np.float32)
    return soft


def glass_blur(images: Images, random: np.random.Generator, deviation: float, reach: float, rounds: float) -> Images:
    """Smooth, let pixels trade places with neighbours, and smooth again.

    Args:
        deviation: of the Gaussian, in pixels; the edge is repeated.
        reach: how far a pixel may come from: `reach` pixels up or left, `reach` - 1 down or right.
        rounds: of the trading.
    """
    pixels = to_levels(_smooth(to_values(images), deviation))
    for _ in range(int(rounds)):
        places = origins(images.shape[:3], int(reach), random)
        pixels = np.take_along_axis(pixels.reshape(len(pixels), -1, 3), places[..., None], 1).reshape(images.shape)
    return to_levels(_smooth(to_values(pixels), deviation))


def _smooth(values: Values, deviation: float) -> Values:
    smooth: Values = ndimage.gaussian_filter(values, (0, deviation, deviation, 0), mode="nearest")
    return smooth


def origins(shape: tuple[int, ...], reach: int, random: np.random.Generator) -> npt.NDArray[np.intp]:
    """For each pixel the one whose colour it gets, `(N, H·W)`.

    The published code goes through the image backwards and means to swap two pixels at each place, but swaps views of
    one array, so that the first is replaced and the second stays. The published images are what that gives, and so is
    this. A place may get what its neighbour got before it; such chains are followed for all images at once, by leaps
    that double.

    Args:
        shape: `(N, H, W)`.
    """
    count, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    inside = (rows > reach) & (rows <= height - reach) & (columns > reach) & (columns <= width - reach)
    inside, here = inside.ravel(), np.arange(height * width)
    down, right = random.integers(-reach, reach, (2, count, height * width))
    origin = np.where(inside, here + down * width + right, here)
    chained = inside & inside[origin] & (origin > here)  # from a place that was replaced before
    while chained.any():
        further = np.where(chained, np.take_along_axis(origin, origin, 1), origin)
        chained &= np.take_along_axis(chained, origin, 1)
        origin = further
    return origin


def motion_blur(images: Images, random: np.random.Generator, radius: float, deviation: float) -> Images:
    """Smear along a line, in one direction, at an angle of -45° to 45° that each image has of its own."""
    angles = random.uniform(-45, 45, len(images))
    return to_levels(smeared(to_values(images), angles, radius, deviation))


def streak(radius: float, deviation: float) -> npt.NDArray[np.float64]:
    """Weights of the pixels along a smear, from its beginning: half a Gaussian of 2 · radius + 1 pixels; the sum is 1.

    Source: ImageMagick's `MotionBlurImage`, MagickCore/effect.c, which the published code calls.
    """
    weights: npt.NDArray[np.float64] = np.exp(-(np.arange(2 * math.ceil(radius) + 1) ** 2) / (2 * deviation**2))
    weights /= weights.sum()
    return weights


def smeared(values: Values, angles: npt.NDArray[np.float64], radius: float, deviation: float) -> Values:
    """Each image smeared at its angle, to whole pixels; the edge is repeated.

    Args:
        values: float32 `(N, H, W, C)`.
        angles: `(N,)`, in degrees, clockwise from the right.
        radius, deviation: of the `streak`, in pixels.
    """
    weights = streak(radius, deviation)
    weights = weights[weights >= _FAINT]
    height, width, reach = values.shape[1], values.shape[2], len(weights) - 1
    turn = np.deg2rad(angles)[:, None]
    across, down = (np.ceil(np.arange(reach + 1) * part(turn) - 0.5).astype(int) + reach for part in (np.cos, np.sin))
    padded = np.pad(values, ((0, 0), (reach, reach), (reach, reach), (0, 0)), "edge")
    smear = np.zeros_like(values)
    for index, into in enumerate(smear):
        for weight, top, left in zip(weights.astype(np.float32), down[index], across[index], strict=True):
            into += weight * padded[index, top : top + height, left : left + width]
    return smear


def zoom_blur(images: Images, random: np.random.Generator, stop: float, step: float) -> Images:
    """The mean of the image and of its enlargements.

    Args:
        stop, step: of the factors, from 1 on, in the manner of `numpy.arange`.
    """
    values = to_values(images)
    factors = np.arange(1, stop, step)
    total = values.copy()
    for factor in factors:
        total += magnified(values, float(factor))
    return to_levels(total / np.float32(len(factors) + 1))


def magnified(values: Values, factor: float) -> Values:
    """The middle of each image, enlarged to the same size by linear interpolation.

    Args:
        values: float32 `(N, H, W, C)`, H = W.
        factor: 1 or more.
    """
    size = values.shape[1]
    crop = math.ceil(size / factor)
    wide = round(crop * factor)  # the enlarged crop, of which the middle is kept
    first, trim = (size - crop) // 2, (wide - size) // 2
    place = first + (trim + np.arange(size)) * ((crop - 1) / max(wide - 1, 1))
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, size - 1), (place - low).astype(np.float32)[:, None, None]
    rows = values[:, low] * (1 - share) + values[:, high] * share
    columns = share[:, 0]
    result: Values = rows[:, :, low] * (1 - columns) + rows[:, :, high] * columns
    return result
