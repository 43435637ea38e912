"""TensorBoard event files, written without TensorFlow or PyTorch.

`torch.utils.tensorboard` imports all of TensorFlow when it is installed (seconds, and hundreds of megabytes); the
`tensorboard` package has the record format and the messages, and they are all that is needed.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter


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
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        tensor = TensorProto(dtype=DT_STRING, string_val=[markdown.encode()])
        self._write(Event(step=step, summary=Summary(
            value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]
        )))  # fmt: skip

    def close(self) -> None:
        """Flush and close the file."""
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
