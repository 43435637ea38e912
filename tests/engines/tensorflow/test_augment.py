"""Augmentation against what it should be: itself, whole pixels, and Keras' ImageDataGenerator."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
from peregrine.augmentation import PRESETS, Augmentation
from peregrine.engines.tensorflow.affine import Maps, resample
from peregrine.engines.tensorflow.augment import augment
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.noise import COLUMNS, Noise

pytestmark = pytest.mark.tensorflow

EVERYTHING = Augmentation(translate=3, rotation=40.0, width_shift=0.2, height_shift=0.3, shear=20.0, zoom=0.3)


def pixels(count: int, size: int = 16) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def smooth(count: int, size: int = 32) -> npt.NDArray[np.uint8]:
    """Waves, where interpolation is good."""
    y, x = np.mgrid[:size, :size]
    phases = np.random.default_rng(0).uniform(0, 6, (count, 1, 1, 3))
    waves = np.sin(x[None, ..., None] / 5 + phases) * np.cos(y[None, ..., None] / 6 + phases)
    return (127 + 120 * waves).astype(np.uint8)


MEAN = [10.0, 20.0, 30.0]


def noise(count: int, **columns: float) -> Noise:
    """The middle everywhere but in the named columns."""
    found = np.full((count, len(COLUMNS)), 0.5, np.float32)
    for name, value in columns.items():
        found[:, COLUMNS.index(name.lower())] = value
    return Noise(tf.constant(found), {})


def augmented(
    images: npt.NDArray[np.uint8], settings: Augmentation, mirrored: Any = None, **columns: float
) -> npt.NDArray[np.float32]:
    sides = None if mirrored is None else tf.constant(mirrored)
    changed = augment(tf.constant(images), noise(len(images), **columns), sides, settings, MEAN)
    result: npt.NDArray[np.float32] = changed.numpy()
    assert result.dtype == np.float32
    return result


def test_the_middle_of_every_range_is_the_image_itself() -> None:
    images = pixels(5)
    np.testing.assert_allclose(augmented(images, EVERYTHING), images, atol=1e-3)
    np.testing.assert_array_equal(augmented(images, Augmentation()), images)


@pytest.mark.parametrize("settings", [Augmentation(), Augmentation(translate=2), Augmentation(zoom=0.1)])
def test_mirroring_is_exact_in_both_ways_of_sampling(settings: Augmentation) -> None:
    images = pixels(4)
    result = augmented(images, settings, mirrored=[True, False, True, False])
    np.testing.assert_allclose(result[::2], images[::2, :, ::-1], atol=1e-3)
    np.testing.assert_allclose(result[1::2], images[1::2], atol=1e-3)


@pytest.mark.parametrize(("y", "x", "down", "right"), [(0.0, 0.5, -3, 0), (0.999, 0.0, 3, -3), (0.4, 0.7, -1, 1)])
def test_translation_moves_by_whole_pixels_and_reflects_the_border(y: float, x: float, down: int, right: int) -> None:
    images = pixels(3)
    result = augmented(images, Augmentation(translate=3), SHIFT_Y=y, SHIFT_X=x)
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(result, padded[:, 3 + down : 19 + down, 3 + right : 19 + right])


@pytest.mark.parametrize(
    ("fill", "pad"), [("nearest", {"mode": "edge"}), ("reflect", {"mode": "symmetric"}), ("constant", {})]
)
def test_a_shift_by_whole_pixels_is_exact_with_every_fill(fill: Any, pad: dict[str, Any]) -> None:
    images = pixels(3)
    settings = Augmentation(width_shift=0.25, height_shift=0.125, fill=fill)  # 4 and 2 of 16 pixels
    result = augmented(images, settings, WIDTH=1.0, HEIGHT=0.0)
    padded = np.pad(images, ((0, 0), (2, 0), (0, 4), (0, 0)), **pad)
    np.testing.assert_allclose(result, padded[:, :16, 4:], atol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"ROTATION": 0.9},
        {"SHEAR": 0.1},
        {"WIDTH": 0.8, "HEIGHT": 0.3},
        {"ZOOM_Y": 0.1, "ZOOM_X": 0.8},
        {"ROTATION": 0.2, "SHEAR": 0.9, "WIDTH": 0.7, "HEIGHT": 0.6, "ZOOM_Y": 0.3, "ZOOM_X": 0.9},
    ],
)
@pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning")  # Keras' own, of SciPy
def test_agrees_with_keras_image_data_generator(changes: dict[str, float]) -> None:
    pytest.importorskip("scipy", reason="ImageDataGenerator needs SciPy")
    settings = Augmentation(rotation=20.0, width_shift=0.2, height_shift=0.2, shear=15.0, zoom=0.2)
    images = smooth(2)
    ours = augmented(images, settings, **changes)
    signed = {
        name: 2 * changes.get(name, 0.5) - 1 for name in ("ROTATION", "SHEAR", "WIDTH", "HEIGHT", "ZOOM_Y", "ZOOM_X")
    }
    for image, result in zip(images, ours, strict=True):
        theirs = tf.keras.preprocessing.image.apply_affine_transform(
            image.astype(np.float32),
            theta=20 * signed["ROTATION"],
            tx=0.2 * 32 * signed["WIDTH"],
            ty=0.2 * 32 * signed["HEIGHT"],
            shear=15 * signed["SHEAR"],
            zx=1 + 0.2 * signed["ZOOM_X"],
            zy=1 + 0.2 * signed["ZOOM_Y"],
            row_axis=0,
            col_axis=1,
            channel_axis=2,
            fill_mode="nearest",
        )
        np.testing.assert_allclose(result, theirs, atol=0.1)


# In the order of passes over an image: it is read through the map, so what the map does last comes first.
CHAIN: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "rotation": ({"rotation": 30.0}, {"rotation": 0.9}),
    "shift": ({"width_shift": 0.2, "height_shift": 0.2}, {"width": 0.83, "height": 0.13}),
    "shear": ({"shear": 25.0}, {"shear": 0.2}),
    "zoom": ({"zoom": 0.3}, {"zoom_y": 0.1, "zoom_x": 0.8}),
}


@pytest.mark.parametrize("fill", ["nearest", "reflect", "constant"])
@pytest.mark.parametrize("names", [*([name, "shift"] for name in CHAIN), list(CHAIN)], ids="-".join)
def test_one_resampling_is_what_the_chain_of_single_transforms_gives(fill: Any, names: list[str]) -> None:
    """Each with a shift and a flip, and all of them; in the middle, where no pass has lost what lay outside."""
    images = smooth(3, 64)
    settings, columns = ({key: value for name in names for key, value in CHAIN[name][i].items()} for i in (0, 1))
    together = augmented(images, Augmentation(**settings, fill=fill), [True] * 3, **columns)
    chain = images
    for name, (single, noises) in CHAIN.items():
        if name in names:
            chain = augmented(chain.round().astype(np.uint8), Augmentation(**single, fill=fill), **noises)
    middle = np.s_[:, 24:-24, 24:-24]
    np.testing.assert_allclose(together[middle], chain[:, :, ::-1][middle], atol=3 * len(names))
    assert np.abs(together[middle] - images[middle]).max() > 50


def test_one_batch_has_many_transforms() -> None:
    images = np.repeat(pixels(1), 50, axis=0)
    random = Noise.draw(50, 1, 2, EVERYTHING)
    result = augment(tf.constant(images), random, None, EVERYTHING, MEAN).numpy()
    assert len(np.unique(result.reshape(50, -1), axis=0)) == 50
    assert result.min() >= 0
    assert result.max() <= 255.001


def test_brightness_and_contrast_are_kerass() -> None:
    """Keras' contrast layer has no clipping and its brightness layer has; both on one image at the ends of a range."""
    images = smooth(2)
    brighter = augmented(images, Augmentation(brightness=0.2), BRIGHTNESS=0.9)
    np.testing.assert_allclose(brighter, np.clip(images + 0.16 * 255, 0, 255), atol=1e-3)
    harder = augmented(images, Augmentation(contrast=0.5), CONTRAST=0.25)
    theirs = tf.image.adjust_contrast(tf.constant(images, tf.float32), 0.75)
    np.testing.assert_allclose(harder, np.clip(theirs, 0, 255), atol=1e-3)


@pytest.mark.parametrize(("y", "x", "rows", "columns"), [(0.5, 0.5, (6, 10), (6, 10)), (0.0, 0.99, (0, 2), (14, 16))])
def test_cutout_leaves_the_mean_colour_and_may_hang_over_the_border(
    y: float, x: float, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    images = pixels(2)
    expected = images.astype(np.float32)
    expected[:, slice(*rows), slice(*columns)] = MEAN
    np.testing.assert_array_equal(augmented(images, Augmentation(cutout=4), CUTOUT_Y=y, CUTOUT_X=x), expected)


def test_presets_are_what_they_say() -> None:
    classic = Augmentation(preset="classic")
    assert (classic.rotation, classic.shear, classic.zoom, classic.fill) == (20, 0.2, 0.2, "nearest")
    assert Augmentation(preset="classic", zoom=0.0).zoom == 0
    assert Augmentation(preset="none") == Augmentation()
    assert set(PRESETS) == {"none", "crop-flip", "gentle", "classic"}


def test_far_outside_the_fill_is_what_it_says() -> None:
    """Shifts of several widths: `reflect` folds as often as it takes."""
    images = pixels(1)
    one, zero = tf.ones([1]), tf.zeros([1])
    read = Maps(one, zero, 40.0 * one, zero, one, -40.0 * one)
    padded = np.pad(images, ((0, 0), (40, 40), (40, 40), (0, 0)), mode="symmetric")[:, :16, 80:96]
    whole = tf.constant(images, tf.float32), read
    places = tf.range(16)[None], tf.range(16)[None]
    np.testing.assert_array_equal(resample(*whole, "reflect", *places), padded)
    np.testing.assert_array_equal(resample(*whole, "constant", *places), np.zeros_like(images))
    corner = np.broadcast_to(images[:, :1, -1:], images.shape)
    np.testing.assert_array_equal(resample(*whole, "nearest", *places), corner)


def test_a_shift_by_whole_pixels_joins_the_resampling() -> None:
    """In one pass, and to the digit what the shift of the resampled image would be."""
    images = smooth(3)
    affine = {"rotation": 30.0, "zoom": 0.2}
    noises = {"ROTATION": 0.8, "ZOOM_X": 0.1}
    together = augmented(images, Augmentation(translate=3, **affine), SHIFT_Y=0.99, SHIFT_X=0.0, **noises)
    turned = augmented(images, Augmentation(**affine), **noises)
    padded = np.pad(turned, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
    np.testing.assert_allclose(together, padded[:, 6:38, 0:32], atol=1e-3)
