"""INT8 by NNCF: both presets are tried, and accuracy control where they miss the limit."""

from pathlib import Path
from typing import Any

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


def test_what_misses_the_limit_gets_accuracy_control(source: Artifact, tmp_path: Path) -> None:
    made = quantise(source, tmp_path / "openvino-int8", least_agreement=1.01)  # which nothing can reach
    notes = made.manifest.notes
    assert [trial.get("accuracy_control", False) for trial in notes["trials"]] == [False, False, True]
    assert notes["trials"][-1]["kept_in_fp32"]
    assert notes["chosen"]["difference"] == min(trial["difference"] for trial in notes["trials"])
