"""ONNX Runtime."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.errors import MissingDevice
from peregrine.libraries import onnx_file
from peregrine.runtimes.base import Operation, Runtime

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime(Runtime):
    """Runs `model.onnx` with all graph optimisations and the Candidate's number of threads."""

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        super().__init__(candidate, artifact)
        provider = _PROVIDERS[candidate.provider]
        if provider not in onnxruntime.get_available_providers():
            raise MissingDevice(f"{candidate.key} runs on {candidate.provider}; this ONNX Runtime is built without it")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = candidate.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Bytes, not a path: what was verified is what is parsed, and external data cannot be reached.
        model = onnx_file.read(artifact.model_path)
        self._session: Any = onnxruntime.InferenceSession(model, options, [provider])
        self._assert_provider()

    @property
    def provider(self) -> str:
        # After creation: a provider that failed to load has been replaced by the CPU without a word.
        active: str = self._session.get_providers()[0]
        return {name: key for key, name in _PROVIDERS.items()}.get(active, active)

    @property
    def threads(self) -> int:
        count: int = self._session.get_session_options().intra_op_num_threads
        return count

    def _infer(self, images: Images) -> Probabilities:
        answers: Probabilities = self._session.run(["probabilities"], {"images": images})[0]
        return answers

    def _layers(self, images: Images) -> dict[str, npt.NDArray[np.float32]]:
        """Of the file as it stands: optimising would merge layers."""
        model = onnx_file.load(self.artifact.model_path)
        known = {value.name for value in model.graph.output}
        names = [name for node in model.graph.node for name in node.output if name]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.candidate.threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        values = zip(names, session.run(names, {"images": images}), strict=True)
        return {
            name: value.astype(np.float32)
            for name, value in values
            if value.ndim and len(value) == len(images) and value.dtype.kind == "f"
        }

    def operations(self) -> list[Operation]:
        return [
            (node.name or node.output[0], node.op_type, tuple(node.input), tuple(node.output))
            for node in onnx_file.load(self.artifact.model_path).graph.node
        ]

    def _close(self) -> None:
        self._session = None
