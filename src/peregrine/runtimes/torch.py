"""PyTorch, eager: the ancestor of everything that the PyTorch engine trained."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.engines.pytorch.graph import open_classifier
from peregrine.errors import MissingDevice
from peregrine.runtimes.base import Runtime


class TorchRuntime(Runtime):
    """Runs `model.safetensors` in float32 with the Candidate's number of threads.

    PyTorch has one number of threads for the whole process: the Runtime that was opened last sets it.
    """

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        super().__init__(candidate, artifact)
        if candidate.provider == "cuda" and not torch.cuda.is_available():
            raise MissingDevice(f"{candidate.key} runs on cuda; PyTorch finds no such device; use the provider cpu")
        torch.set_num_threads(candidate.threads)
        self._device = torch.device(candidate.provider)
        self._classifier = open_classifier(artifact).to(self._device)
        self._assert_provider()

    @property
    def provider(self) -> str:
        return self._classifier.temperature.device.type

    def _infer(self, images: Images) -> Probabilities:
        return self._run(self._classifier, images)

    def _infer_logits(self, images: Images) -> npt.NDArray[np.float32]:
        return self._run(self._classifier.logits, images)

    @torch.inference_mode()
    def _run(self, function: Callable[[torch.Tensor], torch.Tensor], images: Images) -> npt.NDArray[np.float32]:
        # PyTorch warns of memory that it must not write to, such as a mapped file; a batch is small.
        writable = images if images.flags.writeable else images.copy()
        return function(torch.from_numpy(writable).to(self._device)).cpu().numpy()

    def _close(self) -> None:
        del self._classifier
