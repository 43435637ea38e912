"""Snow, frost, fog and brightness."""

import matplotlib
import matplotlib.colors
import numpy as np
import pytest

import making
from peregrine.corruptions import weather
from peregrine.corruptions.levels import to_levels, to_values
from peregrine.corruptions.published import CIFAR


@pytest.mark.parametrize("more", [0.05, 0.3, 0.5])
def test_brightness_is_the_value_of_hsv(more: float) -> None:
    images = making.images(4, 16)
    images[0, :2] = 0  # black has no hue to keep
    hsv = matplotlib.colors.rgb_to_hsv(images / 255)
    hsv[..., 2] = np.minimum(hsv[..., 2] + more, 1)
    expected = to_levels(matplotlib.colors.hsv_to_rgb(hsv))
    found = weather.brightness(images, np.random.default_rng(0), more)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() < 0.02


@pytest.mark.parametrize("size", [12, 32, 33])
def test_a_cloud_reaches_from_0_to_1(size: int) -> None:
    clouds = weather.plasma(30, size, 2.0, np.random.default_rng(0))
    assert (clouds.shape, clouds.dtype) == ((30, size, size), np.float32)
    assert clouds.min() >= 0
    assert clouds.max() <= 1
    if size == 32:  # not cut
        np.testing.assert_allclose(clouds.min((1, 2)), 0)
        np.testing.assert_allclose(clouds.max((1, 2)), 1)
    assert len({cloud.tobytes() for cloud in clouds}) == 30


def test_a_cloud_of_four_pixels_by_hand() -> None:
    """Two levels of diamond and square, the noise of the second a fourth for a decay of 2."""
    random = np.random.default_rng(7)
    (found,) = weather.plasma(1, 4, 2.0, np.random.default_rng(7))
    cloud = np.zeros((4, 4))
    for step, swing in ((4, 1.0), (2, 0.25)):
        half = step // 2
        grid = range(0, 4, step)
        draw = {place: iter(random.uniform(-1, 1, len(grid) ** 2)) for place in ("middles", "across", "down")}
        for y in grid:
            for x in grid:
                corners = sum(cloud[(y + a) % 4, (x + b) % 4] for a in (0, step) for b in (0, step))
                cloud[y + half, x + half] = corners / 4 + swing * next(draw["middles"])
        before = cloud.copy()
        for y in grid:
            for x in grid:
                ends = (
                    before[y, x] + before[y, (x + step) % 4] + before[y + half, x + half] + before[y - half, x + half]
                )
                cloud[y, x + half] = ends / 4 + swing * next(draw["across"])
                ends = (
                    before[y, x] + before[(y + step) % 4, x] + before[y + half, x + half] + before[y + half, x - half]
                )
                cloud[y + half, x] = ends / 4 + swing * next(draw["down"])
    cloud -= cloud.min()
    np.testing.assert_allclose(found, cloud / cloud.max(), atol=1e-5)


def test_a_higher_decay_is_a_smoother_cloud() -> None:
    roughness = [
        np.abs(np.diff(weather.plasma(50, 32, decay, np.random.default_rng(0)), axis=1)).mean()
        for decay in (1.75, 2, 3)
    ]
    assert roughness == sorted(roughness, reverse=True)


@pytest.mark.parametrize(("strength", "decay"), CIFAR.strengths["fog"])
def test_fog_keeps_the_brightest_level(strength: float, decay: float) -> None:
    images = making.images(5, 32) // 2
    found = weather.fog(images, np.random.default_rng(0), strength, decay)
    top = images.max() / 255
    cloud = weather.plasma(5, 32, decay, np.random.default_rng(0))[..., None]
    expected = to_levels((to_values(images) + strength * cloud) * top / (top + strength))
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert found.max() <= images.max()


def test_frost_is_a_texture_over_a_darker_image() -> None:
    images = making.images(30, 32)
    found = to_values(weather.frost(images, np.random.default_rng(0), 0.0, 1.0))
    assert len({image.tobytes() for image in found}) == 30, "another place of the texture each time"
    textures = weather.ice_textures(64)
    assert textures.shape == (4, 64, 64)
    assert textures.min() >= 0
    assert textures.max() <= 1
    assert textures.mean((1, 2)) == pytest.approx([0.5] * 4, abs=0.02)
    assert (textures.std((1, 2)) > 0.15).all()
    assert np.abs(np.diff(textures[:, [-1, 0]], axis=1)).mean() < 2 * np.abs(np.diff(textures, axis=1)).mean(), (
        "seamless"
    )
    np.testing.assert_array_equal(weather.frost(images, np.random.default_rng(0), 1.0, 0.0), images)
    both = to_values(weather.frost(images, np.random.default_rng(0), 0.75, 0.45))
    np.testing.assert_allclose(both, np.minimum(0.75 * to_values(images) + 0.45 * found, 1), atol=2.5 / 255)


def test_snow_falls_twice_on_a_whitened_image() -> None:
    images = making.images(3, 32)
    values = to_values(images)
    grey = (values @ np.array([0.299, 0.587, 0.114]))[..., None]
    clear = weather.snow(images, np.random.default_rng(0), 0, 0.01, 1, 0.9, 8, 3, 0.8)  # too little noise for a flake
    expected = to_levels(0.8 * values + 0.2 * np.maximum(values, 1.5 * grey + 0.5))
    assert np.abs(clear.astype(int) - expected).max() <= 1
    black = np.zeros((3, 32, 32, 3), np.uint8)
    flakes = weather.snow(black, np.random.default_rng(0), 0.1, 0.2, 1, 0.6, 8, 3, 1.0).astype(int)
    assert (flakes == flakes[..., :1]).all(), "white"
    assert np.abs(flakes - flakes[:, ::-1, ::-1]).max() <= 1, "and the same turned by half a circle"
    assert 0 < (flakes > 0).mean() < 0.5
