"""An ONNX graph with preprocessing put before it and a softmax behind it: cast, permute, normalise, model, softmax."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from peregrine import host
from peregrine.artifact import Probabilities
from peregrine.dataset import Images
from peregrine.errors import CheckFailed, UsageError
from peregrine.foreign.base import ForeignModel, Shape, first_line
from peregrine.foreign.pixels import Pixels
from peregrine.formats import FORMATS

Arrays = dict[str, npt.NDArray[Any]]
_DTYPES = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}
_BATCH = 50
_OURS = ("images", "probabilities")


class OnnxGraph(ForeignModel):
    """A model that is written as ONNX, whatever answers for the file as it came.

    Args:
        model: a `ModelProto` of opset 17 or later, checked.
        run: asks the file as it came: inputs by name to outputs by name.
    """

    format = "onnx"

    def __init__(self, path: Path, model: Any, run: Callable[[Arrays], Arrays], notes: dict[str, Any]) -> None:
        graph = model.graph
        constants = {constant.name for constant in graph.initializer}
        inputs = [value for value in graph.input if value.name not in constants]
        if len(inputs) != 1:
            found = ", ".join(value.name for value in inputs) or "none"
            raise UsageError(f"a classifier has one input; {path} has {found}; export it with its images alone")
        kind = inputs[0].type.tensor_type.elem_type
        super().__init__(
            path,
            _shape(inputs[0]),
            _DTYPES.get(kind) or TensorProto.DataType.Name(kind).lower(),
            {value.name: _shape(value) for value in graph.output},
            notes,
        )
        self._model = model
        self._run = run
        self._input = inputs[0].name

    def _infer(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        try:
            return self._run({self._input: values})[self.output]
        except Exception as error:  # of classes that libraries do not share
            raise CheckFailed(
                f"{self.path} cannot answer images {values.shape} {values.dtype} ({first_line(error)}); "
                "check --size and --layout"
            ) from None

    def write(self, folder: Path, pixels: Pixels, outputs: str) -> None:
        """Write `model.onnx`: one file, checked, with a free batch."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        taken = set(_values(graph))
        own = "peregrine"
        while any(name.startswith(f"{own}/") for name in taken):  # a file that was imported before
            own += "_"
        for name in taken.intersection(_OURS):
            _rename(graph, name, f"{own}/{name}")
        source, target = (f"{own}/{name}" if name in _OURS else name for name in (self._input, self.output))
        if self.batch:
            _free_batch(graph, source, self.batch, own)
        head, weights = self._head(source, pixels, own)
        nodes = [*head, *graph.node, *_tail(target, outputs, own)]
        # With the inputs go constants among them, which older files have, and notes on values of a fixed batch.
        del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend(weights)
        image = ["N", self.size, self.size, 3]
        graph.input.append(helper.make_tensor_value_info("images", TensorProto.UINT8, image))
        graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", None]))
        _finish(model)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
            classes = _shape(inferred.graph.output[0])[-1]
            if classes is not None:
                graph.output[0].type.tensor_type.shape.dim[1].dim_value = classes
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise CheckFailed(
                f"preprocessing cannot be put before {self.path} ({first_line(error)}); "
                "export the model again with a free batch size"
            ) from None
        onnx.save_model(model, folder / FORMATS["onnx"].file)

    def reopen(self, folder: Path) -> Callable[[Images], Probabilities]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = host.threads(), 1
        options.log_severity_level = 3
        content = (folder / FORMATS["onnx"].file).read_bytes()

        def answer(images: Images) -> Probabilities:
            parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
            return np.concatenate([session.run(["probabilities"], {"images": part})[0] for part in parts])

        try:
            session: Any = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
            for count in (1, 3):  # images at once
                answer(np.zeros((count, self.size, self.size, 3), np.uint8))
        except Exception as error:  # of classes that ONNX Runtime does not share
            batch = f" that is fixed at {self.batch}" if self.batch else ""
            raise CheckFailed(
                f"{self.path} does not run with a free batch size{batch} ({first_line(error)}); "
                "export the model again with a free one"
            ) from None
        return answer

    def _head(self, target: str, pixels: Pixels, own: str) -> tuple[list[Any], list[Any]]:
        """Nodes from `images` to the model's own input, and their constants."""
        planes = self.layout == "NCHW"
        factor, offset = (each.reshape(-1, 1, 1) if planes else each for each in pixels.factors())
        steps: list[tuple[str, str, Any, dict[str, Any]]] = [("Cast", "cast", None, {"to": TensorProto.FLOAT})]
        if planes:
            steps.append(("Transpose", "permute", None, {"perm": [0, 3, 1, 2]}))
        if pixels.channels == "bgr":
            steps.append(("Gather", "channels", np.array([2, 1, 0], np.int64), {"axis": 1 if planes else 3}))
        if (factor != 1).any():
            steps.append(("Mul", "scale", factor, {}))
        if offset.any():
            steps.append(("Add", "offset", offset, {}))
        if self.dtype == "uint8":
            steps.append(("Cast", "pixels", None, {"to": TensorProto.UINT8}))
        nodes, weights, name = [], [], "images"
        for number, (operation, label, constant, attributes) in enumerate(steps):
            after = target if number == len(steps) - 1 else f"{own}/{label}/value"
            inputs = [name]
            if constant is not None:
                weights.append(numpy_helper.from_array(np.ascontiguousarray(constant), f"{own}/{label}/constant"))
                inputs.append(weights[-1].name)
            nodes.append(helper.make_node(operation, inputs, [after], f"{own}/{label}", **attributes))
            name = after
        return nodes, weights


def _tail(source: str, outputs: str, own: str) -> list[Any]:
    """Nodes from the model's own output to `probabilities`."""
    flat = f"{own}/flat"
    nodes = [helper.make_node("Flatten", [source], [flat], f"{own}/flatten", axis=1)]
    if outputs == "logits":
        return [*nodes, helper.make_node("Softmax", [flat], ["probabilities"], f"{own}/softmax", axis=1)]
    # changes nothing, and ends every graph with an operation on float32
    return [*nodes, helper.make_node("Cast", [flat], ["probabilities"], f"{own}/out", to=TensorProto.FLOAT)]


def _finish(model: Any) -> None:
    """Only the operation sets that are used, and none of what an exporter notes of the machine that it ran on."""
    graph = model.graph
    kept = [opset for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    del model.opset_import[:], model.functions[:]
    model.opset_import.extend(kept)
    model.ir_version = max(model.ir_version, 8)  # from which on constants are no inputs
    graph.name = graph.name or "imported"
    for part in (model, graph, *graph.node, *graph.initializer):
        part.ClearField("doc_string")
        del part.metadata_props[:]


def _shape(value: Any) -> Shape:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


def _values(graph: Any) -> Iterator[str]:
    """Every name of a value in a graph and its subgraphs."""
    yield from (constant.name for constant in graph.initializer)
    yield from (value.name for value in (*graph.input, *graph.output))
    for node in graph.node:
        yield from (*node.input, *node.output)
        for inner in _subgraphs(node):
            yield from _values(inner)


def _rename(graph: Any, old: str, new: str) -> None:
    """Give a value another name, everywhere."""
    for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        named.name = new if named.name == old else named.name
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
        for inner in _subgraphs(node):
            _rename(inner, old, new)


def _subgraphs(node: Any) -> list[Any]:
    return [
        inner
        for attribute in node.attribute
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
    ]


def _free_batch(graph: Any, source: str, batch: int, own: str) -> None:
    """Reshapes to (batch, …) of what comes from the images → to (whatever is left, …), or (as before, …)."""
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    flowing = {source}
    for node in graph.node:
        if flowing.isdisjoint(node.input):
            continue
        flowing.update(node.output)
        if node.op_type != "Reshape" or node.input[1] not in constants or node.input[0] not in flowing:
            continue
        shape = constants[node.input[1]].copy()
        copies_zero = not any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)
        if shape.ndim != 1 or not len(shape) or shape[0] != batch or (-1 in shape[1:] and not copies_zero):
            continue
        shape[0] = 0 if -1 in shape[1:] else -1
        name = f"{own}/shape/{node.output[0]}"
        graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name
