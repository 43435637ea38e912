"""The first layer that parts is found in a graph with branches, steps that the other side has not, and noise."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnx_making
import tiny
from peregrine.candidate import default_candidate
from peregrine.divergence import Divergence, Node, differences, explain_task, first_divergence


def nodes(*steps: str) -> list[Node]:
    """`a,b>c` is a node `c` that reads a and b."""
    return [
        Node(given, "Op", tuple(read.split(",")), (given,))
        for read, _, given in (step.partition(">") for step in steps)
    ]


BRANCHES = nodes("x>a", "a>b", "a>short", "b>c", "c,short>sum", "sum>end")


@pytest.mark.parametrize(
    ("bad", "first"),
    [
        ("", None),
        ("end", "end"),
        ("sum end", "sum"),
        ("short sum end", "short"),
        ("b c sum end", "b"),
        ("a b short c sum end", "a"),
        ("b", None),  # one step of two, whose end agrees
        ("b c", None),
        ("a b sum end", "sum"),
    ],
)
def test_the_first_that_does_not_recover(bad: str, first: str | None) -> None:
    found = {node.outputs[0]: 0.5 if node.outputs[0] in bad.split() else 1e-5 for node in BRANCHES}
    diverged = first_divergence(BRANCHES, found, 0.001)
    assert (diverged.name if diverged else None) == first
    if first == "sum" and bad == "sum end":
        assert diverged == Divergence("sum", "Op", 0.5, 1e-5)


def test_values_without_a_counterpart_are_passed_over() -> None:
    found = {"a": 0.0, "sum": 0.5, "end": 0.5}
    diverged = first_divergence(BRANCHES, found, 0.001)
    assert diverged == Divergence("sum", "Op", 0.5, None)


def test_differences_are_relative() -> None:
    one, two = np.ones((2, 3), np.float32), np.full((2, 3), 100, np.float32)
    named = differences({"a": one, "b": two}, {"a": one * 1.1, "b": two * 1.1, "c": one, "d": one[:1]}, same_names=True)
    assert named == {"a": pytest.approx(0.1), "b": pytest.approx(0.1)}
    closest = differences({"a": one, "b": two}, {"p": two * 1.1, "q": one[:1]}, same_names=False)
    assert closest == {"p": pytest.approx(0.1)}
    assert differences({"a": one}, {"a": one * np.nan}, same_names=True) == {"a": 1e9}
    assert differences({"a": one * 0}, {"a": one * 0}, same_names=True) == {"a": 0}


def broken(model: Any, node: str, factor: float = 1.5) -> Any:
    """The model with the weights of one node multiplied."""
    (found,) = [candidate for candidate in model.graph.node if candidate.name == node]
    for constant in model.graph.initializer:
        if constant.name == found.input[1]:
            value = numpy_helper.to_array(constant) * np.float32(factor)
            constant.CopyFrom(numpy_helper.from_array(value.astype(np.float32), constant.name))
    return model


def told(tmp_path: Path, model: Any, format: str) -> dict[str, Any]:
    tmp_path.mkdir(exist_ok=True)
    reference = default_candidate(onnx_making.write(tmp_path / "reference", onnx_making.network()))
    candidate = default_candidate(onnx_making.write(tmp_path / "candidate", model, format))
    np.save(tmp_path / "images.npy", tiny.images(5))
    return explain_task(candidate.to_dict(), reference.to_dict(), str(tmp_path / "images.npy"))


@pytest.mark.parametrize("node", ["conv1", "conv2", "dense", "temper", "centre"])
def test_a_broken_node_is_named(node: str, tmp_path: Path) -> None:
    found = told(tmp_path, broken(onnx_making.network(), node), "onnx")
    assert found["first"]["name"] == node
    assert found["first"]["difference"] > 0.01 > found["first"]["before"]
    assert [layer["layer"] for layer in found["layers"]][:3] == ["cast", "permute", "centre"]


def test_an_operation_that_is_another_is_named(tmp_path: Path) -> None:
    model = onnx_making.network()
    add = next(node for node in model.graph.node if node.name == "add")
    add.CopyFrom(helper.make_node("Sub", add.input, add.output, "add"))
    assert told(tmp_path, model, "onnx")["first"]["name"] == "add"


def test_rounding_is_no_divergence(tmp_path: Path) -> None:
    assert told(tmp_path / "half", onnx_making.half(onnx_making.network()), "onnx-fp16")["first"] is None
    model = onnx_making.quantised(onnx_making.network(), tmp_path / "quantising")
    assert told(tmp_path / "int8", model, "onnx-int8-symmetric")["first"] is None


def test_a_broken_node_of_a_quantised_file_is_named(tmp_path: Path) -> None:
    model = onnx_making.quantised(broken(onnx_making.network(), "conv2", -3.0), tmp_path / "quantising")
    onnx.checker.check_model(model)
    first = told(tmp_path, model, "onnx-int8-symmetric")["first"]
    assert (first["operation"], first["name"]) == ("Conv", "conv2")
