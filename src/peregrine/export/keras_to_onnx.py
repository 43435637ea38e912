"""Keras to ONNX, by tf2onnx from the traced function: its own way in for Keras fails with Keras 3."""

from pathlib import Path
from typing import Any

import onnx

from peregrine.artifact import Artifact
from peregrine.engines.tensorflow.checkpoint import load_model
from peregrine.engines.tensorflow.library import keras, tf
from peregrine.engines.tensorflow.network import copy_weights
from peregrine.export import onnx_rewrites
from peregrine.formats import FORMATS

# isort: split
import tf2onnx  # after our `library`, which brings TensorFlow in quietly

OPSET = 18  # the newest that tf2onnx 1.17 writes


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `model.onnx` into `folder`, NCHW inside, with free batch size and all weights inside.

    Returns:
        Notes for the manifest: the opset, and what produced the file.
    """
    keras_model = _with_erf(load_model(source.model_path))
    signature = [tf.TensorSpec([None, *keras_model.input_shape[1:]], tf.uint8, name="images")]
    function = tf.function(lambda images: keras_model(images, training=False), input_signature=signature)
    model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    graph = model.graph
    graph.name = keras_model.name
    onnx_rewrites.permute_before_normalising(graph)
    onnx_rewrites.restore_batch_norms(graph)
    onnx_rewrites.pool_before_permuting(graph)
    onnx_rewrites.fix_reshapes(model)
    onnx_rewrites.remove_idle_reshapes(model)
    onnx_rewrites.name_contract(graph)
    onnx_rewrites.remove_unused(graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, folder / FORMATS["onnx"].file)
    return {"opset": OPSET, "producer": f"{model.producer_name} {model.producer_version}"}


def _with_erf(model: Any) -> Any:
    """The same model with GELU in terms of erf: Keras 3.15 takes erfc, which is no operation of ONNX.

    Written as ONNX Runtime looks for it, to make one operation of it again.
    """
    swapped = []

    def copy(layer: Any) -> Any:
        if isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.gelu:
            swapped.append(layer.name)
            return keras.layers.Activation(_gelu, name=layer.name)
        return type(layer).from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=copy, recursive=True)
    if not swapped:
        return model
    copy_weights(model, clone)
    return clone


def _gelu(x: Any) -> Any:
    return x * (0.5 * (1.0 + tf.math.erf(x * 0.7071067811865476)))
