"""Blurs against the published definitions, written out slowly."""

import math

import numpy as np
import pytest
from scipy import ndimage

import making
from peregrine.corruptions import blur
from peregrine.corruptions.levels import to_levels, to_values
from peregrine.corruptions.published import CIFAR, IMAGENET, TINY_IMAGENET

KERNELS = sorted({two for known in (CIFAR, TINY_IMAGENET, IMAGENET) for two in known.strengths["defocus_blur"]})
STREAKS = sorted({two for known in (CIFAR, TINY_IMAGENET, IMAGENET) for two in known.strengths["motion_blur"]})


@pytest.mark.parametrize(("radius", "softness"), KERNELS)
def test_the_disk_has_the_published_radius(radius: float, softness: float) -> None:
    kernel = blur.disk(radius, softness)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-8)
    np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-8)
    middle = len(kernel) // 2
    sharp = sum(x * x + y * y <= radius**2 for x in range(-20, 21) for y in range(-20, 21))
    if softness <= 0.2:  # too little to be seen beyond the next pixel
        assert (kernel > 0.5 / sharp).sum() == sharp
    far = np.hypot(*np.mgrid[-middle : middle + 1, -middle : middle + 1]) > radius + 2 * math.sqrt(2)
    assert kernel[far].sum() < 1e-6


@pytest.mark.parametrize(("radius", "softness"), [(0.3, 0.4), (1.5, 0.1), (3, 0.1), (10, 0.5)])
def test_defocus_is_that_disk_over_a_mirrored_edge(radius: float, softness: float) -> None:
    images = making.images(3, 24)
    kernel = blur.disk(radius, softness).astype(float)
    expected = ndimage.correlate(images / 255, kernel[None, :, :, None], mode="mirror")
    found = blur.defocus_blur(images, np.random.default_rng(0), radius, softness)
    assert np.abs(found.astype(int) - to_levels(expected)).max() <= 1
    assert (found != to_levels(expected)).mean() < 0.01


def replaced(image: np.ndarray, reach: int, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The published loop, pixel by pixel, with given random numbers."""
    image, size = image.copy(), len(image)
    for row in range(size - reach, reach, -1):
        for column in range(size - reach, reach, -1):
            image[row, column] = image[row + down[row, column], column + right[row, column]]
    return image


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_glass_replaces_pixels_in_the_published_order(reach: int) -> None:
    size = 21
    pixels = np.arange(2 * size * size).reshape(2, size, size)
    origin = blur.origins((2, size, size), reach, np.random.default_rng(3))
    down, right = np.random.default_rng(3).integers(-reach, reach, (2, 2, size * size)).reshape(2, 2, size, size)
    for index in range(2):
        found = pixels[index].ravel()[origin[index]].reshape(size, size)
        np.testing.assert_array_equal(found, replaced(pixels[index], reach, down[index], right[index]))


def test_glass_smooths_before_and_after() -> None:
    images = making.images(2, 16)
    once = blur.glass_blur(images, np.random.default_rng(0), 0.8, 1, 0)
    smooth = to_levels(ndimage.gaussian_filter(images / 255, (0, 0.8, 0.8, 0), mode="nearest"))
    twice = to_levels(ndimage.gaussian_filter(smooth / 255, (0, 0.8, 0.8, 0), mode="nearest"))
    assert np.abs(once.astype(int) - twice).max() <= 1


@pytest.mark.parametrize(("radius", "deviation"), STREAKS)
def test_the_streak_is_half_a_gaussian_of_the_published_radius(radius: float, deviation: float) -> None:
    weights = blur.streak(radius, deviation)
    assert len(weights) == 2 * radius + 1
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights / weights[0], np.exp(-(np.arange(2 * radius + 1) ** 2) / 2 / deviation**2))


@pytest.mark.parametrize("angle", [-135.0, -90, -45, -17, 0, 30, 45])
def test_motion_goes_along_its_angle(angle: float) -> None:
    """ImageMagick's loop: each pixel is the weighted mean of those that lie along the angle, the edge repeated."""
    images, radius, deviation = making.images(1, 13), 9, 4.0
    weights, turn = blur.streak(radius, deviation), math.radians(angle)
    expected = np.zeros((13, 13, 3))
    for row in range(13):
        for column in range(13):
            for step, weight in enumerate(weights):
                y = row + math.ceil(step * math.sin(turn) - 0.5)
                x = column + math.ceil(step * math.cos(turn) - 0.5)
                expected[row, column] += weight * images[0, min(max(y, 0), 12), min(max(x, 0), 12)] / 255
    found = blur.smeared(to_values(images), np.array([angle]), radius, deviation)
    np.testing.assert_allclose(found[0], expected, atol=0.2 / 255)


def test_every_image_has_an_angle_of_its_own() -> None:
    point = np.zeros((40, 32, 32, 3), np.uint8)
    point[:, 16, 16] = 255
    found = blur.motion_blur(point, np.random.default_rng(0), 9, 2.5)
    assert len({image.tobytes() for image in found}) > 10
    lit = (found[..., 0] > 0).any(0)
    assert not lit[:, 17:].any(), "smeared to one side"
    y, x = np.nonzero(lit)
    assert (np.abs(y - 16) <= 16 - x).all(), "by 45 degrees at most"


@pytest.mark.parametrize("size", [16, 32, 61, 64])
@pytest.mark.parametrize("factor", [1.0, 1.03, 1.1, 1.25, 1.75, 4.5])
def test_magnified_as_by_scipy(size: int, factor: float) -> None:
    values = to_values(making.images(2, size))
    crop = math.ceil(size / factor)
    top = (size - crop) // 2
    for image, found in zip(values, blur.magnified(values, factor), strict=True):
        large = ndimage.zoom(image[top : top + crop, top : top + crop], (factor, factor, 1), order=1)
        trim = (len(large) - size) // 2
        np.testing.assert_allclose(found, large[trim : trim + size, trim : trim + size], atol=1e-5)


def test_zoom_blur_is_the_mean_of_enlargements() -> None:
    images = making.images(2, 32)
    values = to_values(images)
    zoomed = [blur.magnified(values, factor) for factor in (1.0, 1.01, 1.02, 1.03, 1.04, 1.05)]
    expected = to_levels((values + sum(zoomed)) / 7)
    found = blur.zoom_blur(images, np.random.default_rng(0), 1.055, 0.01)
    assert np.abs(found.astype(int) - expected).max() <= 1
