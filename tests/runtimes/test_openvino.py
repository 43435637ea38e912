"""OpenVINO: in the precision that was asked for, and without what it gets wrong or tells others."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("peregrine.runtimes.openvino", reason="needs the extra openvino", exc_type=ImportError)
import tiny
from machine import python
from peregrine import host
from peregrine.artifact import Artifact
from peregrine.candidate import candidates, default_candidate
from peregrine.errors import MissingDevice
from peregrine.export.base import convert_task
from peregrine.libraries import openvino
from peregrine.runtimes.base import BATCH
from peregrine.runtimes.openvino import PART, OpenVinoRuntime

pytestmark = pytest.mark.openvino


def network(path: Path, activation: str) -> Artifact:
    """Convolution, pooling, activation, means: what OpenVINO fuses in another order."""
    random = np.random.default_rng(0)
    activations = {
        "Relu": [helper.make_node("Relu", ["pooled"], ["active"])],
        "HardSwish": [helper.make_node("HardSwish", ["pooled"], ["active"])],
        "Gelu": [helper.make_node("Gelu", ["pooled"], ["active"])],
        "Silu": [
            helper.make_node("Sigmoid", ["pooled"], ["gate"]),
            helper.make_node("Mul", ["pooled", "gate"], ["active"]),
        ],
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "first"], ["convolved"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["convolved"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        *activations[activation],
        helper.make_node("Conv", ["active", "second"], ["classes"]),
        helper.make_node("GlobalAveragePool", ["classes"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {"first": random.normal(size=(16, 3, 3, 3)) / 200, "second": random.normal(size=(3, 16, 1, 1))}
    graph = helper.make_graph(
        nodes,
        "pooled",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return tiny.artifact(path / "onnx", content=model.SerializeToString())


@pytest.mark.parametrize("activation", ["Relu", "Silu", "HardSwish", "Gelu"])
def test_an_activation_stays_behind_its_pooling(tmp_path: Path, activation: str) -> None:
    artifact = network(tmp_path, activation)
    convert_task("onnx_to_openvino", str(artifact.path), str(tmp_path / "openvino"), "openvino")
    converted = Artifact.open(tmp_path / "openvino")
    images = tiny.images(50)
    with default_candidate(artifact, "onnxruntime").open() as runtime:
        expected = runtime.predict(images)
    assert np.ptp(expected, axis=0).max() > 0.1
    for candidate in (default_candidate(artifact, "openvino"), default_candidate(converted)):
        with candidate.open() as runtime:
            np.testing.assert_allclose(runtime.predict(images), expected, atol=1e-5)


def test_why_poolings_are_kept_first(tmp_path: Path) -> None:
    """When this fails, OpenVINO has mended it, and `keep_pooling_first` can go."""
    artifact = network(tmp_path, "Silu")
    images = tiny.images(50)
    with default_candidate(artifact, "onnxruntime").open() as runtime:
        expected = runtime.predict(images)
    model = openvino.ov.Core().read_model(artifact.model_path.read_bytes())
    answers = openvino.compile_for_cpu(model, "fp32", 1)({"images": images})[0]
    assert np.abs(answers - expected).max() > 0.01


def test_bf16_is_another_candidate(tmp_path: Path) -> None:
    if not host.has_bf16():
        pytest.skip("this processor has no bf16")
    artifact = network(tmp_path, "Relu")
    single, half = [candidate for candidate in candidates(artifact) if candidate.runtime == "openvino"]
    assert (single.key, half.key) == ("onnx@openvino", "onnx@openvino-bf16")
    images = tiny.images(50)
    with single.open() as one, half.open() as other:
        assert 0 < np.abs(one.predict(images) - other.predict(images)).max() < 0.05


def test_many_images_are_answered_side_by_side(tmp_path: Path) -> None:
    """Few of them are one request, for which nothing is compiled again; answers are the same, in the same order."""
    images = tiny.images(2 * BATCH + 7)
    with default_candidate(network(tmp_path, "Silu"), "openvino").open() as runtime:
        assert isinstance(runtime, OpenVinoRuntime)
        few = np.concatenate([runtime.predict(images[start : start + PART]) for start in range(0, len(images), PART)])
        assert runtime._queue is None
        many = runtime.predict(images)
        assert runtime._queue is not None
    np.testing.assert_allclose(many, few, atol=1e-6)
    assert np.ptp(many, axis=0).max() > 0.1


@pytest.mark.parametrize("activation", ["Silu", "Gelu"])
def test_an_activation_in_parts_is_one_operation(tmp_path: Path, activation: str) -> None:
    """Or NNCF would quantise every part of it."""
    model = openvino.read(network(tmp_path, activation).model_path)
    kinds = {node.get_type_name() for node in model.get_ordered_ops()}
    assert kinds >= {{"Silu": "Swish"}.get(activation, activation)}
    assert kinds.isdisjoint({"Sigmoid", "Erf"})


def test_another_device(tmp_path: Path) -> None:
    candidate = tiny.replace(default_candidate(network(tmp_path, "Relu"), "openvino"), provider="cuda")
    with pytest.raises(MissingDevice, match=r"^onnx@openvino-cuda runs on cuda; OpenVINO is used on the CPU alone$"):
        candidate.open()


def test_nothing_is_told_to_others() -> None:
    """Both libraries find their telemetry missing."""
    ended = python("""
import sys
import peregrine.export.onnx_to_openvino_int8
import nncf.telemetry.wrapper, openvino.tools.ovc.telemetry_utils as ovc
print(ovc.tm.__name__, isinstance(nncf.telemetry.wrapper.telemetry, nncf.telemetry.wrapper.NNCFTelemetry))
""")
    assert ended.stdout.strip() == "openvino.tools.ovc.telemetry_stub False", ended.stderr
