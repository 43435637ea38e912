"""ONNX files, read so that nothing but what was verified gets into a library: one file, no external data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from peregrine.errors import CheckFailed, DamagedFile


def read(path: Path) -> bytes:
    """The content of an ONNX file, for a library to parse.

    External data is outside of the Artifact's hashes, and its path may lead anywhere.

    Raises:
        DamagedFile: it is no ONNX file.
        CheckFailed: it keeps weights in another file; the message names the first.
    """
    content = path.read_bytes()
    refuse_external_data(parse(content, path), path)
    return content


def load(path: Path) -> Any:
    """The `ModelProto` in a file; raises as `read` does."""
    model = parse(path.read_bytes(), path)
    refuse_external_data(model, path)
    return model


def parse(content: bytes, path: Path) -> Any:
    """The `ModelProto` in `content`; `path` is for the message.

    Raises:
        DamagedFile: it is no ONNX file.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise DamagedFile(f"{path} is no ONNX file; export the model again") from None
    return model


def refuse_external_data(model: Any, path: Path) -> None:
    """Refuse a model of which a part lies in another file.

    Raises:
        CheckFailed: the message names the first weight, and where it would come from.
    """
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "nowhere")
            raise CheckFailed(
                f"an ONNX file holds its weights itself; {path} takes {tensor.name!r} from {where!r}; "
                "save it as one file, without external data"
            )


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a message: weights, constants of nodes, of subgraphs and of functions."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if isinstance(value, (list, tuple)) or hasattr(value, "__len__") else [value]:
                yield from _tensors(part)
