"""The same network, with layers that train faster in the place of some of Keras'."""

from typing import Any

from peregrine.engines.tensorflow.activations import FusedActivation
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.norms import FusedBatchNormalization

_FUSED: dict[Any, Any] = {
    keras.layers.BatchNormalization: FusedBatchNormalization,
    keras.layers.Activation: FusedActivation,
}


def fuse(model: Any) -> Any:
    """A copy of a model, with fresh weights in the same order."""

    def copy(layer: Any) -> Any:
        return _FUSED.get(type(layer), type(layer)).from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=copy, recursive=True)
