"""A Keras model as one TensorFlow function from `images` to `probabilities`: what SavedModel and TFLite are made of."""

from pathlib import Path
from typing import Any

from peregrine.engines.tensorflow.checkpoint import load_model
from peregrine.engines.tensorflow.library import tf

SIGNATURE = "serving_default"  # the name that TensorFlow's own tools look for


def serving(path: Path) -> tuple[Any, Any]:
    """The function with free batch size, and what holds its weights: nothing else of the model, no code that trains.

    Args:
        path: of the Keras model; code inside it is refused.

    Returns:
        A `tf.Module` with the weights, and the traced function; it lives as long as the module does.
    """
    model = load_model(path)
    signature = [tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name="images")]
    function = tf.function(lambda images: {"probabilities": model(images, training=False)}, input_signature=signature)
    module = tf.Module(name=model.name)
    module.weights = [weight.value for weight in model.weights]
    return module, function.get_concrete_function()
