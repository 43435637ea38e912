"""A Keras model as one TensorFlow function from `images` to `probabilities`: what SavedModel and TFLite are made of."""

from pathlib import Path
from typing import Any

from peregrine.engines.tensorflow.checkpoint import load_model
from peregrine.engines.tensorflow.library import keras, tf
from peregrine.engines.tensorflow.network import copy_weights

SIGNATURE = "serving_default"  # the name that TensorFlow's own tools look for


def serving(path: Path) -> tuple[Any, Any]:
    """The function with free batch size, and what holds its weights: nothing else of the model, no code that trains.

    Args:
        path: of the Keras model; code inside it is refused.

    Returns:
        A `tf.Module` with the weights, and the traced function; it lives as long as the module does.
    """
    model = _with_fixed_shapes(load_model(path))
    signature = [tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name="images")]
    function = tf.function(lambda images: {"probabilities": model(images, training=False)}, input_signature=signature)
    module = tf.Module(name=model.name)
    module.weights = [weight.value for weight in model.weights]
    return module, function.get_concrete_function()


class _Reshape(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """To a shape that is known but for the batch size. Keras' own layers compute it anew for every batch.

    XNNPACK leaves such arithmetic to others, which cuts a network into pieces at each one: EfficientNetB0 at 64 pixels
    takes 2.0 ms an image with them, and 1.6 ms without (two cores of Zen 5, the best of 7).
    """

    def __init__(self, shape: tuple[int, ...], name: str) -> None:
        super().__init__(name=name)
        self._shape = shape

    def call(self, inputs: Any) -> Any:
        """Keep the order of the values."""
        return tf.reshape(inputs, [-1, *self._shape])


def _with_fixed_shapes(model: Any) -> Any:
    """The same model with `_Reshape` for Flatten and Reshape."""

    def copy(layer: Any) -> Any:
        if isinstance(layer, keras.layers.Flatten | keras.layers.Reshape):
            return _Reshape(tuple(layer.output.shape[1:]), layer.name)
        return type(layer).from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=copy, recursive=True)
    copy_weights(model, clone)
    return clone
