"""What processing does to images: less contrast, a warp, coarser pixels, JPEG."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import fft

from peregrine.corruptions.levels import Values, to_levels, to_values
from peregrine.dataset import Images


def contrast(images: Images, random: np.random.Generator, factor: float) -> Images:
    """Bring every pixel nearer to its channel's mean over the image."""
    values = to_values(images)
    means = values.mean((1, 2), keepdims=True)
    return to_levels((values - means) * np.float32(factor) + means)


def elastic_transform(
    images: Images, random: np.random.Generator, shift: float, deviation: float, corner: float
) -> Images:
    """Warp the image: first as a whole, as three points move, then every pixel by smooth noise.

    Args:
        shift: factor of the smooth noise, as a share of the image's side.
        deviation: of the Gaussian that smooths uniform noise of -1 to 1, as a share of the side.
        corner: how far each of the three points moves at most, across and down, as a share of the side.
    """
    count, size = images.shape[:2]
    values = to_values(images)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    middle, arm = size // 2, max(size // 3, 1)
    before = np.array([[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm, middle - arm]], float)
    after = before + random.uniform(-corner * size, corner * size, (count, 3, 2))
    back = np.linalg.solve(np.insert(after, 2, 1, axis=2), before[None])  # (N, 3, 2): from where a point comes
    whence = np.stack([x, y, np.ones_like(x)], -1) @ back[:, None].astype(np.float32)
    values = sampled(values, whence[..., 1], whence[..., 0], mirrored=True)
    if shift:
        right, down = random.uniform(-1, 1, (2, count, size, size)).astype(np.float32)
        down, right = (shift * size * smoothed(noise, deviation * size) for noise in (down, right))
        values = sampled(values, y + down, x + right, mirrored=False)
    return to_levels(values)


def smoothed(noise: Values, deviation: float) -> Values:
    """Noise `(N, H, W)` smoothed by a Gaussian; the edge is mirrored with its last pixel.

    Under such a mirror the cosine transform turns the Gaussian into a factor for each frequency, which takes no longer
    for a wide one; the published code cuts it off at three deviations.
    """
    frequency = np.arange(noise.shape[1], dtype=np.float32) * (np.pi / noise.shape[1])
    factor = np.exp(-((deviation * frequency) ** 2) / 2).astype(np.float32)
    spectrum = fft.dctn(noise, axes=(1, 2)) * factor[:, None] * factor
    result: Values = fft.idctn(spectrum, axes=(1, 2))
    return result


def sampled(values: Values, y: Values, x: Values, mirrored: bool) -> Values:
    """Values at places between pixels, by linear interpolation.

    Args:
        values: float32 `(N, H, W, 3)`, H = W.
        y, x: float32 `(N, H, W)`.
        mirrored: the edge is mirrored without its last pixel; else with it.
    """
    count, size = values.shape[:2]
    flat = values.reshape(-1, values.shape[3])
    first = (np.arange(count) * size * size)[:, None, None]
    top, left = np.floor(y), np.floor(x)
    low, right = (y - top)[..., None], (x - left)[..., None]
    rows = [_folded(top + more, size, mirrored) * size + first for more in (0, 1)]
    columns = [_folded(left + more, size, mirrored) for more in (0, 1)]
    upper, lower = (flat[row + columns[0]] * (1 - right) + flat[row + columns[1]] * right for row in rows)
    result: Values = upper * (1 - low) + lower * low
    return result


def _folded(place: Values, size: int, mirrored: bool) -> npt.NDArray[np.intp]:
    """Where a place outside lies in the mirror image that goes on beyond the edge."""
    period = max(2 * size - 2, 1) if mirrored else 2 * size
    inside = place.astype(np.intp) % period
    return np.where(inside < size, inside, period - inside - (not mirrored))


def pixelate(images: Images, random: np.random.Generator, share: float) -> Images:
    """Make the image smaller and large again, by averages.

    Args:
        share: of the side that is left in between.
    """
    size = images.shape[1]
    small = max(int(size * share), 1)
    coarse = np.empty_like(images)
    for image, into in zip(images, coarse, strict=True):
        tiny = Image.fromarray(image).resize((small, small), Image.Resampling.BOX)
        into[:] = np.asarray(tiny.resize((size, size), Image.Resampling.BOX))
    return coarse


def jpeg_compression(images: Images, random: np.random.Generator, quality: float) -> Images:
    """Save as JPEG and read again, with Pillow's default subsampling of colours.

    Args:
        quality: 1 to 95, as libjpeg's.
    """
    read = np.empty_like(images)
    for image, into in zip(images, read, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(quality))
        with Image.open(buffer, formats=("JPEG",)) as saved:
            into[:] = np.asarray(saved)
    return read
