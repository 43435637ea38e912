"""Tiny ONNX models in every precision that TensorRT takes, with the contract of an Artifact's file."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

import tiny
from peregrine.artifact import ANCESTOR, Artifact, Golden

WIDTH = 4


def network(seed: int = 0, width: int = WIDTH) -> Any:
    """Cast, permute, normalise, two convolutions of which the second is skipped around, a dense layer, softmax.

    uint8 `(N, 8, 8, 3)` `images` to float32 `(N, 3)` `probabilities`.
    """
    random = np.random.default_rng(seed)
    weights = {
        "mean": np.full((1, 3, 1, 1), 120.0),
        "deviation": np.full((1, 3, 1, 1), 60.0),
        "first": random.normal(0, 0.3, (width, 3, 3, 3)),
        "second": random.normal(0, 0.3, (width, width, 3, 3)),
        "dense": random.normal(0, 0.8, (width, len(tiny.CLASSES))),
        "temperature": np.array([1.5]),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], "permute", perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "mean"], ["centred"], "centre"),
        helper.make_node("Div", ["centred", "deviation"], ["normal"], "scale"),
        helper.make_node("Conv", ["normal", "first"], ["one"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["one"], ["one/relu"], "relu1"),
        helper.make_node("Conv", ["one/relu", "second"], ["two"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["two", "one/relu"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["two/relu"], "relu2"),
        helper.make_node("GlobalAveragePool", ["two/relu"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"], "dense"),
        helper.make_node("Div", ["logits", "temperature"], ["tempered"], "temper"),
        helper.make_node("Softmax", ["tempered"], ["probabilities"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", tiny.SIZE, tiny.SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(tiny.CLASSES)])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


HEAD = ("cast", "permute", "centre", "scale")


def half(model: Any, keep: tuple[str, ...] = ()) -> Any:
    """In half precision between the normalisation and the answer; the nodes `keep` stay in float32, between casts."""
    made = copy.deepcopy(model)
    constants = {constant.name: constant for constant in made.graph.initializer}
    nodes: list[Any] = []
    for node in made.graph.node:
        nodes.append(node)
        if node.name in HEAD:
            if node.name == HEAD[-1]:
                nodes.append(_cast(node, TensorProto.FLOAT16))
        elif node.name in keep:
            before = helper.make_node("Cast", [node.input[0]], [f"{node.name}/float"], to=TensorProto.FLOAT)
            node.input[0] = before.output[0]
            nodes[-1:] = [before, node, _cast(node, TensorProto.FLOAT16)]
        else:
            for name in set(node.input) & constants.keys():
                value = numpy_helper.to_array(constants[name]).astype(np.float16)
                constants[name].CopyFrom(numpy_helper.from_array(value, name))
    nodes.append(_cast(nodes[-1], TensorProto.FLOAT))
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    onnx.checker.check_model(made, full_check=True)
    return made


def _cast(node: Any, kind: int) -> Any:
    """A Cast that takes over the name of what a node gives."""
    name = node.output[0]
    node.output[0] = f"{name}/before"
    return helper.make_node("Cast", [node.output[0]], [name], f"{name}/cast", to=kind)


def quantised(model: Any, folder: Path, without: tuple[str, ...] = ()) -> Any:
    """In INT8 with symmetric QDQ nodes, as TensorRT wants them; the nodes `without` stay in float32."""

    class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([tiny.images(16, seed) for seed in range(2)])

        def get_next(self) -> dict[str, Any] | None:
            return next(({"images": batch} for batch in self.batches), None)

    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, folder / "float.onnx")
    quantization.quantize_static(
        folder / "float.onnx",
        folder / "quantised.onnx",
        Calibration(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=list(without),
        op_types_to_quantize=["Conv", "MatMul", "Add"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
            "DedicatedQDQPair": True,
        },
    )
    return onnx.load(folder / "quantised.onnx")


def write(path: Path, model: Any, format: str = "onnx", **changes: Any) -> Artifact:
    """An Artifact of an ONNX model; its golden answers are made up unless given."""
    golden = changes.pop("golden", None) or Golden(tiny.images(4), {ANCESTOR: tiny.answers(4)})
    like: Mapping[str, Any] = tiny.like(**changes)
    with Artifact.write(path, format=format, like=like, golden=golden, notes={"opset": 18}) as folder:
        onnx.save_model(model, folder / "model.onnx")
    return Artifact.open(path)
