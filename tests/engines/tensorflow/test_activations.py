"""The fused activations against Keras' own: values and slopes."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
from peregrine.engines.tensorflow.activations import FusedActivation
from peregrine.engines.tensorflow.library import keras, tf

pytestmark = pytest.mark.tensorflow


def value_and_slope(layer: Any, inputs: Any) -> list[Any]:
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
    assert outputs.dtype == inputs.dtype
    return [np.asarray(values, np.float32) for values in (outputs, tape.gradient(outputs, inputs))]


@pytest.mark.parametrize("name", ["gelu", "silu", "relu", "hard_silu"])
@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-6), ("mixed_bfloat16", 0.02)])
def test_gives_the_numbers_of_keras(name: str, policy: str, tolerance: float) -> None:
    inputs = tf.cast(tf.linspace(-9.0, 9.0, 401), "float32" if policy == "float32" else "bfloat16")
    ours = value_and_slope(FusedActivation(name, dtype=policy), inputs)
    theirs = value_and_slope(keras.layers.Activation(name, dtype=policy), inputs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
