"""Contrast, elastic transform, pixelation and JPEG."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import making
from peregrine.corruptions import digital
from peregrine.corruptions.levels import to_levels, to_values
from peregrine.corruptions.published import CIFAR, IMAGENET


@pytest.mark.parametrize("factor", [0.75, 0.15])
def test_contrast_keeps_the_mean_and_shrinks_the_deviation(factor: float) -> None:
    images = making.images(4, 32)
    found = digital.contrast(images, np.random.default_rng(0), factor).astype(float)
    np.testing.assert_allclose(found.mean((1, 2)), images.mean((1, 2)), atol=0.7)  # cut down to whole levels
    np.testing.assert_allclose(found.std((1, 2)), factor * images.std((1, 2)), rtol=0.01)


@pytest.mark.parametrize("mirrored", [True, False])
def test_sampled_as_by_scipy_beyond_the_edges_too(mirrored: bool) -> None:
    values = to_values(making.images(3, 9))
    y, x = np.random.default_rng(0).uniform(-20, 30, (2, 3, 9, 9)).astype(np.float32)
    found = digital.sampled(values, y, x, mirrored)
    for image in range(3):
        for channel in range(3):
            expected = ndimage.map_coordinates(
                values[image, ..., channel], [y[image], x[image]], order=1, mode="mirror" if mirrored else "reflect"
            )
            np.testing.assert_allclose(found[image, ..., channel], expected, atol=1e-4)


@pytest.mark.parametrize("deviation", [0.96, 1.28, 6.4])
def test_smoothed_as_by_a_gaussian(deviation: float) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (5, 32, 32)).astype(np.float32)
    expected = ndimage.gaussian_filter(noise, (0, deviation, deviation), mode="reflect", truncate=3)
    assert np.abs(digital.smoothed(noise, deviation) - expected).max() < 0.05 * expected.std()


def test_the_three_points_move_by_no_more_than_they_may() -> None:
    """A picture of its own coordinates tells where each pixel came from."""
    size, corner = 32, 0.08
    y, x = np.mgrid[:size, :size]
    coordinates = np.stack([x, y, 0 * x], -1).astype(np.uint8)[None].repeat(200, 0) * 8
    found = digital.elastic_transform(coordinates, np.random.default_rng(0), 0, 0, corner) / 8
    moved = found[:, 10:22, 10:22, :2] - np.stack([x, y], -1)[10:22, 10:22]
    assert np.abs(moved).max() > 1
    # Between the points at 6 and 26 a pixel moves by no more than they do, twice over for the fourth corner.
    assert np.abs(moved).max() < 3 * corner * size
    assert moved.mean() == pytest.approx(0, abs=0.2)
    second = np.diff(found[:, 10:22, 10:22, :2], n=2, axis=1)
    assert np.abs(second).max() <= 0.5, "straight lines stay straight"


@pytest.mark.parametrize("severity", [2, 5])
def test_smooth_noise_bends_by_its_factor(severity: int) -> None:
    shift, deviation, _ = CIFAR.strengths["elastic_transform"][severity - 1]
    size = 32
    y, x = np.mgrid[:size, :size]
    coordinates = np.stack([x, y, 0 * x], -1).astype(np.uint8)[None].repeat(300, 0) * 8
    found = digital.elastic_transform(coordinates, np.random.default_rng(0), shift, deviation, 0) / 8
    moved = (found[..., :2] - np.stack([x, y], -1))[:, 8:24, 8:24]
    noise = np.random.default_rng(1).uniform(-1, 1, (300, size, size))
    smooth = ndimage.gaussian_filter(noise, (0, deviation * size, deviation * size), mode="reflect", truncate=3)
    assert moved.std() == pytest.approx(shift * size * smooth[:, 8:24, 8:24].std(), rel=0.15, abs=0.03)


@pytest.mark.parametrize(("share", "small"), [(0.95, 30), (0.65, 20), (0.5, 16)])
def test_pixelate_goes_through_fewer_pixels(share: float, small: int) -> None:
    image = making.images(1, 32)
    tiny = Image.fromarray(image[0]).resize((small, small), Image.Resampling.BOX)
    expected = np.asarray(tiny.resize((32, 32), Image.Resampling.BOX))
    np.testing.assert_array_equal(digital.pixelate(image, np.random.default_rng(0), share)[0], expected)
    if small == 16:
        blocks = expected.reshape(16, 2, 16, 2, 3)
        np.testing.assert_allclose(blocks[:, 0, :, 0], image[0].reshape(16, 2, 16, 2, 3).mean((1, 3)), atol=1)


@pytest.mark.parametrize("quality", [known.strengths["jpeg_compression"][4][0] for known in (CIFAR, IMAGENET)])
def test_jpeg_has_the_published_quality(quality: float) -> None:
    """The luminance table of JPEG's Annex K, scaled as libjpeg does for qualities below 50."""
    images = making.images(2, 32)
    found = digital.jpeg_compression(images, np.random.default_rng(0), quality)
    buffer = io.BytesIO()
    Image.fromarray(images[1]).save(buffer, "JPEG", quality=int(quality))
    with Image.open(buffer) as saved:
        assert saved.quantization[0][0] == (16 * 5000 / quality + 50) // 100
        np.testing.assert_array_equal(found[1], np.asarray(saved))


def test_levels_are_cut_down_as_published() -> None:
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_levels(to_values(every)), every)
    assert to_levels(np.array([-0.1, 0.5, 0.9999, 1.0, 1.7], np.float32)).tolist() == [0, 127, 254, 255, 255]
