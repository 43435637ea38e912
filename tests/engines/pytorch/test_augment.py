"""Augmentation against what it should be: itself, whole pixels, and the same resampling written out in NumPy."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

from peregrine.augmentation import Augmentation
from peregrine.engines.pytorch.affine import resample
from peregrine.engines.pytorch.augment import augment, move
from peregrine.engines.pytorch.plan import COLUMNS, Draws, plan_epoch

pytestmark = pytest.mark.torch

EVERYTHING: dict[str, Any] = {"rotation": 40.0, "width_shift": 0.2, "height_shift": 0.3, "shear": 20.0, "zoom": 0.3}
MEAN = [10.0, 20.0, 30.0]
Floats = npt.NDArray[np.float64]


def pixels(count: int, height: int = 16, width: int = 16) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def draws(count: int, flipped: Any = False, down: int = 0, right: int = 0, **columns: float) -> Draws:
    """The middle everywhere but in the named columns."""
    noise = torch.full((count, len(COLUMNS)), 0.5)
    for name, value in columns.items():
        noise[:, COLUMNS.index(name)] = value
    sides = torch.as_tensor(flipped).expand(count)
    return Draws(torch.full((count,), down), torch.full((count,), right), sides, noise, {})


def augmented(images: npt.NDArray[np.uint8], drawn: Draws, settings: Augmentation) -> npt.NDArray[Any]:
    which = torch.arange(len(images))
    changed = augment(torch.from_numpy(images), which, drawn, settings, torch.tensor(MEAN))
    result: npt.NDArray[Any] = changed.numpy()
    return result


# ---- whole pixels ---------------------------------------------------------------------------------------------------


def test_shifts_and_flips_are_exact_and_stay_integers() -> None:
    images = torch.from_numpy(pixels(20, 9, 11))
    plan = plan_epoch(20, seed=3, epoch=1, settings=Augmentation(flip="random", translate=4))
    which = plan.order[5:15]
    moved = move(images, which, plan.draws.at(which))
    assert moved.dtype == torch.uint8
    padded = np.pad(images.numpy(), ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for image, index in zip(moved.numpy(), which.tolist(), strict=True):
        top, left = 4 + int(plan.draws.down[index]), 4 + int(plan.draws.right[index])
        expected = padded[index, top : top + 9, left : left + 11]
        np.testing.assert_array_equal(image, expected[:, ::-1] if plan.draws.flipped[index] else expected)


def test_the_middle_of_every_range_is_the_image_itself() -> None:
    images = pixels(5)
    settings = Augmentation(translate=3, brightness=0.1, contrast=0.1, **EVERYTHING)
    np.testing.assert_allclose(augmented(images, draws(5), settings), images, atol=2e-3)
    np.testing.assert_array_equal(augmented(images, draws(5), Augmentation()), images)


@pytest.mark.parametrize("settings", [Augmentation(), Augmentation(zoom=0.1)])
def test_mirroring_is_exact_in_both_ways_of_sampling(settings: Augmentation) -> None:
    images = pixels(4)
    result = augmented(images, draws(4, torch.tensor([True, False, True, False])), settings)
    np.testing.assert_allclose(result[::2], images[::2, :, ::-1], atol=2e-3)
    np.testing.assert_allclose(result[1::2], images[1::2], atol=2e-3)


@pytest.mark.parametrize(
    ("fill", "pad"), [("nearest", {"mode": "edge"}), ("reflect", {"mode": "symmetric"}), ("constant", {})]
)
def test_a_shift_by_whole_pixels_is_exact_with_every_fill(fill: Any, pad: dict[str, Any]) -> None:
    images = pixels(3)
    settings = Augmentation(width_shift=0.25, height_shift=0.125, fill=fill)  # 4 and 2 of 16 pixels
    result = augmented(images, draws(3, width=1.0, height=0.0), settings)
    padded = np.pad(images, ((0, 0), (2, 0), (0, 4), (0, 0)), **pad)
    np.testing.assert_allclose(result, padded[:, :16, 4:], atol=2e-3)


def test_far_outside_the_fill_is_what_it_says() -> None:
    """Shifts of several widths: `reflect` folds as often as it takes."""
    images = pixels(1)
    places = torch.arange(16)[None]
    read = torch.tensor([[[1.0, 0, 40], [0, 1, -40]]])
    fills = ("nearest", "reflect", "constant")
    found = {fill: resample(torch.from_numpy(images), read, fill, places, places).numpy() for fill in fills}
    padded = np.pad(images, ((0, 0), (40, 40), (40, 40), (0, 0)), mode="symmetric")[:, :16, 80:96]
    np.testing.assert_allclose(found["reflect"], padded, atol=5e-3)
    np.testing.assert_array_equal(found["constant"], np.zeros_like(images))
    np.testing.assert_allclose(found["nearest"], np.broadcast_to(images[:, :1, -1:], images.shape), atol=2e-3)


# ---- between the pixels ---------------------------------------------------------------------------------------------


def reference(image: Floats, map_: Floats, fill: str, rows: Floats, columns: Floats) -> Floats:
    """Read an image `(H, W, 3)` through a map of centred points, in float64."""
    height, width, _ = image.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2, 0])
    x, y = np.meshgrid(columns, rows)
    read_x, read_y, _ = np.tensordot(map_, np.stack([x, y, x * 0 + 1]) - centre[:, None, None], 1)
    padding: dict[str, Any] = {"nearest": {"mode": "edge"}, "reflect": {"mode": "symmetric"}, "constant": {}}[fill]
    margin = 60
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), **padding)
    read_x, read_y = read_x + centre[0] + margin, read_y + centre[1] + margin
    left, top = np.floor(read_x).astype(int), np.floor(read_y).astype(int)
    right_share, down_share = (read_x - left)[..., None], (read_y - top)[..., None]
    upper = padded[top, left] * (1 - right_share) + padded[top, left + 1] * right_share
    lower = padded[top + 1, left] * (1 - right_share) + padded[top + 1, left + 1] * right_share
    result: Floats = upper * (1 - down_share) + lower * down_share
    return result


def matrix(settings: Augmentation, noise: dict[str, float], flipped: bool, height: int, width: int) -> Floats:
    """Rotation times shear times zoom times flip of points, after which the shift is rotated, as Keras has it."""
    signed = {name: 2 * value - 1 for name, value in noise.items()}
    turn, lean = np.radians(settings.rotation * signed["rotation"]), np.radians(settings.shear * signed["shear"])
    rotate = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    shift = np.eye(3)
    shift[:2, 2] = (
        settings.width_shift * width * signed["width"],
        settings.height_shift * height * signed["height"],
    )
    shear = np.array([[1, -np.sin(lean), 0], [0, np.cos(lean), 0], [0, 0, 1]])
    zoom = np.diag([1 + settings.zoom * signed["zoom_x"], 1 + settings.zoom * signed["zoom_y"], 1])
    flip = np.diag([-1.0 if flipped else 1.0, 1, 1])
    result: Floats = rotate @ shift @ shear @ zoom @ flip
    return result


@pytest.mark.parametrize("fill", ["nearest", "reflect", "constant"])
@pytest.mark.parametrize("shape", [(16, 16), (14, 20)])
def test_all_geometric_changes_are_one_resampling(fill: Any, shape: tuple[int, int]) -> None:
    images = pixels(12, *shape)
    settings = Augmentation(flip="random", translate=3, fill=fill, **EVERYTHING)
    drawn = plan_epoch(12, 5, 1, settings).draws
    assert 0 < drawn.flipped.sum() < 12
    result = augmented(images, drawn, settings)
    for number, image in enumerate(images):
        rows, columns = (
            np.pad(np.arange(size), 3, mode="reflect")[3 + int(shift) :][:size].astype(float)
            for size, shift in zip(shape, (drawn.down[number], drawn.right[number]), strict=True)
        )
        noise = dict(zip(COLUMNS, drawn.noise[number].double().tolist(), strict=True))
        map_ = matrix(settings, noise, bool(drawn.flipped[number]), *shape)
        expected = reference(image.astype(np.float64), map_, fill, rows, columns)
        np.testing.assert_allclose(result[number], expected, atol=5e-3)


def test_the_other_engine_resamples_likewise() -> None:
    """Within rounding: coordinates are float32, and one image's neighbouring pixels differ by up to 255."""
    tensorflow = pytest.importorskip(
        "peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError
    )
    from peregrine.engines.tensorflow import augment as theirs
    from peregrine.engines.tensorflow import noise

    tf = tensorflow.tf
    images = pixels(40)
    values = np.random.default_rng(1).random((40, len(noise.COLUMNS)), np.float32)
    drawn = noise.Noise(tf.constant(values), {})
    down, right = (torch.from_numpy(drawn.whole(name, 3).numpy()).long() for name in ("shift_y", "shift_x"))
    flipped = values[:, 0] < 0.5
    columns = torch.from_numpy(values[:, [noise.COLUMNS.index(name) for name in COLUMNS]])
    ours = Draws(down, right, torch.from_numpy(flipped), columns, {})
    changes: dict[str, Any] = {"translate": 3, "brightness": 0.2, "contrast": 0.3, "cutout": 5, **EVERYTHING}
    for fill in ("nearest", "reflect", "constant"):
        settings = Augmentation(fill=fill, **changes)
        expected = theirs.augment(tf.constant(images), drawn, tf.constant(flipped), settings, MEAN).numpy()
        np.testing.assert_allclose(augmented(images, ours, settings), expected, atol=5e-3)


# ---- colours --------------------------------------------------------------------------------------------------------


def test_brightness_and_contrast() -> None:
    images = pixels(3)
    brighter = augmented(images, draws(3, brightness=0.9), Augmentation(brightness=0.2))
    np.testing.assert_allclose(brighter, np.clip(images + 0.16 * 255, 0, 255), atol=1e-3)
    mean = images.mean((1, 2), keepdims=True)
    harder = augmented(images, draws(3, contrast=1.0), Augmentation(contrast=0.5))
    np.testing.assert_allclose(harder, np.clip(mean + (images - mean) * 1.5, 0, 255), atol=1e-3)
    both = augmented(images, draws(3, contrast=0.0, brightness=0.0), Augmentation(contrast=0.5, brightness=0.1))
    np.testing.assert_allclose(both, np.clip(mean + (images - mean) * 0.5 - 25.5, 0, 255), atol=1e-3)


@pytest.mark.parametrize(("y", "x", "rows", "columns"), [(0.5, 0.5, (6, 10), (6, 10)), (0.0, 0.99, (0, 2), (14, 16))])
def test_cutout_leaves_the_mean_colour_and_may_hang_over_the_border(
    y: float, x: float, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    images = pixels(2)
    expected = images.astype(np.float32)
    expected[:, slice(*rows), slice(*columns)] = MEAN
    result = augmented(images, draws(2, cutout_y=y, cutout_x=x), Augmentation(cutout=4))
    np.testing.assert_array_equal(result, expected)
