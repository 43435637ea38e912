"""Batch norms while training: as one fused operation, and with running statistics that are right from the start.

Keras 3 computes them from single operations, in float32 whatever the policy. Fused, the recipe `cnn` in bf16 runs at
8,600 instead of 6,800 images/s on two cores of Zen 5.
"""

from collections.abc import Callable
from typing import Any

from peregrine.engines.tensorflow.library import keras, tf

SMALLEST_EPSILON = 1.001e-5  # that the operation takes


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """Keras' layer, with the same weights and numbers; only for training, never for saving."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise; falls back on Keras wherever the operation does something else."""
        last = self.axis in (-1, len(inputs.shape) - 1)
        fits = len(inputs.shape) == 4 and last and self.center and self.scale and self.epsilon >= SMALLEST_EPSILON
        if not (training and self.trainable and fits and mask is None):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
        )
        # The operation gives the unbiased variance, Keras keeps the biased one.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        variance *= (count - 1) / count
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
        return outputs


def fuse(model: Any) -> Any:
    """A copy of a model, with fresh weights, whose batch norms are fused."""

    def copy(layer: Any) -> Any:
        kind = FusedBatchNormalization if type(layer) is keras.layers.BatchNormalization else type(layer)
        return kind.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=copy)


def start_statistics(model: Any, step: Callable[[], object]) -> None:
    """Begin the running statistics of fresh norms with those of the first batch, instead of with mean 0 and variance 1.

    Otherwise the first 50 steps or so, which are the first epochs of a small data set, are judged by statistics of
    nothing: `cnn` on scanned digits stands at 11% instead of 74% validation accuracy after 18 steps.

    Args:
        step: trains on the first batch once, with learning rate 0.
    """
    fresh = [layer for layer in model.layers if isinstance(layer, FusedBatchNormalization) and _is_fresh(layer)]
    step()
    for layer in fresh:  # now momentum * start + (1 - momentum) * batch
        seen = 1 - layer.momentum
        layer.moving_mean.assign(layer.moving_mean / seen)
        layer.moving_variance.assign(tf.maximum((layer.moving_variance - layer.momentum) / seen, 0.0))


def _is_fresh(layer: Any) -> bool:
    return bool(tf.reduce_all(layer.moving_mean == 0.0) & tf.reduce_all(layer.moving_variance == 1.0))
