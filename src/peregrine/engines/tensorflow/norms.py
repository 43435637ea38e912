"""Batch norms while training: as one fused operation, and with running statistics that are right from the start.

Keras 3 computes them from single operations, in float32 whatever the policy. Fused, the recipe `cnn` in bf16 runs at
8,600 instead of 6,800 images/s on two cores of Zen 5.
"""

from collections.abc import Callable
from typing import Any

from peregrine.engines.tensorflow.library import keras, tf

SMALLEST_EPSILON = 1e-5  # that the operation takes on every device


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """Keras' layer, with the same weights and numbers; only for training, never for saving.

    With several replicas the statistics are those of the whole batch, so that its size means the same for every
    strategy.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise; falls back on Keras wherever there is nothing to gain."""
        last = self.axis in (-1, len(inputs.shape) - 1)
        if not (training and self.trainable and last and mask is None):
            return super().call(inputs, training=training, mask=mask)
        gamma = self.gamma if self.scale else tf.ones([inputs.shape[-1]])
        beta = self.beta if self.center else tf.zeros([inputs.shape[-1]])
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            outputs, mean, variance = self._over_replicas(inputs, gamma, beta)
        elif len(inputs.shape) == 4 and self.epsilon >= SMALLEST_EPSILON:
            outputs, mean, variance = self._in_one_operation(inputs, gamma, beta)
        else:
            return super().call(inputs, training=training, mask=mask)
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
        return outputs

    def _in_one_operation(self, inputs: Any, gamma: Any, beta: Any) -> tuple[Any, Any, Any]:
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=gamma, offset=beta, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        # The operation gives the unbiased variance, Keras keeps the biased one.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        return outputs, mean, variance * (count - 1) / count

    def _over_replicas(self, inputs: Any, gamma: Any, beta: Any) -> tuple[Any, Any, Any]:
        values, axes = tf.cast(inputs, tf.float32), list(range(len(inputs.shape) - 1))
        everywhere = tf.distribute.get_replica_context().all_reduce
        count = tf.cast(tf.reduce_prod(tf.shape(values)[:-1]), tf.float32)
        total, count = everywhere("SUM", [tf.reduce_sum(values, axes), count])
        mean = total / count
        # In a second pass: the mean of squares minus the square of the mean loses digits.
        variance = everywhere("SUM", tf.reduce_sum((values - mean) ** 2, axes)) / count
        outputs = tf.nn.batch_normalization(values, mean, variance, beta, gamma, self.epsilon)
        return tf.cast(outputs, inputs.dtype), mean, variance


def start_statistics(model: Any, step: Callable[[], object]) -> None:
    """Begin the running statistics of fresh norms with those of the first batch, instead of with mean 0 and variance 1.

    Otherwise the first 50 steps or so, which are the first epochs of a small data set, are judged by statistics of
    nothing: `cnn` on scanned digits stands at 11% instead of 74% validation accuracy after 18 steps.

    Args:
        step: trains on the first batch once, with learning rate 0.
    """
    fresh = [
        layer for layer in model._flatten_layers() if isinstance(layer, FusedBatchNormalization) and _is_fresh(layer)
    ]
    step()
    for layer in fresh:  # now momentum * start + (1 - momentum) * batch
        seen = 1 - layer.momentum
        layer.moving_mean.assign(layer.moving_mean / seen)
        layer.moving_variance.assign(tf.maximum((layer.moving_variance - layer.momentum) / seen, 0.0))


def _is_fresh(layer: Any) -> bool:
    return bool(tf.reduce_all(layer.moving_mean == 0.0) & tf.reduce_all(layer.moving_variance == 1.0))
