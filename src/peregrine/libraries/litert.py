"""LiteRT, which runs TFLite files: one opened for batches of any size.

By its Interpreter. LiteRT's newer CompiledModel, in 2.3, writes beyond its memory after a batch was resized: the output
buffers that it makes keep the size of one image. With buffers of our own it was no faster, took 30 times as long
to open, and loads GPU libraries on the way.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from peregrine import chatter
from peregrine.artifact import Probabilities
from peregrine.dataset import Images

Values = dict[int, npt.NDArray[Any]]  # by the tensor's number


class LoadedModel:
    """A model with memory for the batch size that it saw last.

    Args:
        content: of a TFLite file: what was verified is what is parsed.
        threads: compute threads; left alone, LiteRT takes one.
    """

    def __init__(self, content: bytes, threads: int) -> None:
        with chatter.without(b"Created TensorFlow Lite XNNPACK delegate"):
            self._interpreter: Any = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        (self._images,) = (details["index"] for details in self._interpreter.get_input_details())
        (self._probabilities,) = (details["index"] for details in self._interpreter.get_output_details())
        self._count = 0

    def __call__(self, images: Images) -> Probabilities:
        """Contiguous uint8 `(n, H, W, 3)`, n ≥ 1, to float32 `(n, C)`."""
        if len(images) != self._count:
            self._interpreter.resize_tensor_input(self._images, images.shape)
            self._interpreter.allocate_tensors()
            self._count = len(images)
        self._interpreter.set_tensor(self._images, images)
        self._interpreter.invoke()
        answers: Probabilities = self._interpreter.get_tensor(self._probabilities)
        return answers


def all_values(content: bytes, batches: Iterable[Images], threads: int, tensors: Sequence[int]) -> Iterator[Values]:
    """What each of `tensors` holds, for each batch: for calibration."""
    interpreter: Any = Interpreter(
        model_content=content,
        num_threads=threads,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    (given,) = interpreter.get_input_details()
    for images in batches:
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        yield {number: interpreter.get_tensor(number) for number in tensors}
