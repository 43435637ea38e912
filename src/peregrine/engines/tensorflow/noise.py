"""The random numbers of a batch: a function of (seed, step) alone, the same on every device.

Every change of an image is a function of its numbers in [0, 1): 0.5 in every column leaves the image as it is.
"""

from dataclasses import dataclass
from typing import Any

from peregrine.augmentation import Augmentation
from peregrine.engines.tensorflow.library import tf

COLUMNS = (
    "flip", "shift_y", "shift_x", "rotation", "shear", "height", "width", "zoom_y", "zoom_x", "brightness", "contrast",
    "cutout_y", "cutout_x", "box_y", "box_x", "kind",
)  # fmt: skip


_SHARES = ("mixup", "cutmix")  # settings whose shares come from a Beta distribution


@dataclass(frozen=True)
class Noise:
    """For B images.

    Attributes:
        values: uniform, float32 `(B, len(COLUMNS))` in [0, 1).
        shares: Beta-distributed, float32 `(B,)` in [0, 1], by the name of the setting that needs them.
    """

    values: Any
    shares: dict[str, Any]

    @classmethod
    def draw(cls, count: Any, seed: int, step: Any, settings: Augmentation) -> "Noise":
        """Philox, so every device draws the same.

        Args:
            count: B, int32.
            step: over the whole run.
        """
        key = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
        values = tf.random.stateless_uniform([count, len(COLUMNS)], key, alg="philox")
        wanted = {name: getattr(settings, name) for name in _SHARES if getattr(settings, name)}
        # Seeds of recipes are below 2**32: keys above it are free.
        shares = {
            name: _beta(alpha, count, key + tf.constant([(1 + number) << 32, 0], tf.int64))
            for number, (name, alpha) in enumerate(wanted.items())
        }
        return cls(values, shares)

    def part(self, start: Any, stop: Any) -> "Noise":
        """That of the images from `start` up to before `stop`."""
        shares = {name: values[start:stop] for name, values in self.shares.items()}
        return Noise(self.values[start:stop], shares)

    def uniform(self, column: str) -> Any:
        """In [0, 1), `(B,)`."""
        return self.values[:, COLUMNS.index(column)]

    def signed(self, column: str) -> Any:
        """In [-1, 1), `(B,)`."""
        return 2 * self.uniform(column) - 1

    def whole(self, column: str, reach: int) -> Any:
        """Over the integers from -reach to reach, int32 `(B,)`."""
        return tf.cast(tf.floor(self.uniform(column) * (2 * reach + 1)), tf.int32) - reach


def _beta(alpha: float, count: Any, key: Any) -> Any:
    """Draws from Beta(α, α), `(count,)`: the share of one of two draws from Gamma(α)."""
    gammas = tf.random.stateless_gamma([2, count], key, alpha) + 1e-30  # small α draws zeros
    return gammas[0] / (gammas[0] + gammas[1])
