"""LiteRT on the CPU, for TFLite files."""

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.errors import MissingDevice
from peregrine.libraries.litert import LoadedModel
from peregrine.runtimes.base import Runtime


class TfliteRuntime(Runtime):
    """Runs `model.tflite` with the Candidate's number of threads.

    It computes in float32 from weights in half precision, as XNNPACK does on CPUs; in INT8 from those in INT8.
    """

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        super().__init__(candidate, artifact)
        if candidate.provider != "cpu":
            raise MissingDevice(f"{candidate.key} runs on {candidate.provider}; LiteRT is used on the CPU alone")
        self._model = LoadedModel(artifact.model_path.read_bytes(), candidate.threads)

    @property
    def provider(self) -> str:
        return "cpu"

    def _infer(self, images: Images) -> Probabilities:
        return self._model(images)

    def _close(self) -> None:
        del self._model
