"""Somebody's ONNX file: what is made of it, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import foreign_making
import onnx_making
import tiny
from peregrine.errors import CheckFailed, DamagedFile, PeregrineError, UsageError
from peregrine.foreign.base import as_probabilities, kind_of_outputs
from peregrine.foreign.onnx import open_model
from peregrine.foreign.pixels import Pixels
from peregrine.metrics import softmax

BGR = Pixels("bgr", 1 / 255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def network(layout: str = "NCHW", batch: Any = "N", opset: int = 17, size: Any = 8, **changes: Any) -> Any:
    """A convolution, ReLU, the mean over the pixels and a dense layer: float32 `x` to three `scores`."""
    random = np.random.default_rng(0)
    weights = {
        "kernel": random.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32),
        "dense": random.normal(0, 0.8, (4, 3)).astype(np.float32),
        "flat_shape": np.array([batch if isinstance(batch, int) else 0, 4], np.int64),
    }
    nodes = [
        *([helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2])] if layout == "NHWC" else []),
        helper.make_node("Conv", ["planes" if layout == "NHWC" else "x", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "flat_shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["scores"]),
        *changes.get("nodes", []),
    ]
    shape = [batch, size, size, 3] if layout == "NHWC" else [batch, 3, size, size]
    graph = helper.make_graph(
        nodes,
        "somebody's",
        [helper.make_tensor_value_info("x", changes.get("dtype", TensorProto.FLOAT), shape)],
        [helper.make_tensor_value_info(changes.get("output", "scores"), TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(model: Any, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def imported(path: Path, pixels: Pixels = BGR, outputs: str | None = None, **settings: Any) -> tuple[Any, Any]:
    """What is made of a file, and the opened file."""
    model = open_model(path)
    model.settle(settings.get("layout"), settings.get("size"), settings.get("classes"))
    kind = outputs or kind_of_outputs(model.ask(pixels.apply(tiny.images(7))))
    model.write(path.parent, pixels, kind)
    assert (path.parent / "model.onnx").is_file()
    return model.reopen(path.parent), model


def reference(path: Path, values: Any) -> Any:
    """The file's own answers, one image at a time."""
    session: Any = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    return np.concatenate([session.run(None, {given.name: value[None]})[0] for value in values])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("pixels", [BGR, Pixels(), Pixels(scale=1 / 255)])
def test_answers_as_the_file_does(tmp_path: Path, layout: str, batch: Any, pixels: Pixels) -> None:
    path = saved(network(layout, batch), tmp_path / "somebody.onnx")
    answer, model = imported(path, pixels)
    assert (model.layout, model.size, model.output) == (layout, 8, "scores")
    images = tiny.images(7)
    values = pixels.apply(images)
    expected = softmax(reference(path, values.transpose(0, 3, 1, 2) if layout == "NCHW" else values))
    assert kind_of_outputs(model.ask(values)) == "logits"
    np.testing.assert_allclose(answer(images), expected, atol=1e-6)
    np.testing.assert_allclose(answer(images[:1]), expected[:1], atol=1e-6)


def test_the_file_keeps_the_contract(tmp_path: Path) -> None:
    path = saved(network(batch=1), tmp_path / "somebody.onnx")
    model = onnx.load(saved(network(batch=1), path))
    model.graph.node[0].doc_string = "/home/somebody/train.py"
    imported(saved(model, path))
    made = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(made, full_check=True)
    (images,), (probabilities,) = made.graph.input, made.graph.output
    assert described(images) == ("images", TensorProto.UINT8, ["N", 8, 8, 3])
    assert described(probabilities) == ("probabilities", TensorProto.FLOAT, ["N", 3])
    assert [node.op_type for node in made.graph.node][:5] == ["Cast", "Transpose", "Gather", "Mul", "Add"]
    assert b"/home/somebody" not in (tmp_path / "model.onnx").read_bytes()


def described(value: Any) -> tuple[str, int, list[Any]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]


def test_names_that_we_need_ourselves(tmp_path: Path) -> None:
    """A model that calls its input images and its output probabilities, and even one that was imported before."""
    model = network()
    for node in model.graph.node:
        node.input[:] = ["images" if name == "x" else name for name in node.input]
        node.output[:] = ["probabilities" if name == "scores" else name for name in node.output]
    model.graph.input[0].name, model.graph.output[0].name = "images", "probabilities"
    path = saved(model, tmp_path / "somebody.onnx")
    images = tiny.images(7)
    expected = softmax(reference(path, BGR.apply(images).transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(imported(path)[0](images), expected, atol=1e-6)
    again = tmp_path / "again"
    again.mkdir()
    answer, opened = imported(saved(onnx.load(tmp_path / "model.onnx"), again / "ours.onnx"), Pixels())
    assert (opened.dtype, opened.layout, kind_of_outputs(opened.ask(images.astype(np.float32)))) == (
        "uint8", "NHWC", "probabilities",
    )  # fmt: skip
    np.testing.assert_allclose(answer(images), expected, atol=1e-6)


def test_probabilities_stay_as_they_are(tmp_path: Path) -> None:
    model = network(nodes=[helper.make_node("Softmax", ["scores"], ["shares"], axis=1)], output="shares")
    path = saved(model, tmp_path / "somebody.onnx")
    images = tiny.images(7)
    answer, opened = imported(path)
    given = opened.ask(BGR.apply(images))
    assert kind_of_outputs(given) == "probabilities"
    np.testing.assert_allclose(answer(images), given, atol=1e-6)
    answer, _ = imported(path, outputs="logits")
    np.testing.assert_allclose(answer(images), softmax(given), atol=1e-6)
    np.testing.assert_allclose(as_probabilities(given, "logits"), softmax(given))


def test_an_output_with_more_axes(tmp_path: Path) -> None:
    """As of networks that end with a convolution: (N, C, 1, 1)."""
    model = network(nodes=[helper.make_node("Unsqueeze", ["scores", "last"], ["deep"])], output="deep")
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "last"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("deep", TensorProto.FLOAT, ["N", 3, 1, 1]))
    path = saved(model, tmp_path / "somebody.onnx")
    images = tiny.images(4)
    expected = softmax(reference(path, BGR.apply(images).transpose(0, 3, 1, 2)).reshape(4, 3))
    np.testing.assert_allclose(imported(path)[0](images), expected, atol=1e-6)


def test_the_output_with_a_number_per_class_is_taken(tmp_path: Path) -> None:
    model = network()
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["N", 4]))
    path = saved(model, tmp_path / "somebody.onnx")
    answer, opened = imported(path, classes=3)
    assert opened.output == "scores"
    assert answer(tiny.images(2)).shape == (2, 3)
    for classes, words in ((None, "with a number per class"), (7, "with 7 numbers per image")):
        with pytest.raises(UsageError, match=rf"one output {words}; .* has scores \(N, 3\), flat \(N, 4\); save it"):
            open_model(path).settle(None, None, classes)


def test_a_free_size(tmp_path: Path) -> None:
    path = saved(network(size="S"), tmp_path / "somebody.onnx")
    answer, opened = imported(path, size=8)
    assert opened.size == 8
    assert answer(tiny.images(2)).shape == (2, 3)
    with pytest.raises(UsageError, match=r"somebody\.onnx takes images of any size; give the side in pixels .* --size"):
        open_model(path).settle(None, None, None)
    fixed = open_model(saved(network(), path))
    with pytest.raises(UsageError, match=r"takes images of 8 pixels; got --size 16; leave it out$"):
        fixed.settle(None, 16, None)
    with pytest.raises(UsageError, match=r"takes \(N, 3, 8, 8\), which is not NHWC; leave out --layout$"):
        fixed.settle("NHWC", None, None)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (["N", 1, 8, 8], r"a model takes images of 3 channels; .* takes \(N, 1, 8, 8\)$"),
        (["N", 3, 8, 9], r"images are square here; .* takes \(N, 3, 8, 9\)$"),
        (["N", 3, 3, 3], r"takes \(N, 3, 3, 3\), where the channels may be first or last; give --layout NCHW or NHWC$"),
        (["N", "a", "b", "c"], r"takes \(N, \?, \?, \?\), where the channels may be first or last"),
        (["N", 3, 1000, 1000], r"images have 8 to 512 pixels on a side; .* takes 1000$"),
        (["N", 12], r"takes four axes, batch, channels and two sides; .* takes \(N, 12\)$"),
    ],
)
def test_inputs_that_are_no_images(shape: Any, message: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["y"], axes=[1]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(UsageError, match=message):
        open_model(saved(model, tmp_path / "somebody.onnx")).settle(None, None, None)


@pytest.mark.torch
@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_what_pytorch_exports(opset: int, batch: int | None, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.Hardswish(),
        torch.nn.Upsample(scale_factor=2),
        torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(16, 5),
    ).eval()
    path = foreign_making.export(module, tmp_path / "somebody.onnx", opset, batch)
    answer, opened = imported(path)
    assert opened.notes["opset"] == 17
    assert opened.notes.get("upgraded_from_opset") == (opset if opset < 17 else None)
    images = tiny.images(11)
    with torch.no_grad():
        values = torch.from_numpy(BGR.apply(images).transpose(0, 3, 1, 2).copy())
        expected = module(values).softmax(1).numpy()
    np.testing.assert_allclose(answer(images), expected, atol=1e-6)


def test_a_batch_that_cannot_be_freed(tmp_path: Path) -> None:
    model = network(batch=2, nodes=[helper.make_node("Add", ["scores", "per_image"], ["sum"])], output="sum")
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 3), np.float32), "per_image"))
    with pytest.raises(CheckFailed, match=r"does not run with a free batch size that is fixed at 2 \(.*\); export"):
        imported(saved(model, tmp_path / "somebody.onnx"))


def test_an_operator_of_somebody_elses(tmp_path: Path) -> None:
    model = network(nodes=[helper.make_node("FusedThing", ["scores"], ["y"], domain="com.microsoft")], output="y")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(
        UsageError, match=r"has FusedThing of 'com\.microsoft', which other runtimes do not know; export"
    ):
        open_model(saved(model, tmp_path / "somebody.onnx"))


def test_a_quantised_file(tmp_path: Path) -> None:
    path = saved(onnx_making.quantised(onnx_making.network(), tmp_path / "quantised"), tmp_path / "somebody.onnx")
    with pytest.raises(
        UsageError, match=r"is quantised already \(\w*QuantizeLinear\); import the file that it was made of"
    ):
        open_model(path)


def test_half_precision(tmp_path: Path) -> None:
    model = network(dtype=TensorProto.FLOAT16)
    cast = helper.make_node("Cast", ["half"], ["x"], to=TensorProto.FLOAT)
    model.graph.input[0].name = "half"
    model.graph.node.insert(0, cast)
    with pytest.raises(UsageError, match=r"is imported in float32; .* takes float16; import the one that was trained"):
        open_model(saved(model, tmp_path / "somebody.onnx"))


def test_external_data_is_refused(tmp_path: Path) -> None:
    model = network()
    model.graph.initializer.append(
        TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    )
    model.graph.initializer[-1].external_data.add(key="location", value="../../secret.bin")
    with pytest.raises(CheckFailed, match=r"takes 'stolen' from '\.\./\.\./secret\.bin'; save it as one file"):
        open_model(saved(model, tmp_path / "somebody.onnx"))


@pytest.mark.parametrize("content", [b"", b"no model", bytes(1000)])
def test_something_else(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "somebody.onnx").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"somebody\.onnx is no ONNX file; export the model again$"):
        open_model(tmp_path / "somebody.onnx")


def test_any_truncation_and_any_noise_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = network().SerializeToString()
    random = np.random.default_rng(0)
    pieces = [whole[: len(whole) * part // 20] for part in range(20)]
    pieces += [random.bytes(int(size)) for size in random.integers(1, 400, 50)]
    for content in pieces:
        (tmp_path / "somebody.onnx").write_bytes(content)
        with pytest.raises(PeregrineError) as caught:
            open_model(tmp_path / "somebody.onnx")
        assert "\n" not in str(caught.value)


def test_a_graph_that_breaks_the_rules(tmp_path: Path) -> None:
    model = network()
    model.graph.node[0].input[0] = "nobody made this"
    with pytest.raises(DamagedFile, match=r"somebody\.onnx breaks the rules of ONNX \(.*\); export the model again$"):
        open_model(saved(model, tmp_path / "somebody.onnx"))


def test_two_inputs(tmp_path: Path) -> None:
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, ["N", 1]))
    with pytest.raises(
        UsageError, match=r"a classifier has one input; .* has x, age; export it with its images alone$"
    ):
        open_model(saved(model, tmp_path / "somebody.onnx"))


def test_a_device_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "endless.onnx").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=r"a model is a plain file; .*endless\.onnx is none$"):
        open_model(tmp_path / "endless.onnx")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(UsageError, match=r"has up to 2 GiB; .*large\.onnx has 3\.0 GiB$"):
        open_model(tmp_path / "large.onnx")
