"""TensorRT, by either package: CUDA graphs over buffers that are allocated once."""

from typing import Any

import numpy as np
import torch

from peregrine.artifact import Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import Images
from peregrine.errors import CheckFailed, MissingDependency, MissingDevice
from peregrine.libraries.tensorrt import Log, name, need_gpu, trt
from peregrine.runtimes.base import Runtime


class TensorRtRuntime(Runtime):
    """Runs `model.plan` on the first NVIDIA GPU.

    A graph of one batch size is recorded when that size is first seen, and replayed from then on. Sizes between powers
    of two are filled up to the next one, so that a server that sees all sizes needs nine graphs and not 250.

    Raises:
        MissingDevice: there is no GPU, or none of those that the plan is for.
        MissingDependency: PyTorch, which brings memory and streams, is built without CUDA.
        CheckFailed: the plan was built by another package or version.
    """

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        super().__init__(candidate, artifact)
        self._refuse_foreign(artifact.manifest.notes)
        self._log = Log()
        self._library = trt.Runtime(self._log)
        # A plan holds code: these are the bytes that were verified.
        engine = self._library.deserialize_cuda_engine(artifact.model_path.read_bytes())
        if engine is None:
            raise CheckFailed(f"{candidate.key} does not load here: {self._log.reason()}; export the model again here")
        self._engine: Any = engine
        self._largest = artifact.manifest.notes["batch"]["largest"]
        self._fixed = artifact.manifest.notes["batch"]["smallest"] == self._largest
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        size, classes = artifact.manifest.preprocess.size, len(self.class_names)
        images, answers = (self._largest, size, size, 3), (self._largest, classes)
        self._host_images = torch.empty(images, dtype=torch.uint8, pin_memory=True)
        self._host_answers = torch.empty(answers, dtype=torch.float32, pin_memory=True)
        self._images = torch.empty(images, dtype=torch.uint8, device="cuda")
        self._answers = torch.empty(answers, dtype=torch.float32, device="cuda")
        self._graphs: dict[int, tuple[Any, torch.cuda.CUDAGraph]] = {}
        self._assert_provider()

    @property
    def provider(self) -> str:
        return self._images.device.type

    def _refuse_foreign(self, notes: dict[str, Any]) -> None:
        key = self.candidate.key
        gpu = need_gpu(f"{key} runs")
        if gpu.capability not in notes["capabilities"]:
            runs_on = ", ".join(notes["capabilities"])
            raise MissingDevice(
                f"{key} runs on GPUs of compute capability {runs_on}; {gpu.name} has {gpu.capability}; export the "
                "model again on this machine"
            )
        if not torch.cuda.is_available():
            raise MissingDependency(
                f"{key} needs a PyTorch with CUDA for its memory; this one is built without it; "
                "run: pip install 'peregrine[tensorrt]' from PyTorch's index for CUDA"
            )
        built, here = (notes["library"], notes["version"]), (name(), trt.__version__)
        if built != here:
            raise CheckFailed(
                f"{key} is bound to the library that built it, {' '.join(built)}; here is {' '.join(here)}; export the "
                "model again"
            )

    def _infer(self, images: Images) -> Probabilities:
        count = len(images)
        if count > self._largest:  # a plan made for smaller batches than ours
            halves = np.array_split(images, -(-count // self._largest))
            return np.concatenate([self._infer(part) for part in halves])
        filled = self._largest if self._fixed else _filled(count, self._largest)
        self._host_images[:count] = torch.from_numpy(images if images.flags.writeable else images.copy())
        if filled not in self._graphs:
            self._graphs[filled] = self._record(filled)
        with torch.cuda.stream(self._stream):
            self._graphs[filled][1].replay()
        self._stream.synchronize()
        return self._host_answers[:count].numpy().copy()

    def _record(self, count: int) -> tuple[Any, torch.cuda.CUDAGraph]:
        """Copy in, run, copy out, for one batch size; its context lives as long as its graph."""
        context = self._engine.create_execution_context(*self._eager())
        context.set_input_shape("images", tuple(self._images[:count].shape))
        context.set_tensor_address("images", self._images.data_ptr())
        context.set_tensor_address("probabilities", self._answers.data_ptr())
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(2):  # what a context does once, after a new shape, must not be recorded
                self._run(context, count)
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._run(context, count)
        return context, graph

    def _run(self, context: Any, count: int) -> None:
        self._images[:count].copy_(self._host_images[:count], non_blocking=True)
        if not context.execute_async_v3(self._stream.cuda_stream):
            raise CheckFailed(f"{self.candidate.key} failed on a batch of {count}: {self._log.reason()}")
        self._host_answers[:count].copy_(self._answers[:count], non_blocking=True)

    def _eager(self) -> tuple[Any, ...]:
        """TensorRT-RTX finishes its kernels on the device: all before the first answer, or stand-ins are recorded."""
        if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            return ()
        config = self._engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return (config,)

    def _close(self) -> None:
        self._graphs.clear()
        del self._engine, self._library, self._images, self._answers, self._host_images, self._host_answers


def _filled(count: int, largest: int) -> int:
    """The next power of two, or the largest size."""
    return min(1 << (count - 1).bit_length(), largest)
