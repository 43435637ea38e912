"""ONNX in half precision, all but its two ends: the pixels' normalisation, and the temperature with the softmax.

Of our own, because the converters that exist leave the graph's own Cast to float32 alone and then mix both precisions,
which TensorRT's parser refuses (microsoft/onnxconverter-common issue 326).
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from peregrine.artifact import Artifact
from peregrine.errors import CheckFailed
from peregrine.formats import FORMATS

# with constants, or with nothing; Gather puts the channels in another order, as some imported models want them
_ENDS = {"Cast", "Transpose", "Gather", "Sub", "Div", "Mul", "Add", "Softmax"}
_ALWAYS_FLOAT = {"Resize": 1}  # inputs from here on are not of the values' type


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `model.onnx` into `folder`; it takes uint8 and gives float32 like every other.

    Returns:
        Notes for the manifest: the opset, and which operations stay in float32.

    Raises:
        CheckFailed: a weight is beyond what half precision holds.
    """
    model = onnx.load_model_from_string(source.model_path.read_bytes())
    head, tail = _head(model.graph), _tail(model.graph)
    _halve(model.graph, [node for node in model.graph.node if node not in head and node not in tail])
    _join(model.graph, head[-1].output[0], [node for node in model.graph.node if node not in head], TensorProto.FLOAT16)
    _join(model.graph, tail[0].input[0], tail, TensorProto.FLOAT)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, folder / FORMATS["onnx-fp16"].file)
    kept = [node.op_type for node in (*head, *tail)]
    return {"opset": source.manifest.notes["opset"], "kept_in_fp32": kept}


def _head(graph: Any) -> list[Any]:
    """The nodes from the input on that only cast, permute, scale and shift."""
    return _chain(graph, graph.input[0].name, lambda node: node.input, lambda node: node.output)


def _tail(graph: Any) -> list[Any]:
    """The nodes up to the output that only scale, and the softmax."""
    return _chain(graph, graph.output[0].name, lambda node: node.output, lambda node: node.input)[::-1]


def _chain(graph: Any, start: str, near: Any, far: Any) -> list[Any]:
    constants = {constant.name for constant in graph.initializer}
    found: list[Any] = []
    name = start
    while True:
        nodes = [node for node in graph.node if name in near(node)]
        flowing = [value for value in nodes[0].input if value not in constants] if nodes else []
        if len(nodes) != 1 or nodes[0].op_type not in _ENDS or len(flowing) != 1:
            return found
        found.append(nodes[0])
        name = next(value for value in far(nodes[0]) if value not in constants)


def _halve(graph: Any, nodes: list[Any]) -> None:
    """Give these nodes' constants and casts half precision; a constant that others need too is copied."""
    constants = {constant.name: constant for constant in graph.initializer}
    halved: dict[str, str] = {}
    for node in nodes:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_half(attribute.t, attribute.t.name))
        for index, name in enumerate(node.input[: _ALWAYS_FLOAT.get(node.op_type)]):
            constant = constants.get(name)
            if constant is not None and constant.data_type == TensorProto.FLOAT:
                if name not in halved:
                    halved[name] = f"{name}/half"
                    graph.initializer.append(_half(constant, halved[name]))
                node.input[index] = halved[name]
    needed = {name for node in graph.node for name in node.input}
    for constant in [constant for constant in graph.initializer if constant.name not in needed]:
        graph.initializer.remove(constant)


def _half(tensor: Any, name: str) -> Any:
    values = numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max(initial=0.0))
    if largest > float(np.finfo(np.float16).max):
        raise CheckFailed(f"half precision holds numbers up to 65504; {tensor.name} has {largest:g}; use fp32 or int8")
    return numpy_helper.from_array(values.astype(np.float16), name)


def _join(graph: Any, name: str, readers: list[Any], to: int) -> None:
    """Cast a value for its readers."""
    cast = f"{name}/cast"
    places = [index for index, node in enumerate(graph.node) if node in readers and name in node.input]
    for index in places:
        node = graph.node[index]
        node.input[:] = [cast if value == name else value for value in node.input]
    graph.node.insert(places[0], helper.make_node("Cast", [name], [cast], to=to))
