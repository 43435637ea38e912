"""Somebody's SavedModel, by its serving signature, which becomes ONNX: what is kept of it is a graph, no program.

A SavedModel is a program of TensorFlow's operations, of which some read and write files. Those are refused; so are
links, and assets, which an image classifier does not need. It is run in the worker that imports it, and never again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from peregrine.engines.tensorflow.library import tf
from peregrine.errors import DamagedFile, UsageError
from peregrine.foreign.base import check_size, first_line, refuse_links
from peregrine.foreign.onnx_graph import OnnxGraph

# isort: split
import tf2onnx  # after our `library`, which brings TensorFlow in quietly
from tensorflow.core.protobuf import saved_model_pb2

OPSET = 18  # the newest that tf2onnx 1.17 writes
SIGNATURE = "serving_default"
_REACHING_OUT = (
    "ReadFile", "WriteFile", "MatchingFiles", "PrintV2", "PyFunc", "EagerPyFunc", "PyFuncStateless", "WholeFileReader",
    "TFRecordReader", "TextLineReader", "FixedLengthRecordReader", "Save", "SaveSlices", "Recv", "Send",
)  # fmt: skip
_REACHING_OUT_ENDS = ("Dataset", "DatasetV2", "DatasetV3", "SummaryWriter", "ReaderV2")
_FILES = ("saved_model.pb", "fingerprint.pb", "keras_metadata.pb")


def open_model(path: Path) -> OnnxGraph:
    """Open the folder of a SavedModel.

    Raises:
        DamagedFile: it is not a whole SavedModel.
        UsageError: it reaches out of its folder, has no serving signature, or cannot become ONNX.
    """
    _check(path)
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # of TensorFlow's many classes
        raise DamagedFile(f"{path} is no whole SavedModel ({first_line(error)}); save the model again") from None
    signature = loaded.signatures.get(SIGNATURE)
    if signature is None:
        found = ", ".join(loaded.signatures) or "none"
        raise UsageError(
            f"a SavedModel answers by its signature {SIGNATURE!r}; {path} has {found}; save it with that one"
        )
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1:
        raise UsageError(
            f"a classifier has one input; {path} has {', '.join(inputs) or 'none'}; save it with images alone"
        )
    ((name, spec),) = inputs.items()

    def serve(images: Any) -> Any:
        return signature(**{name: images})

    asked = [tf.TensorSpec(spec.shape, spec.dtype, name=name)]
    try:
        model, _ = tf2onnx.convert.from_function(tf.function(serve, input_signature=asked), asked, opset=OPSET)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # tf2onnx raises whatever it stumbles on
        raise UsageError(f"{path} cannot become ONNX ({first_line(error)}); export it where it was trained") from None
    notes = {"opset": OPSET, "producer": f"{model.producer_name} {model.producer_version}", "signature": SIGNATURE}
    (given,) = [value.name for value in model.graph.input]

    def run(feed: dict[str, Any], kept: Any = loaded) -> dict[str, Any]:  # a signature does not keep its variables
        return {key: value.numpy() for key, value in serve(tf.constant(feed[given])).items()}

    return OnnxGraph(path, model, run, notes)


def _check(path: Path) -> None:
    entries = refuse_links(path)
    for entry in entries:
        inside = entry.relative_to(path).as_posix()
        if inside not in _FILES and not inside.startswith("variables/variables."):
            raise UsageError(
                f"a SavedModel of images holds a graph and variables; {path} also has {inside}; save it without assets"
            )
    check_size(path, sum(entry.stat().st_size for entry in entries))
    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:  # protobuf's DecodeError, whose home differs between its versions
        raise DamagedFile(f"{path} is no whole SavedModel ({first_line(error)}); save the model again") from None
    for operation in _operations(content):
        if operation in _REACHING_OUT or operation.endswith(_REACHING_OUT_ENDS):
            raise UsageError(
                f"a SavedModel is imported without what reaches out of it; {path} has the operation {operation}; "
                "export the model without it"
            )


def _operations(content: Any) -> Iterator[str]:
    for meta in content.meta_graphs:
        graph = meta.graph_def
        for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
            yield from (node.op for node in nodes)
