"""Keras on TensorFlow: the ancestor of everything that the TensorFlow engine trained."""

from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.engines.tensorflow.checkpoint import load_model
from peregrine.engines.tensorflow.library import keras, tf, use_threads
from peregrine.engines.tensorflow.network import compiled
from peregrine.errors import MissingDevice
from peregrine.runtimes.base import Operation, Runtime

_DEVICES = {"cpu": "CPU", "cuda": "GPU"}


class KerasRuntime(Runtime):
    """Runs `model.keras` in float32, compiled once for every batch size.

    TensorFlow has one number of threads for the whole process, and keeps it after its first operation.
    """

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        super().__init__(candidate, artifact)
        kind = _DEVICES[candidate.provider]
        if not tf.config.list_physical_devices(kind):
            raise MissingDevice(
                f"{candidate.key} runs on {candidate.provider}; TensorFlow finds no such device; use the provider cpu"
            )
        use_threads(candidate.threads)
        self._device = f"{kind}:0"
        with tf.device(self._device):
            model = load_model(artifact.model_path)
        self._probabilities = compiled(model, "probabilities")
        self._logits = compiled(model, "logits")
        size = artifact.manifest.preprocess.size
        self._infer(np.zeros((1, size, size, 3), np.uint8))  # traces, and shows where it runs
        self._assert_provider()

    @property
    def provider(self) -> str:
        kind = tf.DeviceSpec.from_string(self._ran_on).device_type
        return next((provider for provider, device in _DEVICES.items() if device == kind), str(kind))

    def _infer(self, images: Images) -> Probabilities:
        return self._run(self._probabilities, images)

    def _infer_logits(self, images: Images) -> npt.NDArray[np.float32]:
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

    def _run(self, function: Any, images: Images) -> npt.NDArray[np.float32]:
        with tf.device(self._device):
            answers = function(images)
        self._ran_on = answers.device
        result: npt.NDArray[np.float32] = answers.numpy()
        return result

    def _close(self) -> None:
        del self._probabilities, self._logits
