"""INT8 by ONNX Runtime: what is chosen, what stays in float32, and what the graph holds."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("peregrine.export.torch_to_onnx", reason="needs the extra torch", exc_type=ImportError)
import small_runs
import torch_ancestor
from peregrine import host
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.dataset import Dataset
from peregrine.export import onnx_quantising
from peregrine.export.base import convert_task
from peregrine.export.samples import draw

pytestmark = [pytest.mark.torch, pytest.mark.xdist_group("int8")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    ancestor = torch_ancestor.write(tmp_path_factory.mktemp("artifacts") / "torch", widths=[8, 16], activation="silu")
    path = ancestor.path.with_name("onnx")
    convert_task("torch_to_onnx", str(ancestor.path), str(path), "onnx")
    return Artifact.open(path)


def quantise(source: Artifact, path: Path, format: str = "onnx-int8", most_drop_points: float = 100.0) -> Artifact:
    def answer(part: Dataset) -> Any:
        with default_candidate(source).open() as runtime:
            return runtime.predict(part.images)

    samples = path.with_suffix(".npz")
    train, judged = small_runs.patterns(90, 0), small_runs.patterns(40, 1)
    draw(train, judged, answer, least_agreement=0.0, most_drop_points=most_drop_points).save(samples)
    edge = f"onnx_to_{format.replace('-', '_')}"
    convert_task(edge, str(source.path), str(path), format, str(samples))
    return Artifact.open(path)


def weights(artifact: Artifact) -> dict[str, str]:
    """The type in which each layer's weight is stored."""
    graph = onnx.load(artifact.model_path).graph
    types = {constant.name: constant.data_type for constant in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    found = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            name = node.input[1]
            while name in producers:
                name = producers[name].input[0]
            found[node.name] = onnx.TensorProto.DataType.Name(types[name])
    return found


def test_the_closest_of_all_calibrators_is_kept(source: Artifact, tmp_path: Path) -> None:
    made = quantise(source, tmp_path / "onnx-int8")
    notes = made.manifest.notes
    tried = {(trial["calibrator"], trial["per_channel"]) for trial in notes["trials"]}
    assert tried == {(name, each) for name in onnx_quantising.CALIBRATORS for each in (True, False)}
    assert notes["chosen"] == min(notes["trials"], key=lambda trial: trial["difference"])
    assert notes["chosen"]["kept_in_fp32"] == []
    assert notes["reduce_range"] == onnx_quantising.needs_reduced_range()
    assert (notes["calibration_images"], notes["calibration_split"], notes["judged_split"]) == (
        90,
        "train",
        "validation",
    )
    assert list(weights(made).values()) == ["INT8"] * 6
    assert {opset.domain for opset in onnx.load(made.model_path).opset_import} == {""}
    assert made.size_bytes < 0.7 * source.size_bytes  # of these few weights, names and scales are a large part


def test_what_misses_the_limit_keeps_its_worst_layers_in_float32(source: Artifact, tmp_path: Path) -> None:
    made = quantise(source, tmp_path / "onnx-int8", most_drop_points=-100.0)  # which nothing can reach
    trials = made.manifest.notes["trials"]
    assert [len(trial["kept_in_fp32"]) for trial in trials] == [0] * 6 + [1, 2]  # of six layers, half at most
    assert trials[-1]["kept_in_fp32"][0] == trials[-2]["kept_in_fp32"][0]
    chosen = made.manifest.notes["chosen"]
    assert chosen["difference"] == min(trial["difference"] for trial in trials)
    assert {name for name, kind in weights(made).items() if kind == "FLOAT"} == set(chosen["kept_in_fp32"])


def test_pixels_are_not_rounded(source: Artifact, tmp_path: Path) -> None:
    """The whitening takes bytes, as they are: its normalisation is in its weights."""
    graph = onnx.load(quantise(source, tmp_path / "onnx-int8").model_path).graph
    permutation = next(node for node in graph.node if graph.input[0].name in node.input)
    step = next(node for node in graph.node if permutation.output[0] in node.input)
    assert [permutation.op_type, step.op_type] == ["Transpose", "DequantizeLinear"]
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    assert [constants[name].item() for name in step.input[1:]] == [1.0, 0]
    assert next(node for node in graph.node if step.output[0] in node.input).op_type == "Conv"


def test_symmetric_all_through(source: Artifact, tmp_path: Path) -> None:
    """As TensorRT wants it: no zero points but 0, and pairs on float weights."""
    made = quantise(source, tmp_path / "onnx-int8-symmetric", "onnx-int8-symmetric")
    graph = onnx.load(made.model_path).graph
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        assert constants[node.input[2]].dtype == np.int8
        assert not constants[node.input[2]].any()
    assert list(weights(made).values()) == ["FLOAT"] * 6


@pytest.mark.parametrize(
    ("flags", "needed"),
    [({"sse2"}, True), ({"sse2", "avx512_vnni"}, False), ({"sse2", "avx_vnni"}, False), (set(), False)],
)
def test_seven_bits_only_where_sums_saturate(flags: set[str], needed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset(flags))
    assert onnx_quantising.needs_reduced_range() is needed


def test_it_is_quiet(source: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quantise(source, tmp_path / "onnx-int8")
    assert capfd.readouterr() == ("", "")
