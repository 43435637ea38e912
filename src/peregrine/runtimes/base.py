"""`Runtime`: the one interface behind which every inference library stands.

A subclass opens its library in `__init__`, implements `_infer` for one batch and `_close`. Everything else is here,
once: checks, batching, locking, and the order in which things are said to be wrong.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from peregrine.artifact import ANCESTOR, Artifact, Probabilities
from peregrine.candidate import Candidate
from peregrine.dataset import ImageArray, Images, Selection, at_once
from peregrine.errors import CheckFailed, DamagedFile, UsageError

BATCH = 250  # small images a library sees at once; larger batches gained nothing on CPUs and cost memory

# An operation's name and kind, and the names of the values that it reads and gives
Operation = tuple[str, str, tuple[str, ...], tuple[str, ...]]


class Runtime(ABC):
    """An opened Candidate. Use it in a `with` block, or call `close`.

    `predict` may be called from several threads; calls of one Runtime run one after the other.

    Attributes:
        candidate: how the model is run.
        artifact: the model that is run.
        class_names: in the order of the probabilities.
        preprocess: makes what `predict` takes, of a file, or by its `fit_array` of pixels of another size.
    """

    def __init__(self, candidate: Candidate, artifact: Artifact) -> None:
        self.candidate = candidate
        self.artifact = artifact
        self.class_names = artifact.manifest.class_names
        self.preprocess = artifact.manifest.preprocess
        self._lock = threading.Lock()
        self._closed = False

    @property
    @abstractmethod
    def provider(self) -> str:
        """The device that really runs the model, as the library reports it after loading: `cpu` or `cuda`."""

    @property
    def threads(self) -> int:
        """Compute threads, as the library reports them after loading; what was asked for where it cannot tell."""
        return self.candidate.threads

    @property
    def batch_size(self) -> int:
        """Images that the library sees at once: a static batch, or else `BATCH`, fewer of images over 64 pixels."""
        return self.candidate.batch or at_once(BATCH, self.preprocess.size)

    @abstractmethod
    def _infer(self, images: Images) -> Probabilities:
        """One batch: contiguous uint8 `(n, H, W, 3)`, n ≥ 1, to float32 `(n, C)`."""

    def _infer_logits(self, images: Images) -> npt.NDArray[np.float32]:
        raise UsageError(f"only an ancestor gives logits; {self.candidate.key} gives probabilities alone")

    def _layers(self, images: Images) -> dict[str, npt.NDArray[np.float32]]:
        raise UsageError(f"{self.candidate.key} does not show its layers; ONNX files, Keras models and ancestors do")

    def operations(self) -> list[Operation]:
        """What computes the values of `layers`, in order.

        Raises:
            UsageError: this runtime cannot tell.
        """
        raise UsageError(f"{self.candidate.key} does not show its operations; ONNX files and Keras models do")

    def _close(self) -> None:  # noqa: B027 - most libraries need nothing
        """Let go of what the library holds."""

    def predict(self, images: ImageArray) -> Probabilities:
        """Class probabilities.

        Args:
            images: uint8 `(N, H, W, 3)` RGB at the model's size, any N from 0, any strides.

        Returns:
            float32 `(N, C)`; each row sums to 1.

        Raises:
            UsageError: another dtype or shape, or the Runtime is closed.
            CheckFailed: the library's answer has another shape.
        """
        return self._batched(images, self._infer)

    def logits(self, images: ImageArray) -> npt.NDArray[np.float32]:
        """What `predict` normalises, before temperature and softmax: float32 `(N, C)`. Ancestors only.

        Raises:
            UsageError: this is no ancestor, or as for `predict`.
        """
        return self._batched(images, self._infer_logits)

    def layers(self, images: Images) -> dict[str, npt.NDArray[np.float32]]:
        """What each layer gives for a few images, in the order of computation, pixels as `(N, C, H, W)`.

        Slow and large: it is for finding out where two models part, see `divergence`.

        Raises:
            UsageError: this runtime cannot tell, or as for `predict`.
        """
        self._check(images)
        with self._lock:
            return self._layers(np.ascontiguousarray(images))

    def verify(self) -> None:
        """Run the golden images and compare with what this Candidate gave when it was proved, else the ancestor.

        Raises:
            DamagedFile: the answers differ by more than 0.001 (fp32) or 0.05 (less).
        """
        golden = self.artifact.golden()
        expected = golden.answers.get(self.candidate.key, golden.answers[ANCESTOR])
        limit = 0.001 if self.candidate.precision == "fp32" else 0.05
        difference = float(np.abs(self.predict(golden.images) - expected).max(initial=0.0))
        if not difference <= limit:
            raise DamagedFile(
                f"{self.candidate.key} answers its golden images differently than when it was proved: the largest "
                f"difference is {difference:.4f}, the limit {limit}; export the model again on this machine"
            )

    def close(self) -> None:
        """Release the model. Closing twice is fine."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._close()

    def _batched(
        self, images: ImageArray, infer: Callable[[Images], npt.NDArray[np.float32]]
    ) -> npt.NDArray[np.float32]:
        self._check(images)
        static, size, classes = self.candidate.batch, self.batch_size, len(self.class_names)
        answers = np.empty((len(images), classes), np.float32)
        for start in range(0, len(images), size):
            part = np.ascontiguousarray(images[start : start + size])
            count = len(part)
            if static and count < static:
                part = np.concatenate([part, np.repeat(part[-1:], static - count, 0)])
            with self._lock:
                if self._closed:
                    raise UsageError(f"{self.candidate.key} is closed; open it again")
                answer = infer(part)
            if answer.shape != (len(part), classes):
                found = f"{answer.shape} for {len(part)} images of {classes} classes"
                raise CheckFailed(f"{self.candidate.key} answers (N, C); got {found}; export the model again")
            answers[start : start + count] = answer[:count]
        return answers

    def _check(self, images: ImageArray) -> None:
        size = self.artifact.manifest.preprocess.size
        found = f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}"
        if (
            not isinstance(images, np.ndarray | Selection)
            or images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[1:] != (size, size, 3)
        ):
            raise UsageError(
                f"images are uint8 (N, {size}, {size}, 3); got {found.rstrip()}; this runtime's `preprocess` fits "
                "files, and its `fit_array` fits pixels"
            )
        if self._closed:
            raise UsageError(f"{self.candidate.key} is closed; open it again")

    def _assert_provider(self) -> None:
        """For the end of a subclass's `__init__`: refuse a silent fall-back to another device."""
        if self.provider != self.candidate.provider:
            raise CheckFailed(
                f"{self.candidate.key} was asked to run on {self.candidate.provider}, its library runs it on "
                f"{self.provider}; check the driver with `peregrine doctor`"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def predict_task(candidate: dict[str, Any], images: str, output: str) -> dict[str, Any]:
    """Worker task: answer all images of an .npy file, and the golden ones.

    Args:
        candidate: `Candidate.to_dict()`.
        images: path of uint8 `(N, H, W, 3)`, opened memory-mapped.
        output: path of the .npz to write: `probabilities` `(N, C)` and `golden` `(n, C)`.
    """
    with Candidate.from_dict(candidate).open() as runtime:
        golden = runtime.predict(runtime.artifact.golden().images)  # first, so that what follows is warmed up
        started = time.perf_counter()
        probabilities = runtime.predict(np.load(images, mmap_mode="r"))
        seconds = time.perf_counter() - started
        np.savez(Path(output), probabilities=probabilities, golden=golden)
        return {"provider": runtime.provider, "seconds": seconds}
