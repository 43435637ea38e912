"""Changes that blend each training image, and its target, with another of the same batch.

The other is its neighbour in the batch, whose order is random already: 0 with 1, 2 with 3; the last of an odd number
has none. So a batch that is split between replicas gives what it gives as a whole.
"""

from typing import Any

from peregrine.engines.tensorflow.augment import box
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.noise import Noise


def mix(images: Any, targets: Any, noise: Noise) -> tuple[Any, Any]:
    """Apply `mixup` or `cutmix`, whichever `noise` has shares for; with both, each image gets one of the two.

    Args:
        images: float32 `(B, H, W, 3)`.
        targets: float32 `(B, C)`, each row sums to 1.
    """
    _, height, width, _ = images.shape
    count = tf.shape(images)[0]
    taken = tf.zeros([count, height, width])  # of each pixel, the share that comes from the other image
    if "cutmix" in noise.shares:
        side = tf.sqrt(1 - noise.shares["cutmix"])
        centre_y, centre_x = noise.uniform("box_y") * height, noise.uniform("box_x") * width
        taken = tf.cast(box(centre_y, centre_x, side * height, side * width, height, width), tf.float32)
    if "mixup" in noise.shares:
        blend = (1 - noise.shares["mixup"])[:, None, None] * tf.ones_like(taken)
        both = "cutmix" in noise.shares
        taken = tf.where((noise.uniform("kind") < 0.5)[:, None, None], blend, taken) if both else blend
    partner = _partners(count)
    images = images + taken[..., None] * (tf.gather(images, partner) - images)
    share = tf.reduce_mean(taken, [1, 2])[:, None]
    return images, targets + share * (tf.gather(targets, partner) - targets)


def _partners(count: Any) -> Any:
    """0 ↔ 1, 2 ↔ 3, …: int32 `(count,)`."""
    index = tf.range(count)
    other = tf.bitwise.bitwise_xor(index, 1)
    return tf.where(other < count, other, index)
