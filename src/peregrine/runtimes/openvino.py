"""OpenVINO on the CPU, for its own files and for ONNX."""

from typing import Any

import numpy as np

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.errors import CheckFailed, MissingDevice
from peregrine.libraries import openvino
from peregrine.runtimes.base import Runtime

PART = 32  # images; what layers hand each other of so many stays in the cache


class OpenVinoRuntime(Runtime):
    """Runs `model.xml` or `model.onnx` in the Candidate's precision with its number of threads.

    A few images are one request, which all threads work on (OpenVINO's mode for latency). More than `PART` of them are
    several requests side by side, each on some of the threads (its mode for throughput), for which the model is
    compiled again when they first come. What has a static batch gets that, one request after the other.
    """

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        super().__init__(candidate, artifact)
        if candidate.provider != "cpu":
            raise MissingDevice(f"{candidate.key} runs on {candidate.provider}; OpenVINO is used on the CPU alone")
        self._model = openvino.read(artifact.model_path)
        self._compiled: Any = openvino.compile_for_cpu(self._model, candidate.precision, candidate.threads)
        self._assert_provider()
        if not openvino.runs_in(self._compiled, candidate.precision):
            raise CheckFailed(
                f"{candidate.key} was asked to run in {candidate.precision}, which OpenVINO does not do on this "
                "processor; run the format's other candidates"
            )
        self._request = self._compiled.create_infer_request()
        self._queue: Any = None

    @property
    def provider(self) -> str:
        devices: list[str] = self._compiled.get_property("EXECUTION_DEVICES")
        return "+".join(devices).lower()

    @property
    def threads(self) -> int:
        return int(self._compiled.get_property("INFERENCE_NUM_THREADS"))

    def _infer(self, images: Images) -> Probabilities:
        if len(images) > PART and self.candidate.batch is None:
            return self._infer_many(images)
        answers = self._request.infer({"images": images}, share_inputs=True)
        return np.array(answers[0])  # the request's own memory is written to again

    def _infer_many(self, images: Images) -> Probabilities:
        if self._queue is None:
            threads = self.candidate.threads
            compiled = openvino.compile_for_cpu(self._model, self.candidate.precision, threads, many=True)
            self._queue = openvino.ov.AsyncInferQueue(compiled)  # of as many requests as are best here
        answers: dict[int, Probabilities] = {}

        def keep(request: Any, start: int) -> None:
            answers[start] = np.array(request.get_output_tensor().data)

        self._queue.set_callback(keep)
        size = min(PART, -(-len(images) // len(self._queue)))
        for start in range(0, len(images), size):
            self._queue.start_async({"images": images[start : start + size]}, start, share_inputs=True)
        self._queue.wait_all()
        return np.concatenate([answers[start] for start in sorted(answers)])

    def _close(self) -> None:
        self._queue = self._request = self._compiled = self._model = None
