import logging
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import making
import torch_ancestor
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.export.base import convert_task

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return torch_ancestor.write(tmp_path_factory.mktemp("artifacts") / "torch")


@pytest.fixture(scope="module")
def exported(ancestor: Artifact) -> Artifact:
    path = ancestor.path.with_name("onnx")
    convert_task("torch_to_onnx", str(ancestor.path), str(path), "onnx")
    return Artifact.open(path)


def largest_difference(first: Artifact, second: Artifact, images: "making.Images") -> float:
    with default_candidate(first).open() as one, default_candidate(second).open() as other:
        return float(np.abs(one.predict(images) - other.predict(images)).max())


@pytest.mark.parametrize("count", [1, 2, 333])
def test_answers_like_its_ancestor_in_any_batch(ancestor: Artifact, exported: Artifact, count: int) -> None:
    assert largest_difference(ancestor, exported, making.images(count, 12, seed=1)) < 1e-5


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (8, {"widths": [8, 16, 16], "activation": "silu", "whitening": 8}),
        (33, {"widths": [12], "activation": "relu"}),
        (16, {"depth": 3, "activation": "hard-swish"}),
    ],
)
def test_other_sizes_depths_and_activations(tmp_path: Path, size: int, options: dict[str, object]) -> None:
    ancestor = torch_ancestor.write(tmp_path / "torch", size, **options)
    convert_task("torch_to_onnx", str(ancestor.path), str(tmp_path / "onnx"), "onnx")
    images = making.images(50, size, seed=1)
    assert largest_difference(ancestor, Artifact.open(tmp_path / "onnx"), images) < 1e-5


def described(value: onnx.ValueInfoProto) -> tuple[str, int, list[str | int]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]


def test_the_graph_keeps_the_contract(exported: Artifact) -> None:
    model = onnx.load(exported.model_path)
    onnx.checker.check_model(model, full_check=True)
    assert [described(value) for value in model.graph.input] == [("images", onnx.TensorProto.UINT8, ["N", 12, 12, 3])]
    assert [described(value) for value in model.graph.output] == [("probabilities", onnx.TensorProto.FLOAT, ["N", 3])]
    operations = [node.op_type for node in model.graph.node]
    assert operations[:2] == ["Cast", "Transpose"]  # uint8 is cast before anything else
    assert "BatchNormalization" not in operations
    assert exported.manifest.notes["opset"] == model.opset_import[0].version == 20
    assert exported.manifest.notes["producer"].startswith("pytorch 2.")


def test_the_file_is_alone_and_tells_nothing_of_this_machine(exported: Artifact) -> None:
    assert list(exported.manifest.files) == ["model.onnx"]
    content = exported.model_path.read_bytes()
    assert b".py" not in content
    assert os.fsencode(Path.home()) not in content


def test_the_exporter_is_quiet_and_leaves_logging_as_it_was(
    ancestor: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("onnxscript").setLevel(logging.INFO)
    try:
        convert_task("torch_to_onnx", str(ancestor.path), str(tmp_path / "onnx"), "onnx")
        assert logging.getLogger("onnxscript").level == logging.INFO
    finally:
        logging.getLogger("onnxscript").setLevel(logging.NOTSET)
    assert capfd.readouterr() == ("", "")
