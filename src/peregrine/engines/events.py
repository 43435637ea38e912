"""TensorBoard event files, written without TensorFlow or PyTorch.

`torch.utils.tensorboard` imports all of TensorFlow when it is installed (seconds, and hundreds of megabytes); the
`tensorboard` package has the record format and the messages, and they are all that is needed.
"""

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

Floats = npt.NDArray[np.floating[Any]]
BUCKETS = 30  # of a histogram, as many as TensorBoard's own writers make
COUNTED = 100_000  # values of an array that a histogram is made of
_PNG_LEVEL = 1  # three times faster than Pillow's own choice, for a file a tenth larger


class EventWriter:
    """Appends to one new event file in `folder`; a context manager.

    Args:
        first_step: events of earlier writers at this step or later are hidden, so a resumed run shows each step once.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{os.uname().nodename}.{os.getpid()}.{first_step}"
        self._file = (folder / name).open("ab")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        if first_step:
            self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write one value per tag."""
        self._write(Event(step=step, summary=Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )))  # fmt: skip

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Write a text that TensorBoard shows as Markdown."""
        self._tensors("text", {tag: TensorProto(dtype=DT_STRING, string_val=[markdown.encode()])}, step)

    def histograms(self, values: Mapping[str, Floats], step: int) -> None:
        """Write how the values of each tag are spread.

        Args:
            values: of any shape. NaN and infinities are left out; of an array with more than 100,000 values, as many
                are counted, drawn at random and always at the same places.
        """
        tensors = {}
        for tag, array in values.items():
            buckets = _buckets(array)
            shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in buckets.shape])
            tensors[tag] = TensorProto(dtype=DT_DOUBLE, tensor_shape=shape, tensor_content=buckets.tobytes())
        self._tensors("histograms", tensors, step)

    def image(self, tag: str, picture: npt.NDArray[np.uint8], step: int) -> None:
        """Write a picture, uint8 `(H, W, 3)`."""
        from PIL import Image  # here, because runs without pictures need it not

        height, width, _ = picture.shape
        png = io.BytesIO()
        Image.fromarray(picture).save(png, "png", compress_level=_PNG_LEVEL)
        content = [str(width).encode(), str(height).encode(), png.getvalue()]
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(content))])
        self._tensors("images", {tag: TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=content)}, step)

    def close(self) -> None:
        """Flush and close the file."""
        self._records.close()

    def _tensors(self, plugin: str, tensors: Mapping[str, TensorProto], step: int) -> None:
        """Write one tensor per tag, for a plug-in of TensorBoard's to show."""
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
        self._write(Event(step=step, summary=Summary(
            value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor) for tag, tensor in tensors.items()]
        )))  # fmt: skip

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _buckets(values: Floats) -> npt.NDArray[np.float64]:
    """Left edge, right edge and count of each bucket: float64 `(BUCKETS, 3)`, all zeros where nothing is finite.

    One value alone stands in the last bucket, and all edges are that value: what TensorBoard's writers make of it.
    """
    flat = values.ravel(order="K")  # in memory order, so that it is no copy
    if flat.size > COUNTED:
        flat = flat[np.random.default_rng(0).integers(0, flat.size, COUNTED)]
    finite = flat[np.isfinite(flat)].astype(np.float64)
    if not finite.size:
        return np.zeros((BUCKETS, 3))
    low, high = finite.min(), finite.max()
    if low == high:
        edges, counts = np.full(BUCKETS + 1, low), np.zeros(BUCKETS, np.intp)
        counts[-1] = finite.size
    else:
        counts, edges = np.histogram(finite, BUCKETS, (low, high))
    return np.stack([edges[:-1], edges[1:], counts], axis=1)
