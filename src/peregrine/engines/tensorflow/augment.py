"""Random changes of training images, in the graph, each of one image alone; `mixing.py` has those of two.

Shapes: B images of H×W; pixels are 0..255 throughout and are not rounded.
"""

from typing import Any

from peregrine.augmentation import Augmentation
from peregrine.engines.tensorflow import affine
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.noise import Noise


def augment(images: Any, noise: Noise, mirrored: Any, settings: Augmentation, mean: list[float]) -> Any:
    """Apply everything that `settings` asks for.

    Args:
        images: uint8 `(B, H, W, 3)`.
        mirrored: bool `(B,)`, which images to mirror; None mirrors none.
        mean: of the training images' channels, 0..255; what `cutout` leaves.

    Returns:
        float32 `(B, H, W, 3)`.
    """
    _, height, width, _ = images.shape
    rows, columns = places(noise, settings.translate, height, width)
    if affine.is_affine(settings):
        # The mirroring comes free of charge with the map, and the shift with the places.
        read = affine.maps(noise, mirrored, settings, height, width)
        images = affine.resample(tf.cast(images, tf.float32), read, settings.fill, rows, columns)
    elif settings.translate or mirrored is not None:
        images = move(images, rows, columns, mirrored)
    images = tf.cast(images, tf.float32)
    if settings.brightness or settings.contrast:
        images = recolour(images, noise, settings)
    if settings.cutout:
        images = cut_out(images, noise, settings.cutout, mean)
    return images


def places(noise: Noise, reach: int, height: int, width: int) -> tuple[Any, Any]:
    """Rows and columns of an image shifted by up to `reach` whole pixels, the border reflected (abc → cbabc).

    Returns:
        int32 `(B, H)` and `(B, W)`; without a reach, `(1, H)` and `(1, W)`.
    """
    rows, columns = tf.range(height)[None], tf.range(width)[None]
    if reach:
        rows = _reflected(rows + noise.whole("shift_y", reach)[:, None], height)
        columns = _reflected(columns + noise.whole("shift_x", reach)[:, None], width)
    return rows, columns


def move(images: Any, rows: Any, columns: Any, mirrored: Any) -> Any:
    """Put images together from their rows and columns, and mirror some; exact in any dtype."""
    _, height, width, channels = images.shape
    if mirrored is not None:
        columns = tf.where(mirrored[:, None], tf.reverse(columns, [1]), columns)
    index = tf.reshape(rows[:, :, None] * width + columns[:, None, :], [-1, height * width])
    moved = tf.gather(tf.reshape(images, [-1, height * width, channels]), index, axis=1, batch_dims=1)
    return tf.reshape(moved, [-1, height, width, channels])


def recolour(images: Any, noise: Noise, settings: Augmentation) -> Any:
    """Change the distance of pixels from their channel's mean, then add to all of them; cut off at 0 and 255."""
    means = tf.reduce_mean(images, [1, 2], keepdims=True)
    stretch = 1 + settings.contrast * noise.signed("contrast")[:, None, None, None]
    lift = 255 * settings.brightness * noise.signed("brightness")[:, None, None, None]
    return tf.clip_by_value(means + (images - means) * stretch + lift, 0.0, 255.0)


def cut_out(images: Any, noise: Noise, side: int, mean: list[float]) -> Any:
    """Replace a square, its centre anywhere in the image, so it may hang over the border.

    Source: DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout".
    """
    _, height, width, _ = images.shape
    hole = box(noise.uniform("cutout_y") * height, noise.uniform("cutout_x") * width, side, side, height, width)
    return tf.where(hole[..., None], tf.constant(mean, tf.float32), images)


def box(centre_y: Any, centre_x: Any, box_height: Any, box_width: Any, height: int, width: int) -> Any:
    """Which pixels of an image have their middle inside a box: bool `(B, H, W)`.

    Args:
        centre_y, centre_x: in pixels from the image's corner, `(B,)`.
        box_height, box_width: in pixels, `(B,)` or numbers.
    """
    rows = tf.abs(tf.range(height, dtype=tf.float32) + 0.5 - centre_y[:, None]) < _column(box_height) / 2
    columns = tf.abs(tf.range(width, dtype=tf.float32) + 0.5 - centre_x[:, None]) < _column(box_width) / 2
    return rows[:, :, None] & columns[:, None, :]


def _column(values: Any) -> Any:
    return tf.reshape(tf.cast(values, tf.float32), [-1, 1])


def _reflected(index: Any, size: int) -> Any:
    """Indices that left 0..size-1, by less than `size`, mirrored back in at the edge pixel."""
    index = tf.abs(index)
    return size - 1 - tf.abs(size - 1 - index)
