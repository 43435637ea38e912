"""Keras on TensorFlow: the ancestor of everything that the TensorFlow engine trained, and its copy in HDF5."""

import numpy as np
import numpy.typing as npt

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.engines.tensorflow.checkpoint import load_model
from peregrine.engines.tensorflow.library import keras, tf
from peregrine.engines.tensorflow.network import compiled
from peregrine.runtimes.base import Operation
from peregrine.runtimes.on_tensorflow import TensorFlowRuntime


class KerasRuntime(TensorFlowRuntime):
    """Runs `model.keras` or `model.h5` in float32, compiled once for every batch size."""

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        super().__init__(candidate, artifact)
        with tf.device(self._device):
            model = load_model(artifact.model_path)
        self._probabilities = compiled(model, "probabilities")
        self._logits = compiled(model, "logits")
        self._start()

    def _infer(self, images: Images) -> Probabilities:
        return self._run(self._probabilities, images)

    def _infer_logits(self, images: Images) -> npt.NDArray[np.float32]:
        if self.artifact.manifest.ancestor is not None:
            return super()._infer_logits(images)
        return self._run(self._logits, images)

    def _layers(self, images: Images) -> dict[str, npt.NDArray[np.float32]]:
        model = load_model(self.artifact.model_path)
        names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
        given = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])(images, training=False)
        found = {name: np.asarray(value) for name, value in zip(names, given, strict=True)}
        return {
            name: (value.transpose(0, 3, 1, 2) if value.ndim == 4 else value).astype(np.float32)
            for name, value in found.items()
        }

    def operations(self) -> list[Operation]:
        found = load_model(self.artifact.model_path).layers
        names = {id(layer.output): layer.name for layer in found}
        return [
            (layer.name, type(layer).__name__, tuple(names[id(x)] for x in tf.nest.flatten(layer.input)), (layer.name,))
            for layer in found
            if not isinstance(layer, keras.layers.InputLayer)
        ]

    def _close(self) -> None:
        del self._probabilities, self._logits
