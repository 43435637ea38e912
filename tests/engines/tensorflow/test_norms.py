"""The fused batch norm against Keras' own: outputs, gradients and statistics."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
from peregrine.engines.tensorflow.fusing import fuse
from peregrine.engines.tensorflow.library import keras, tf
from peregrine.engines.tensorflow.norms import FusedBatchNormalization, start_statistics

pytestmark = pytest.mark.tensorflow


def a_step(kind: Any, shape: tuple[int, ...], dtype: str = "float32", **settings: Any) -> list[Any]:
    """Output, gradients and statistics after one training step."""
    random = np.random.default_rng(0)
    inputs = tf.constant(random.normal(3, 2, shape), dtype)
    targets = tf.constant(random.normal(size=shape), dtype)
    layer = kind(momentum=0.9, dtype="float32" if dtype == "float32" else "mixed_bfloat16", **settings)
    layer.build(shape)
    for weight in layer.trainable_weights:
        weight.assign(random.uniform(0.5, 1.5, weight.shape))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
        loss = tf.reduce_mean((outputs - targets) ** 2)
    gradients = tape.gradient(loss, [inputs, *layer.trainable_weights])
    return [np.asarray(value, np.float32) for value in (outputs, *gradients, *layer.non_trainable_weights)]


@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False}], ids=["both", "no-scale", "no-center"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_gives_the_numbers_of_keras(dtype: str, tolerance: float, settings: dict[str, Any]) -> None:
    ours = a_step(FusedBatchNormalization, (7, 5, 5, 6), dtype, **settings)
    theirs = a_step(keras.layers.BatchNormalization, (7, 5, 5, 6), dtype, **settings)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [((7, 6), {}), ((7, 5, 5, 6), {"axis": 1}), ((7, 5, 5, 6), {"epsilon": 1e-12})],
    ids=["dense", "axis", "epsilon"],
)
def test_leaves_to_keras_what_the_operation_does_not_do(shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    ours = a_step(FusedBatchNormalization, shape, **settings)
    theirs = a_step(keras.layers.BatchNormalization, shape, **settings)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_frozen_norms_stay_frozen() -> None:
    layer = FusedBatchNormalization(trainable=False)
    inputs = tf.random.stateless_normal([4, 3, 3, 2], [0, 0]) + 5.0
    np.testing.assert_allclose(layer(inputs, training=True), inputs, rtol=1e-3)
    assert layer.moving_mean.numpy().tolist() == [0, 0]


def test_only_the_norms_are_exchanged() -> None:
    image = keras.Input((8, 8, 3))
    hidden = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 3, name="convolution")(image))
    branches = keras.layers.Add(name="add")([hidden, keras.layers.ReLU(name="relu")(hidden)])
    model = keras.Model(image, branches, name="forked")
    fused = fuse(model)
    assert [layer.name for layer in fused.layers[1:]] == [layer.name for layer in model.layers[1:]]
    kinds = [type(layer).__name__ for layer in fused.layers]
    assert kinds == ["InputLayer", "Conv2D", "FusedBatchNormalization", "ReLU", "Add"]
    assert [weight.path for weight in fused.weights] == [weight.path for weight in model.weights]


def test_running_statistics_start_with_the_first_batch_unless_they_were_learned() -> None:
    image = keras.Input((8, 8, 3))
    norms = [FusedBatchNormalization(momentum=0.9, name=name) for name in ("fresh", "learned")]
    model = keras.Model(image, [norm(image) for norm in norms])
    norms[1].moving_mean.assign([4.0, 5.0, 6.0])
    batch = np.random.default_rng(0).normal([1, 2, 3], [0.1, 1, 2], (32, 8, 8, 3)).astype(np.float32)
    start_statistics(model, lambda: model(batch, training=True))
    np.testing.assert_allclose(norms[0].moving_mean, batch.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(norms[0].moving_variance, batch.var((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(norms[1].moving_mean, 0.9 * np.array([4, 5, 6]) + 0.1 * batch.mean((0, 1, 2)), rtol=1e-4)
