"""ONNX Runtime on a graph small enough to work out by hand."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import tiny
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.errors import CheckFailed, MissingDevice
from peregrine.metrics import softmax
from peregrine.runtimes.onnxruntime import OnnxRuntime


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """Softmax over the mean red, green and blue divided by 64."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["probabilities"], axis=1),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [64.0]),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 8, 8, 3])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])]
    graph = helper.make_graph(nodes, "mean colour", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return tiny.artifact(tmp_path / "onnx", content=model.SerializeToString())


def test_it_computes_what_the_graph_says(artifact: Artifact) -> None:
    images = tiny.images(300)
    with default_candidate(artifact).open() as runtime:
        assert isinstance(runtime, OnnxRuntime)
        assert runtime.provider == "cpu"
        answers = runtime.predict(images)
    assert answers == pytest.approx(softmax(images.mean((1, 2)) / 64), abs=1e-6)


def test_a_provider_that_is_not_built_in(artifact: Artifact) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime is built with CUDA")
    candidate = tiny.replace(default_candidate(artifact), provider="cuda")
    message = "^onnx@onnxruntime-cuda runs on cuda; this ONNX Runtime is built without it$"
    with pytest.raises(MissingDevice, match=message):
        candidate.open()


def test_a_provider_that_falls_back_without_a_word(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where CUDA is built in, and its libraries or its driver are not there: the session runs on the CPU."""
    real = onnxruntime.InferenceSession
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime is built with CUDA")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda model, options, _: real(model, options, ["CPUExecutionProvider"])
    )
    candidate = tiny.replace(default_candidate(artifact), provider="cuda")
    message = "^onnx@onnxruntime-cuda was asked to run on cuda, its library runs it on cpu; check the driver with"
    with pytest.raises(CheckFailed, match=message):
        candidate.open()


def test_a_model_of_other_classes(artifact: Artifact, tmp_path: Path) -> None:
    content = artifact.model_path.read_bytes()
    other = tiny.artifact(tmp_path / "other", content=content, class_names=("ant", "bee"))
    with (
        default_candidate(other).open() as runtime,
        pytest.raises(CheckFailed, match=r"got \(4, 3\) for 4 images of 2"),
    ):
        runtime.predict(np.zeros((4, 8, 8, 3), np.uint8))
