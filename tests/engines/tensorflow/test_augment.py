"""Augmentation against what it should be: itself, whole pixels, and Keras' ImageDataGenerator."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
from peregrine.augmentation import Augmentation
from peregrine.engines.tensorflow import augment
from peregrine.engines.tensorflow.library import tf

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


def noise(count: int, **columns: float) -> npt.NDArray[np.float32]:
    """The middle everywhere but in the named columns."""
    found = np.full((count, augment.COLUMNS), 0.5, np.float32)
    for name, value in columns.items():
        found[:, getattr(augment, name)] = value
    return found


def augmented(
    images: npt.NDArray[np.uint8], settings: Augmentation, mirrored: Any = None, **columns: float
) -> npt.NDArray[np.float32]:
    sides = None if mirrored is None else tf.constant(mirrored)
    result: npt.NDArray[np.float32] = augment.augment(images, noise(len(images), **columns), sides, settings).numpy()
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


def test_one_batch_has_many_transforms() -> None:
    images = np.repeat(pixels(1), 50, axis=0)
    random = tf.random.stateless_uniform([50, augment.COLUMNS], [1, 2])
    result = augment.augment(images, random, None, EVERYTHING).numpy()
    assert len(np.unique(result.reshape(50, -1), axis=0)) == 50
    assert result.min() >= 0
    assert result.max() <= 255.001
