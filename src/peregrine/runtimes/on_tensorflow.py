"""What runtimes that compute with TensorFlow have in common: its devices and its threads."""

from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine.artifact import Artifact
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.engines.tensorflow.library import tf, use_threads
from peregrine.errors import MissingDevice
from peregrine.runtimes.base import Runtime

_DEVICES = {"cpu": "CPU", "cuda": "GPU"}


class TensorFlowRuntime(Runtime):
    """A subclass loads its model on `_device`, and ends its `__init__` with `_start`.

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

    @property
    def provider(self) -> str:
        kind = tf.DeviceSpec.from_string(self._ran_on).device_type
        return next((provider for provider, device in _DEVICES.items() if device == kind), str(kind))

    @property
    def threads(self) -> int:
        return int(tf.config.threading.get_intra_op_parallelism_threads())

    def _start(self) -> None:
        """Answer one image, which traces the model, and shows where it runs."""
        size = self.artifact.manifest.preprocess.size
        self._infer(np.zeros((1, size, size, 3), np.uint8))
        self._assert_provider()

    def _run(self, function: Any, images: Images) -> npt.NDArray[np.float32]:
        """Call a TensorFlow function on the device."""
        with tf.device(self._device):
            answers = function(images)
        self._ran_on = answers.device
        result: npt.NDArray[np.float32] = answers.numpy()
        return result
