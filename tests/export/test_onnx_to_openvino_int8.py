"""INT8 by NNCF: both presets are tried, and accuracy control where they miss the limit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.export.onnx_to_openvino_int8", reason="needs the extra openvino", exc_type=ImportError)
pytest.importorskip("peregrine.export.torch_to_onnx", reason="needs the extra torch", exc_type=ImportError)
import small_runs
import torch_ancestor
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.dataset import Dataset
from peregrine.export.base import convert_task
from peregrine.export.samples import draw
from peregrine.libraries import openvino

pytestmark = [pytest.mark.torch, pytest.mark.openvino, pytest.mark.xdist_group("int8")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    ancestor = torch_ancestor.write(tmp_path_factory.mktemp("artifacts") / "torch", widths=[8, 16], activation="silu")
    path = ancestor.path.with_name("onnx")
    convert_task("torch_to_onnx", str(ancestor.path), str(path), "onnx")
    return Artifact.open(path)


def quantise(source: Artifact, path: Path, least_agreement: float) -> Artifact:
    def answer(part: Dataset) -> Any:
        with default_candidate(source).open() as runtime:
            return runtime.predict(part.images)

    samples = path.with_suffix(".npz")
    train, judged = small_runs.patterns(90, 0), small_runs.patterns(100, 1)
    draw(train, judged, answer, least_agreement=least_agreement, most_drop_points=100.0).save(samples)
    convert_task("onnx_to_openvino_int8", str(source.path), str(path), "openvino-int8", str(samples))
    return Artifact.open(path)


def test_the_closer_preset_is_kept(source: Artifact, tmp_path: Path) -> None:
    made = quantise(source, tmp_path / "openvino-int8", least_agreement=0.0)
    notes = made.manifest.notes
    assert [trial["preset"] for trial in notes["trials"]] == ["performance", "mixed"]
    assert notes["chosen"] == min(notes["trials"], key=lambda trial: trial["difference"])
    assert notes["chosen"]["kept_in_fp32"] == []
    assert notes["calibration_images"] == 90
    assert sorted(made.manifest.files) == ["model.bin", "model.xml"]
    operations = (made.path / "model.xml").read_text()
    assert 'type="Swish"' in operations
    assert 'type="Sigmoid"' not in operations, "which would be quantised by itself"


def test_maxima_are_taken_of_whole_numbers(source: Artifact, tmp_path: Path) -> None:
    """And OpenVINO leaves the activation behind them, where it is without a pooling of 1×1 in between."""
    made = quantise(source, tmp_path / "openvino-int8", least_agreement=0.0)
    model, parted = openvino.read(made.model_path), openvino.read(made.model_path)
    poolings = [node for node in model.get_ordered_ops() if node.get_type_name() == "MaxPool"]
    assert [openvino.is_max_pooling(node) for node in poolings] == [True, True]
    for pooling in poolings:
        rounding = pooling.input_value(0).get_node()
        assert rounding.get_type_name() == "FakeQuantize"
        low, high = (rounding.input_value(place).get_node().data.item() for place in (1, 2))
        assert low / high == pytest.approx(-128 / 127)
    one, none = [1, 1], [0, 0]
    for pooling in [node for node in parted.get_ordered_ops() if openvino.is_max_pooling(node)]:
        followers = list(pooling.output(0).get_target_inputs())
        between = openvino.opset14.max_pool(pooling.output(0), one, one, none, none, one, "floor", "explicit")
        for follower in followers:
            follower.replace_source_output(between.output(0))
    images = small_runs.patterns(40, 2).images
    together, apart = (
        openvino.compile_for_cpu(each, "int8", 1)({"images": images})["probabilities"] for each in (model, parted)
    )
    assert np.ptp(together, axis=0).max() > 0.01
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_pixels_are_not_rounded(source: Artifact, tmp_path: Path) -> None:
    """The whitening takes bytes: its normalisation is in its weights."""
    made = quantise(source, tmp_path / "openvino-int8", least_agreement=0.0)
    model = openvino.read(made.model_path)
    first = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")
    permutation = first.input_value(0).get_node()
    rounding = permutation.input_value(0).get_node()
    assert [permutation.get_type_name(), rounding.get_type_name()] == ["Transpose", "FakeQuantize"]
    assert [rounding.input_value(place).get_node().data.item() for place in (1, 2, 3, 4)] == [0, 255, 0, 255]


def test_what_misses_the_limit_gets_accuracy_control(source: Artifact, tmp_path: Path) -> None:
    made = quantise(source, tmp_path / "openvino-int8", least_agreement=1.01)  # which nothing can reach
    notes = made.manifest.notes
    assert [trial.get("accuracy_control", False) for trial in notes["trials"]] == [False, False, True]
    assert notes["trials"][-1]["kept_in_fp32"]
    assert notes["chosen"]["difference"] == min(trial["difference"] for trial in notes["trials"])
