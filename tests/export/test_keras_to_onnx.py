"""What only this edge does; `contract/test_edges.py` has the rest."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("peregrine.export.keras_to_onnx", reason="needs the extra tensorflow", exc_type=ImportError)
import keras_ancestor
import making
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.export.base import convert_task

pytestmark = pytest.mark.tensorflow


def export(ancestor: Artifact) -> Artifact:
    path = ancestor.path.with_name("onnx")
    convert_task("keras_to_onnx", str(ancestor.path), str(path), "onnx")
    return Artifact.open(path)


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return keras_ancestor.write(tmp_path_factory.mktemp("artifacts") / "keras", 32, widths=[8, 12, 16], dense=[16, 8])


@pytest.fixture(scope="module")
def exported(ancestor: Artifact) -> Artifact:
    return export(ancestor)


def largest_difference(first: Artifact, second: Artifact, images: "making.Images") -> float:
    with default_candidate(first).open() as one, default_candidate(second).open() as other:
        return float(np.abs(one.predict(images) - other.predict(images)).max())


@pytest.mark.parametrize("count", [1, 2, 333])
def test_answers_like_its_ancestor_in_any_batch(ancestor: Artifact, exported: Artifact, count: int) -> None:
    assert largest_difference(ancestor, exported, making.images(count, 32, seed=1)) < 1e-5


def test_another_size(tmp_path: Path) -> None:
    ancestor = keras_ancestor.write(tmp_path / "keras", 15, temperature=0.6)
    assert largest_difference(ancestor, export(ancestor), making.images(50, 15, seed=1)) < 1e-5


def test_the_graph_is_what_runtimes_are_good_at(exported: Artifact) -> None:
    """No permutation but the first and that of the flattened image, no arithmetic on shapes, norms in one piece."""
    block = ["BatchNormalization", "Conv", "Relu", "MaxPool"]
    dense = ["MatMul", "Add", "Relu"] * 2 + ["MatMul", "Add"]
    flatten = ["BatchNormalization", "Transpose", "Reshape"]
    model = onnx.load(exported.model_path)
    assert [node.op_type for node in model.graph.node] == [
        "Cast", "Transpose", *block * 3, *flatten, *dense, "Mul", "Softmax",
    ]  # fmt: skip
    assert exported.manifest.notes["opset"] == 18
    assert exported.manifest.notes["producer"].startswith("tf2onnx 1.")


def operations(artifact: Artifact) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(artifact.model_path).graph.node)


def spread(artifact: Artifact, images: "making.Images") -> float:
    """How far the images' answers lie apart."""
    with default_candidate(artifact).open() as runtime:
        return float(np.ptp(runtime.predict(images), axis=0).max())


def test_resnet(tmp_path: Path) -> None:
    """Norms that do not follow a convolution stay norms; sums and shortcuts need no permutation."""
    ancestor = keras_ancestor.write(tmp_path / "keras", 16, name="resnet", depth=14, width=8)
    exported = export(ancestor)
    for count in (1, 50):
        assert largest_difference(ancestor, exported, making.images(count, 16, seed=1)) < 1e-4
    assert spread(exported, making.images(50, 16, seed=1)) > 0.05
    assert operations(exported) == {
        "Cast": 1, "Transpose": 1, "BatchNormalization": 7, "Conv": 15, "Relu": 13, "Add": 6 + 1, "MaxPool": 2,
        "GlobalAveragePool": 1, "Flatten": 1, "MatMul": 1, "Mul": 1, "Softmax": 1,
    }  # fmt: skip


def test_efficientnet(tmp_path: Path) -> None:
    """Resized inside; the means of its 16 blocks are pooled where the convolutions work."""
    ancestor = keras_ancestor.write(tmp_path / "keras", 20, name="efficientnet", weights="none", resolution=64)
    exported = export(ancestor)
    assert largest_difference(ancestor, exported, making.images(20, 20, seed=1)) < 1e-4
    assert spread(exported, making.images(7, 20, seed=1)) > 0.05
    found = operations(exported)
    assert found.keys().isdisjoint({"ReduceMean", "Reshape", "Shape", "Slice", "Concat"})
    assert (found["Transpose"], found["Resize"], found["GlobalAveragePool"], found["Conv"]) == (1, 1, 17, 81)


@pytest.mark.parametrize(("activation", "operation"), [("gelu", "Erf"), ("silu", "Sigmoid"), ("relu", "Relu")])
def test_sprint(tmp_path: Path, activation: str, operation: str) -> None:
    """Norms go into their convolutions; the maximum is pooled in the runtimes' layout."""
    options = {"widths": [8, 12, 16], "whitening": 12, "activation": activation}
    ancestor = keras_ancestor.write(tmp_path / "keras", 20, name="sprint", **options)
    exported = export(ancestor)
    for count in (1, 50):
        assert largest_difference(ancestor, exported, making.images(count, 20, seed=1)) < 1e-4
    assert spread(exported, making.images(50, 20, seed=1)) > 0.05
    found = operations(exported)
    assert found.keys().isdisjoint({"ReduceMax", "Reshape", "Shape"})
    assert (found["Transpose"], found["Conv"], found["MaxPool"], found["GlobalMaxPool"]) == (1, 7, 3, 1)
    assert found[operation] == 7


def test_the_file_tells_nothing_of_this_machine(exported: Artifact) -> None:
    content = exported.model_path.read_bytes()
    assert b".py" not in content
    assert os.fsencode(Path.home()) + b"/" not in content


def test_the_converter_is_quiet(ancestor: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert_task("keras_to_onnx", str(ancestor.path), str(tmp_path / "onnx"), "onnx")
    assert capfd.readouterr() == ("", "")
