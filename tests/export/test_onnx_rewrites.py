"""Each rewrite keeps every number, and leaves alone what it is not sure of."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from peregrine.export import onnx_rewrites


def model(nodes: list[Any], shape: list[Any], kind: int = TensorProto.FLOAT, **constants: Any) -> Any:
    """From `x` to `y`, over the nodes."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, shape)],
        [
            helper.make_tensor_value_info(
                "y", TensorProto.FLOAT, [None] * 2 if nodes[-1].op_type == "Reshape" else [None] * 4
            )
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def answers(model: Any, x: Any) -> Any:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def operations(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def normalising(perm: list[int], scale: Any) -> Any:
    return model(
        [
            node("Cast", "x", "a", to=TensorProto.FLOAT),
            node("Mul", "a scale", "b"),
            node("Add", "b offset", "c"),
            node("Transpose", "c", "y", perm=perm),
        ],
        ["N", 4, 4, 3],
        TensorProto.UINT8,
        scale=scale,
        offset=np.array([1, 2, 3], np.float32),
    )


X = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
SCALE = np.array([0.5, 0.25, 2.0], np.float32)


def test_the_permutation_moves_before_the_normalisation() -> None:
    made = normalising([0, 3, 1, 2], SCALE)
    before = answers(made, X)
    onnx_rewrites.permute_before_normalising(made.graph)
    onnx_rewrites.remove_unused(made.graph)
    assert operations(made) == ["Cast", "Transpose", "Mul", "Add"]
    np.testing.assert_array_equal(answers(made, X), before)


@pytest.mark.parametrize(
    ("perm", "scale"), [([0, 2, 1, 3], SCALE), ([0, 3, 1, 2], np.ones((4, 1, 1), np.float32))], ids=["perm", "rows"]
)
def test_another_permutation_or_constant_stays(perm: list[int], scale: Any) -> None:
    made = normalising(perm, scale)
    onnx_rewrites.permute_before_normalising(made.graph)
    assert operations(made) == ["Cast", "Mul", "Add", "Transpose"]


def normalised_convolution(*steps: str, **attributes: Any) -> Any:
    """Pixels to NCHW, normalised by these steps with constants per channel, into a convolution."""
    random = np.random.default_rng(2)
    names = ["b", *"cdef"[: len(steps)]]
    return model(
        [
            node("Cast", "x", "a", to=TensorProto.FLOAT),
            node("Transpose", "a", "b", perm=[0, 3, 1, 2]),
            *(node(step, f"{name} v{name}", after) for step, name, after in zip(steps, names, names[1:], strict=False)),
            node("Conv", f"{names[-1]} w bias", "y", **attributes),
        ],
        ["N", 4, 4, 3],
        TensorProto.UINT8,
        **{f"v{name}": random.uniform(0.5, 2, (1, 3, 1, 1)).astype(np.float32) for name in names},
        w=random.normal(size=(5, 3, 2, 2)).astype(np.float32),
        bias=random.normal(size=5).astype(np.float32),
    )


@pytest.mark.parametrize("steps", [("Sub", "Div"), ("Mul", "Add"), ("Div", "Sub", "Mul")])
def test_the_normalisation_becomes_part_of_a_convolution(steps: tuple[str, ...]) -> None:
    made = normalised_convolution(*steps)
    before = answers(made, X)
    onnx_rewrites.fold_normalisation(made.graph)
    onnx_rewrites.remove_unused(made.graph)
    assert operations(made) == ["Cast", "Transpose", "Conv"]
    np.testing.assert_allclose(answers(made, X), before, rtol=1e-5, atol=1e-4 * np.abs(before).max())


@pytest.mark.parametrize("attributes", [{"pads": [0, 0, 1, 1]}, {"auto_pad": "SAME_UPPER"}], ids=["pads", "auto_pad"])
def test_the_normalisation_stays_before_a_convolution_that_pads(attributes: dict[str, Any]) -> None:
    """Padding is with zeros after the normalisation, which are other pixels before it."""
    made = normalised_convolution("Sub", "Div", **attributes)
    onnx_rewrites.fold_normalisation(made.graph)
    assert operations(made) == ["Cast", "Transpose", "Sub", "Div", "Conv"]


def skipping(inputs: str, **attributes: Any) -> Any:
    """x, convolved, and x again."""
    weights = np.random.default_rng(3).normal(size=(4, 4, 3, 3)).astype(np.float32)
    attributes = {"pads": [1, 1, 1, 1], **attributes}
    nodes = [node("Relu", "x", "a"), node("Conv", "a w", "b", **attributes), node("Add", inputs, "y")]
    return model(nodes, ["N", 4, 5, 5], w=weights)


@pytest.mark.parametrize("inputs", ["a b", "b a"])
def test_a_skip_becomes_part_of_its_convolution(inputs: str) -> None:
    made = skipping(inputs)
    x = np.random.default_rng(4).normal(size=(2, 4, 5, 5)).astype(np.float32)
    before = answers(made, x)
    onnx_rewrites.fold_skips(made.graph)
    onnx_rewrites.remove_unused(made.graph)
    assert operations(made) == ["Relu", "Conv"]
    np.testing.assert_allclose(answers(made, x), before, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [("x b", {}), ("a b", {"dilations": [2, 2], "pads": [2, 2, 2, 2]}), ("a b", {"pads": [0, 0, 2, 2]})],
    ids=["another value", "dilated", "shifted"],
)
def test_another_skip_stays(inputs: str, attributes: dict[str, Any]) -> None:
    made = skipping(inputs, **attributes)
    onnx_rewrites.fold_skips(made.graph)
    assert operations(made) == ["Relu", "Conv", "Add"]


def test_a_product_and_a_sum_per_channel_are_a_batch_norm() -> None:
    random = np.random.default_rng(1)
    scale, offset = random.normal(size=(2, 1, 3, 1, 1)).astype(np.float32)
    made = model([node("Mul", "x s", "a"), node("Add", "a o", "y")], ["N", 3, 4, 4], s=scale, o=offset)
    x = random.normal(size=(2, 3, 4, 4)).astype(np.float32)
    before = answers(made, x)
    onnx_rewrites.restore_batch_norms(made.graph)
    onnx_rewrites.remove_unused(made.graph)
    assert operations(made) == ["BatchNormalization"]
    np.testing.assert_allclose(answers(made, x), before, rtol=1e-6, atol=1e-6)


def hard_swish(alpha: float, other: str = "x") -> Any:
    nodes = [node("HardSigmoid", "x", "a", alpha=alpha, beta=0.5), node("Mul", f"{other} a", "y")]
    return model(nodes, ["N", 3, 4, 4], z=np.full((1, 3, 4, 4), 2, np.float32))


def test_a_hard_sigmoid_of_x_times_x_is_a_hard_swish() -> None:
    made = hard_swish(1 / 6)
    x = np.linspace(-5, 5, 96, dtype=np.float32).reshape(2, 3, 4, 4)
    before = answers(made, x)
    onnx_rewrites.restore_hard_swishes(made.graph)
    assert operations(made) == ["HardSwish"]
    np.testing.assert_allclose(answers(made, x), before, atol=1e-6)


@pytest.mark.parametrize(("alpha", "other"), [(0.2, "x"), (1 / 6, "z")], ids=["steeper", "times another"])
def test_another_hard_sigmoid_stays(alpha: float, other: str) -> None:
    made = hard_swish(alpha, other)
    onnx_rewrites.restore_hard_swishes(made.graph)
    assert operations(made) == ["HardSigmoid", "Mul"]


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (1, 3, 4, 1), ()])
def test_a_product_of_another_shape_stays(shape: tuple[int, ...]) -> None:
    constants = {name: np.ones(shape, np.float32) for name in ("s", "o")}
    made = model([node("Mul", "x s", "a"), node("Add", "a o", "y")], ["N", 3, 4, 4], **constants)
    onnx_rewrites.restore_batch_norms(made.graph)
    assert operations(made) == ["Mul", "Add"]


def test_a_product_that_is_read_twice_stays() -> None:
    ones = np.ones((1, 3, 1, 1), np.float32)
    nodes = [node("Mul", "x s", "a"), node("Add", "a o", "b"), node("Add", "a b", "y")]
    made = model(nodes, ["N", 3, 4, 4], s=ones, o=ones)
    onnx_rewrites.restore_batch_norms(made.graph)
    assert operations(made) == ["Mul", "Add", "Add"]


def flattening(stop: int, rest: int) -> Any:
    """A Reshape to the first `stop` lengths of the input's shape and a constant."""
    return model(
        [
            node("Shape", "x", "a"),
            node("Slice", "a start stop", "b"),
            node("Concat", "b rest", "c", axis=0),
            node("Reshape", "x c", "y"),
        ],
        ["N", 3, 4, 4],
        start=np.array([0]),
        stop=np.array([stop]),
        rest=np.array([rest]),
    )


def test_a_computed_shape_becomes_a_constant() -> None:
    made = flattening(1, 48)
    x = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)
    before = answers(made, x)
    onnx_rewrites.fix_reshapes(made)
    onnx_rewrites.remove_unused(made.graph)
    assert operations(made) == ["Reshape"]
    np.testing.assert_array_equal(answers(made, x), before)
    assert answers(made, x[:0]).shape == (0, 48)


def test_a_shape_with_more_than_one_computed_length_stays() -> None:
    made = flattening(2, 16)
    onnx_rewrites.fix_reshapes(made)
    onnx_rewrites.remove_unused(made.graph)
    assert operations(made) == ["Shape", "Slice", "Concat", "Reshape"]


def pooling(perm: list[int], axes: list[int], keepdims: int) -> Any:
    return model(
        [
            node("Transpose", "x", "a", perm=perm),
            node("ReduceMean", "a axes", "b", keepdims=keepdims),
            node("Reshape", "b lengths", "y"),
        ],
        ["N", 3, 4, 5],
        axes=np.array(axes),
        lengths=np.array([-1, 3]),
    )


def test_a_mean_over_the_pixels_is_a_pooling() -> None:
    made = pooling([0, 2, 3, 1], [1, 2], keepdims=0)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    before = answers(made, x)
    onnx_rewrites.pool_before_permuting(made.graph)
    assert operations(made) == ["GlobalAveragePool", "Flatten", "Reshape"]
    np.testing.assert_allclose(answers(made, x), before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("perm", "axes", "keepdims"), [([0, 3, 2, 1], [1, 2], 0), ([0, 2, 3, 1], [1, 3], 0), ([0, 2, 3, 1], [1, 2], 1)]
)
def test_another_mean_stays(perm: list[int], axes: list[int], keepdims: int) -> None:
    made = pooling(perm, axes, keepdims)
    onnx_rewrites.pool_before_permuting(made.graph)
    assert operations(made) == ["Transpose", "ReduceMean", "Reshape"]


def test_a_reshape_to_what_was_there_goes() -> None:
    """And one that undoes another, while one that others need stays."""
    made = model(
        [
            node("Reshape", "x same", "a"),
            node("Flatten", "a", "b"),
            node("Reshape", "b same", "c"),
            node("Add", "c c", "d"),
            node("Reshape", "d other", "y"),
        ],
        ["N", 3, 1, 1],
        same=np.array([-1, 3, 1, 1]),
        other=np.array([-1, 3]),
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 1, 1)).astype(np.float32)
    before = answers(made, x)
    onnx_rewrites.remove_idle_reshapes(made)
    onnx_rewrites.remove_unused(made.graph)
    assert operations(made) == ["Add", "Reshape"]
    np.testing.assert_array_equal(answers(made, x), before)


def test_names_and_free_batch() -> None:
    made = normalising([0, 3, 1, 2], SCALE)
    onnx_rewrites.name_contract(made.graph)
    assert made.graph.input[0].name == "images"
    assert made.graph.output[0].name == "probabilities"
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert answers(made, X).shape == (2, 3, 4, 4)
