"""OpenVINO on the CPU, for its own files and for ONNX."""

from typing import Any

import numpy as np
import openvino as ov

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.errors import CheckFailed, MissingDevice
from peregrine.runtimes.base import Runtime

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # what is not quantised; left alone, a CPU takes what it likes


class OpenVinoRuntime(Runtime):
    """Runs `model.xml` or `model.onnx` in the Candidate's precision with its number of threads.

    A single image gets all threads; of a large batch, each thread computes a part on its own.
    """

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        super().__init__(candidate, artifact)
        core = ov.Core()
        if candidate.provider.upper() not in core.available_devices:
            raise MissingDevice(f"{candidate.key} runs on {candidate.provider}; OpenVINO finds no such device")
        settings = {
            "INFERENCE_NUM_THREADS": candidate.threads,
            "INFERENCE_PRECISION_HINT": _HINTS[candidate.precision],
            "ENABLE_CPU_PINNING": False,  # threads that may not move wait for each other on a shared machine
        }
        # Bytes, not a path: what was verified is what is parsed.
        path = artifact.model_path
        parts = [path.read_bytes()]
        if path.suffix == ".xml":
            parts.append(path.with_suffix(".bin").read_bytes())
        model = core.read_model(*parts)
        self._alone: Any = core.compile_model(model, "CPU", {**settings, "PERFORMANCE_HINT": "LATENCY"})
        self._assert_provider()
        self._assert_precision()
        self._request = self._alone.create_infer_request()

    @property
    def provider(self) -> str:
        devices: list[str] = self._alone.get_property("EXECUTION_DEVICES")
        return "+".join(devices).lower()

    def _infer(self, images: Images) -> Probabilities:
        answers: Probabilities = self._request.infer({"images": images}, share_inputs=True)[0]
        return np.array(answers)  # the request's own memory is written to again

    def _assert_precision(self) -> None:
        """Refuse a hint that was not heeded."""
        wanted = _HINTS[self.candidate.precision]
        found = self._alone.get_property("INFERENCE_PRECISION_HINT").to_string()
        if found != wanted:
            raise CheckFailed(f"{self.candidate.key} was asked to run in {wanted}, OpenVINO runs it in {found}")

    def _close(self) -> None:
        self._request = self._alone = None
