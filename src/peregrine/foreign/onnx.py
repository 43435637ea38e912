"""Somebody's ONNX file: checked, then opened."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import inliner, version_converter

from peregrine import host
from peregrine.errors import CheckFailed, DamagedFile, UsageError
from peregrine.foreign.base import check_file, first_line
from peregrine.foreign.onnx_graph import OnnxGraph
from peregrine.libraries import onnx_file

OLDEST_OPSET = 17
_DOMAINS = ("", "ai.onnx")
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


def open_model(path: Path) -> OnnxGraph:
    """Open an `.onnx` file; an older opset is upgraded.

    Raises:
        DamagedFile: it is no ONNX file, or breaks the rules of ONNX.
        CheckFailed: it keeps weights in another file, or ONNX Runtime cannot run it.
        UsageError: it is of a kind that cannot be imported; the message says which, and what to do.
    """
    check_file(path)
    original = onnx_file.load(path)
    model = inliner.inline_local_functions(original) if original.functions else original
    nodes = list(_nodes(model.graph))
    if not nodes:
        raise DamagedFile(f"{path} is no ONNX file; export the model again")
    _refuse_unknown(nodes, path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise DamagedFile(f"{path} breaks the rules of ONNX ({first_line(error)}); export the model again") from None
    opset = next((opset.version for opset in model.opset_import if opset.domain in _DOMAINS), 0)
    upgraded = _upgrade(model, opset, path)
    session = _session(original, path)
    names = [value.name for value in session.get_outputs()]
    notes = {
        "opset": max(opset, OLDEST_OPSET),
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        **({"upgraded_from_opset": opset} if opset < OLDEST_OPSET else {}),
    }
    return OnnxGraph(path, upgraded, lambda feed: dict(zip(names, session.run(names, feed), strict=True)), notes)


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes, those of subgraphs too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _nodes(inner)


def _refuse_unknown(nodes: list[Any], path: Path) -> None:
    for node in nodes:
        if node.domain not in _DOMAINS:
            raise UsageError(
                f"an ONNX file has operators of ONNX itself; {path} has {node.op_type} of {node.domain!r}, which other "
                "runtimes do not know; export the model without it"
            )
        if node.op_type in _QUANTISED or node.op_type.startswith("QLinear"):
            raise UsageError(
                f"a model is imported in float32, to compare INT8 with; {path} is quantised already ({node.op_type}); "
                "import the file that it was made of"
            )


def _upgrade(model: Any, opset: int, path: Path) -> Any:
    if opset >= OLDEST_OPSET:
        return model
    try:
        upgraded = version_converter.convert_version(model, OLDEST_OPSET)
        onnx.checker.check_model(upgraded, full_check=True)
    except Exception as error:  # the converter raises whatever it stumbles on
        raise UsageError(
            f"ONNX files are of opset {OLDEST_OPSET} or later here; {path} is of {opset}, and onnx cannot upgrade it "
            f"({first_line(error)}); export the model again with opset_version={OLDEST_OPSET} or later"
        ) from None
    return upgraded


def _session(model: Any, path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = host.threads(), 1
    options.log_severity_level = 3
    try:
        # bytes, not a path, so that nothing else is read
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:  # of classes that ONNX Runtime does not share
        raise CheckFailed(f"ONNX Runtime cannot run {path} ({first_line(error)}); export the model again") from None
