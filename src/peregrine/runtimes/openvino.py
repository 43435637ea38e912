"""OpenVINO on the CPU, for its own files and for ONNX."""

from typing import Any

import numpy as np

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.errors import CheckFailed, MissingDevice
from peregrine.libraries import openvino
from peregrine.runtimes.base import Runtime


class OpenVinoRuntime(Runtime):
    """Runs `model.xml` or `model.onnx` in the Candidate's precision with its number of threads."""

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        super().__init__(candidate, artifact)
        if candidate.provider != "cpu":
            raise MissingDevice(f"{candidate.key} runs on {candidate.provider}; OpenVINO is used on the CPU alone")
        model = openvino.read(artifact.model_path)
        self._compiled: Any = openvino.compile_for_cpu(model, candidate.precision, candidate.threads)
        self._assert_provider()
        if not openvino.runs_in(self._compiled, candidate.precision):
            raise CheckFailed(
                f"{candidate.key} was asked to run in {candidate.precision}, which OpenVINO does not do on this "
                "processor; run the format's other candidates"
            )
        self._request = self._compiled.create_infer_request()

    @property
    def provider(self) -> str:
        devices: list[str] = self._compiled.get_property("EXECUTION_DEVICES")
        return "+".join(devices).lower()

    def _infer(self, images: Images) -> Probabilities:
        answers = self._request.infer({"images": images}, share_inputs=True)
        return np.array(answers[0])  # the request's own memory is written to again

    def _close(self) -> None:
        self._request = self._compiled = None
