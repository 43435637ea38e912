"""Half precision between the two ends."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tiny
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.errors import CheckFailed
from peregrine.export.base import convert_task


def source(path: Path, weight: float = 1.0) -> Artifact:
    """Cast, permute, shift; a convolution and the mean of each channel; the temperature and softmax."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["nchw", "shared"], ["shifted"]),
        helper.make_node("Conv", ["shifted", "weight"], ["convolved"]),
        helper.make_node("Mul", ["convolved", "shared"], ["scaled"]),
        helper.make_node("GlobalAveragePool", ["scaled"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node("Div", ["logits", "temperature"], ["divided"]),
        helper.make_node("Softmax", ["divided"], ["probabilities"], axis=1),
    ]
    constants = {
        "shared": np.full((3, 1, 1), 0.5, np.float32),
        "weight": weight * np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) / 64,
        "temperature": np.float32(1.5),
    }
    graph = helper.make_graph(
        nodes,
        "mean colour",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return tiny.artifact(path / "onnx", content=model.SerializeToString())


def test_all_but_the_ends_is_half(tmp_path: Path) -> None:
    convert_task("onnx_to_onnx_fp16", str(source(tmp_path).path), str(tmp_path / "onnx-fp16"), "onnx-fp16")
    made = Artifact.open(tmp_path / "onnx-fp16")
    model = onnx.shape_inference.infer_shapes(onnx.load(made.model_path))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    half = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    assert half == {"shifted/cast", "convolved", "scaled", "pooled", "logits"}
    constants = {constant.name: constant.data_type for constant in model.graph.initializer}
    assert constants == {"shared": 1, "shared/half": 10, "weight/half": 10, "temperature": 1}
    assert made.manifest.notes["kept_in_fp32"] == ["Cast", "Transpose", "Sub", "Div", "Softmax"]
    images = tiny.images(50)
    with default_candidate(source(tmp_path / "again")).open() as before, default_candidate(made).open() as after:
        difference = np.abs(before.predict(images) - after.predict(images)).max()
    assert 0 < difference < 2e-3


def test_a_weight_that_half_cannot_hold(tmp_path: Path) -> None:
    large = source(tmp_path, weight=64 * 70_000)
    message = "^half precision holds numbers up to 65504; weight has 70000; use fp32 or int8$"
    with pytest.raises(CheckFailed, match=message):
        convert_task("onnx_to_onnx_fp16", str(large.path), str(tmp_path / "onnx-fp16"), "onnx-fp16")
    assert not (tmp_path / "onnx-fp16").exists()
