"""Engines of every precision are built without a GPU, by TensorRT-RTX; what is not of its precision is refused."""

from pathlib import Path
from typing import Any

import onnx
import pytest

pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt is not installed")

import onnx_making
from peregrine import catalog
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.errors import CheckFailed, MissingDevice
from peregrine.export import routes
from peregrine.export.base import convert_task, fix_batch_task
from peregrine.export.onnx_to_tensorrt import CAPABILITIES
from peregrine.export.tensorrt_inspection import assert_inspected
from peregrine.export.tensorrt_layers import Layer, assert_precision
from peregrine.host import find_gpu
from peregrine.libraries.tensorrt import name, need_gpu, trt

pytestmark = pytest.mark.tensorrt
TARGETS = {"onnx": "tensorrt", "onnx-fp16": "tensorrt-fp16", "onnx-int8-symmetric": "tensorrt-int8"}


def built(source: Artifact) -> Artifact:
    (step,) = [step for step in routes.steps() if step.source == source.format.name and "tensorrt" in step.target]
    path = source.path.with_name(step.target)
    convert_task(step.edge, str(source.path), str(path), step.target)
    return Artifact.open(path)


def source_of(format: str, folder: Path) -> Artifact:
    model = onnx_making.network()
    if format == "onnx-fp16":
        model = onnx_making.half(model)
    elif format == "onnx-int8-symmetric":
        model = onnx_making.quantised(model, folder / "quantising")
    return onnx_making.write(folder / format, model, format)


@pytest.mark.parametrize("format", TARGETS)
def test_an_engine_is_built_and_bound(format: str, tmp_path: Path) -> None:
    source = source_of(format, tmp_path)
    plan = built(source)
    notes = plan.manifest.notes
    assert plan.format.name == TARGETS[format]
    assert plan.manifest.precision == source.manifest.precision
    assert list(plan.manifest.files) == ["model.plan"]
    assert plan.size_bytes > 1000
    assert (notes["library"], notes["version"]) == (name(), trt.__version__)
    assert notes["batch"] == {"smallest": 1, "usual": 250, "largest": 250}
    assert notes["heavy_layers"] == 3
    assert (notes.get("float_layers", []), plan.manifest.parent) == ([], source.id)
    if name() == "tensorrt_rtx":
        assert notes["capabilities"] == list(CAPABILITIES)


@pytest.mark.parametrize(("source", "target"), TARGETS.items())
def test_each_precision_has_its_route(source: str, target: str) -> None:
    (step,) = routes.route(source, target)
    assert catalog.find("edge", step.edge).extra == "tensorrt"


def test_half_precision_halves_the_plan(tmp_path: Path) -> None:
    width = 128
    half = onnx_making.half(onnx_making.network(width=width))
    small = built(onnx_making.write(tmp_path / "half" / "onnx-fp16", half, "onnx-fp16"))
    large = built(onnx_making.write(tmp_path / "single" / "onnx", onnx_making.network(width=width)))
    weights = 9 * width * (width + 3) + 3 * width
    assert large.size_bytes - small.size_bytes == pytest.approx(2 * weights, rel=0.05)


def test_a_batch_of_one_size(tmp_path: Path) -> None:
    source = onnx_making.write(tmp_path / "onnx", onnx_making.network())
    fix_batch_task(str(source.path), str(tmp_path / "onnx-batch8"), 8)
    plan = built(Artifact.open(tmp_path / "onnx-batch8"))
    assert plan.batch == 8
    assert plan.manifest.notes["batch"] == {"smallest": 8, "usual": 8, "largest": 8}


def test_a_float_file_makes_no_half_engine(tmp_path: Path) -> None:
    source = onnx_making.write(tmp_path / "onnx-fp16", onnx_making.network(), "onnx-fp16")
    message = (
        r"^an fp16 engine has fp16 layers alone; the types in this file make others: conv1 \(float\), "
        r"relu1 \(float\), conv2 \(float\), add \(float\), relu2 \(float\) and \d more; convert the ONNX file again$"
    )
    with pytest.raises(CheckFailed, match=message):
        built(source)
    assert not (tmp_path / "tensorrt-fp16").exists()


def test_one_layer_left_in_float_is_named(tmp_path: Path) -> None:
    model = onnx_making.half(onnx_making.network(), keep=("conv2",))
    with pytest.raises(CheckFailed, match=r"make others: .*conv2 \(float\).*; convert") as caught:
        built(onnx_making.write(tmp_path / "onnx-fp16", model, "onnx-fp16"))
    assert "conv1" not in str(caught.value)


def test_a_half_file_makes_no_float_engine(tmp_path: Path) -> None:
    model = onnx_making.half(onnx_making.network())
    with pytest.raises(CheckFailed, match=r"^an fp32 engine has fp32 layers alone; .*\(half\)"):
        built(onnx_making.write(tmp_path / "onnx", model))


def test_an_int8_engine_has_quantised_layers(tmp_path: Path) -> None:
    message = (
        "^an int8 engine has quantised layers; none of this file's 3 convolutions and products is; give it an ONNX"
    )
    with pytest.raises(CheckFailed, match=message):
        built(onnx_making.write(tmp_path / "onnx-int8-symmetric", onnx_making.network(), "onnx-int8-symmetric"))


def test_layers_that_stayed_in_float_are_noted(tmp_path: Path) -> None:
    model = onnx_making.quantised(onnx_making.network(), tmp_path / "quantising", without=("conv1",))
    plan = built(onnx_making.write(tmp_path / "onnx-int8-symmetric", model, "onnx-int8-symmetric"))
    assert plan.manifest.notes["float_layers"] == ["conv1"]


def test_what_the_parser_refuses_is_explained(tmp_path: Path) -> None:
    """A permutation of uint8, which is why all our graphs cast first."""
    model = onnx_making.network()
    cast, permute = model.graph.node[:2]
    permute.input[0], permute.output[0], cast.input[0], cast.output[0] = "images", "moved", "moved", "planes"
    model.graph.node.remove(cast)
    model.graph.node.insert(1, cast)
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(CheckFailed, match=f"^{name()} cannot parse model.onnx"):
        built(onnx_making.write(tmp_path / "onnx", model))


@pytest.mark.skipif(find_gpu() is not None, reason="this machine has a GPU")
def test_without_a_gpu_the_runtime_says_what_is_missing(tmp_path: Path) -> None:
    candidate = default_candidate(built(onnx_making.write(tmp_path / "onnx", onnx_making.network())))
    assert (candidate.key.partition("@")[0], candidate.provider) == ("tensorrt", "cuda")
    message = r"^tensorrt@tensorrt.* runs on an NVIDIA GPU; its driver \(libcuda\) finds none here; take this to a"
    with pytest.raises(MissingDevice, match=message):
        candidate.open()
    with pytest.raises(MissingDevice, match=r"^that needs to be on an NVIDIA GPU; "):
        need_gpu("that needs to be")


def layer(name: str, kind: str, type: str, inputs: str, output: str) -> Layer:
    return Layer(name, kind, type, tuple(inputs.split()), (output,))


def test_normalisation_and_softmax_may_be_float_around_a_half_network() -> None:
    head = [layer("cast", "CAST", "FLOAT", "images", "a"), layer("to half", "CAST", "HALF", "a", "b")]
    body = [layer("conv", "CONVOLUTION", "HALF", "b", "c"), layer("dense", "MATRIX_MULTIPLY", "HALF", "c", "d")]
    tail = [layer("back", "CAST", "FLOAT", "d", "e"), layer("softmax", "SOFTMAX", "FLOAT", "e", "f")]
    assert assert_precision([*head, *body, *tail], "fp16") == {"heavy_layers": 2}
    shapes = [layer("shape", "SHAPE", "INT64", "c", "s"), *body]
    assert assert_precision([*head, *shapes, *tail], "fp16")["heavy_layers"] == 2
    between = layer("pool", "POOLING", "BF16", "c", "p")
    with pytest.raises(CheckFailed, match=r"pool \(bf16\)"):
        assert_precision([*head, body[0], between, layer("dense", "MATRIX_MULTIPLY", "HALF", "p", "d")], "fp16")


def inspected(kind: str, type: str) -> dict[str, Any]:
    """As `get_engine_information` gives it, by NVIDIA's documentation."""
    first = {"Name": "x", "Dimensions": [1, 4, 8, 8], "Format/Datatype": type}
    return {"Layers": [{"Name": "conv1 + relu1", "LayerType": kind, "Inputs": [first], "Outputs": []}, "a name alone"]}


@pytest.mark.parametrize(
    ("precision", "type", "sound"),
    [
        ("fp16", "Channel major FP16 format where channel % 8 == 0", True),
        ("fp16", "Half", True),
        ("fp16", "Row major linear FP32", False),
        ("fp16", "Float", False),
        ("int8", "Thirty-two wide channel vectorized row major Int8 format", True),
        ("int8", "Row major linear FP32", False),
        ("fp32", "Row major linear FP32", True),
    ],
)
def test_what_the_inspector_tells_is_judged(precision: str, type: str, sound: bool) -> None:
    engine = inspected("CaskConvolution", type)
    if sound:
        assert_inspected(engine, precision)
        return
    with pytest.raises(CheckFailed, match=rf"finds 1 of 1 heavy layers not in {precision}: conv1 \+ relu1; convert"):
        assert_inspected(engine, precision)
    assert_inspected(inspected("Reformat", type), precision)
