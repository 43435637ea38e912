"""PyTorch, eager: the ancestor of everything that the PyTorch engine trained."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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

    @property
    def threads(self) -> int:
        return torch.get_num_threads()

    def _infer(self, images: Images) -> Probabilities:
        return self._run(self._classifier, images)

    def _infer_logits(self, images: Images) -> npt.NDArray[np.float32]:
        return self._run(self._classifier.logits, images)

    def _layers(self, images: Images) -> dict[str, npt.NDArray[np.float32]]:
        with torch.no_grad(), OperationRecorder(self._classifier) as recorder:
            self._classifier(torch.from_numpy(images.copy()).to(self._device))
        return {name: value for name, value in recorder.values.items() if value.ndim and len(value) == len(images)}

    @torch.inference_mode()
    def _run(self, function: Callable[[torch.Tensor], torch.Tensor], images: Images) -> npt.NDArray[np.float32]:
        # PyTorch warns of memory that it must not write to, such as a mapped file; a batch is small.
        writable = images if images.flags.writeable else images.copy()
        return function(torch.from_numpy(writable).to(self._device)).cpu().numpy()

    def _close(self) -> None:
        del self._classifier


class OperationRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps what every operation of a module gives, by the module in whose `forward` it happens: `conv1/convolution`.

    Modules alone would not show sums, and activations that are called as functions.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values: dict[str, npt.NDArray[np.float32]] = {}
        self._inside: list[str] = []
        self._module = module
        self._hooks: list[Any] = []

    def __enter__(self) -> "OperationRecorder":
        for name, module in self._module.named_modules():
            self._hooks.append(module.register_forward_pre_hook(functools.partial(self._enter, name)))
            self._hooks.append(module.register_forward_hook(self._leave))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def _enter(self, name: str, *_: Any) -> None:
        self._inside.append(name)

    def _leave(self, *_: Any) -> None:
        self._inside.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        result = given[0] if isinstance(given, tuple) else given  # a norm gives its statistics too
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            where = self._inside[-1] if self._inside else ""
            name = f"{where}/{func.overloadpacket.__name__}"
            times = sum(known.partition("#")[0] == name for known in self.values)
            # a copy, for what comes next may happen in place
            self.values[f"{name}#{times}"] = result.detach().float().cpu().numpy().copy()
        return given
