"""TensorFlow's SavedModel, by its signature: as TensorFlow Serving runs it, without Keras."""

from typing import Any

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.engines.tensorflow.library import tf
from peregrine.errors import CheckFailed
from peregrine.runtimes.on_tensorflow import TensorFlowRuntime

_SIGNATURE = "serving_default"


class SavedModelRuntime(TensorFlowRuntime):
    """Runs `saved_model/` in float32."""

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        super().__init__(candidate, artifact)
        with tf.device(self._device):
            self._loaded: Any = tf.saved_model.load(str(artifact.model_path))  # its functions do not keep it alive
        if _SIGNATURE not in self._loaded.signatures:
            found = ", ".join(self._loaded.signatures) or "none"
            raise CheckFailed(
                f"a SavedModel answers by its signature {_SIGNATURE!r}; {artifact.model_path} has {found}; "
                "export the model again"
            )
        self._signature: Any = self._loaded.signatures[_SIGNATURE]
        self._start()

    def _infer(self, images: Images) -> Probabilities:
        return self._run(lambda pixels: self._signature(images=tf.constant(pixels))["probabilities"], images)

    def _close(self) -> None:
        self._signature = self._loaded = None
