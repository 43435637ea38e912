"""INT8 by TensorFlow's quantiser: what is chosen, what stays in float32, and what the file holds."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peregrine.export.keras_to_tflite_int8", reason="needs tensorflow and litert", exc_type=ImportError)
import keras_ancestor
import small_runs
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.dataset import Dataset
from peregrine.export.base import convert_task
from peregrine.export.samples import draw

# isort: split
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tflite-int8")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    path = tmp_path_factory.mktemp("artifacts") / "keras"
    return keras_ancestor.write(path, name="sprint", widths=[8, 16], whitening=12, activation="silu")


def quantise(source: Artifact, path: Path, most_drop_points: float = 100.0) -> Artifact:
    def answer(part: Dataset) -> Any:
        with default_candidate(source).open() as runtime:
            return runtime.predict(part.images)

    samples = path.with_suffix(".npz")
    train, judged = small_runs.patterns(90, 0), small_runs.patterns(40, 1)
    draw(train, judged, answer, least_agreement=0.0, most_drop_points=most_drop_points).save(samples)
    convert_task("keras_to_tflite_int8", str(source.path), str(path), "tflite-int8", str(samples))
    return Artifact.open(path)


def weights(artifact: Artifact) -> dict[str, int]:
    """How many bytes each element of a layer's weights has: 1 in INT8, 4 in float32."""
    model = flatbuffer_utils.convert_bytearray_to_object(artifact.model_path.read_bytes())
    (graph,) = model.subgraphs
    kinds = {schema.TensorType.INT8: 1, schema.TensorType.FLOAT32: 4}
    return {
        graph.tensors[operator.outputs[0]].name.decode(): kinds[graph.tensors[operator.inputs[1]].type]
        for operator in graph.operators
        if flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex) in WEIGHTED
    }


def test_the_closest_of_all_settings_is_kept(source: Artifact, tmp_path: Path) -> None:
    made = quantise(source, tmp_path / "tflite-int8")
    notes = made.manifest.notes
    tried = {(trial["calibrator"], trial["per_channel"]) for trial in notes["trials"]}
    assert tried == {(ranges, each) for ranges in ("minmax", "percentile") for each in (True, False)}
    assert notes["chosen"] == min(notes["trials"], key=lambda trial: trial["difference"])
    assert notes["chosen"]["kept_in_fp32"] == []
    assert (notes["calibration_images"], notes["judged_split"]) == (90, "validation")
    assert list(weights(made).values()) == [1] * 5 + [4]  # the head stays float


def test_what_misses_the_limit_keeps_its_worst_layers_in_float32(source: Artifact, tmp_path: Path) -> None:
    made = quantise(source, tmp_path / "tflite-int8", most_drop_points=-100.0)  # which nothing can reach
    trials = made.manifest.notes["trials"]
    assert [len(trial["kept_in_fp32"]) for trial in trials] == [0] * 4 + [1, 2]  # of five layers, half at most
    assert trials[-1]["kept_in_fp32"][0] == trials[-2]["kept_in_fp32"][0]
    chosen = made.manifest.notes["chosen"]
    assert chosen["difference"] == min(trial["difference"] for trial in trials)
    assert list(weights(made).values()).count(4) == len(chosen["kept_in_fp32"]) + 1
