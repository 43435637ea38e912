"""Which model of a run answers."""

import logging
from pathlib import Path
from typing import Any

import pytest

import tiny
from peregrine import files
from peregrine.artifact import Artifact
from peregrine.candidate import candidates, default_candidate
from peregrine.errors import DamagedFile, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.opening import answering


def proved(run: RunDirectory, ancestor: Artifact, format: str, root: str = "") -> Artifact:
    """An export that passed its proof."""
    child = {"parent": ancestor.id, "ancestor": root or ancestor.id}
    made = tiny.artifact(run.artifact_path(format), format, **child)
    made.learn("parity", {candidate.key: {"verdict": "passed"} for candidate in candidates(made)})
    return made


def choose(run: RunDirectory, made: Artifact, **changes: Any) -> Path:
    """A best.json that names it."""
    chosen = {
        "schema": 1,
        "candidate": default_candidate(made).key,
        "artifact": f"artifacts/{made.path.name}",
        "artifact_id": made.id,
        **changes,
    }
    path = run.results / "best.json"
    files.write_json(path, chosen)
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return tiny.run(tmp_path / "run")


@pytest.fixture
def ancestor(run: RunDirectory) -> Artifact:
    return tiny.artifact(run.artifact_path("keras"), "keras")


def test_a_proved_export_that_needs_no_training_library(run: RunDirectory, ancestor: Artifact) -> None:
    assert answering(run.path).key == "keras@keras"
    proved(run, ancestor, "h5")
    assert answering(run.path).key == "keras@keras"
    proved(run, ancestor, "tflite")
    assert answering(run.path).key == "tflite@tflite"
    proved(run, ancestor, "onnx")
    assert answering(run.path).key == "onnx@onnxruntime"


def test_the_best_answers(run: RunDirectory, ancestor: Artifact, caplog: pytest.LogCaptureFixture) -> None:
    proved(run, ancestor, "onnx")
    choose(run, proved(run, ancestor, "tflite-int8"))
    with caplog.at_level(logging.INFO, logger="peregrine"):
        assert answering(run.path).key == "tflite-int8@tflite"
        assert answering(run.path, "openvino").key == "onnx@openvino", "asked for by name"
        assert answering(run.artifact_path("onnx")).key == "onnx@onnxruntime", "an Artifact answers for itself"
    assert caplog.messages == ["tflite-int8@tflite answers, which `peregrine best` chose", "onnx@openvino answers"]


def test_the_first_that_the_runtime_opens(run: RunDirectory, ancestor: Artifact) -> None:
    for format in ("onnx", "tflite", "openvino"):
        proved(run, ancestor, format)
    assert answering(run.path, "tflite").key == "tflite@tflite"
    assert answering(run.path, "openvino").key == "onnx@openvino"
    assert answering(run.path, "keras").key == "keras@keras", "the trained model itself"
    with pytest.raises(UsageError, match="keras artifact is opened by keras; got 'torch'"):
        answering(run.path, "torch")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"artifact_id": "0" * 64}, "was written anew since; run: peregrine best "),
        ({"artifact": "artifacts/gone"}, "its artifact is gone; run: peregrine best "),
        ({"artifact": "../../../etc/gone"}, "its artifact is gone; run: "),
        ({"candidate": "onnx-int8@abacus"}, "onnx-int8@abacus does not run on this machine; run: "),
        ({"artifact": None}, "it lacks what belongs there; run: "),
    ],
)
def test_a_choice_that_is_out_of_date(
    run: RunDirectory, ancestor: Artifact, caplog: pytest.LogCaptureFixture, change: dict[str, Any], why: str
) -> None:
    proved(run, ancestor, "onnx")
    path = choose(run, proved(run, ancestor, "onnx-int8"), **change)
    assert answering(run.path).key == "onnx@onnxruntime"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"{path} is out of date: ")
    assert why in warning


def test_a_choice_of_an_earlier_model(run: RunDirectory, ancestor: Artifact, caplog: pytest.LogCaptureFixture) -> None:
    choose(run, proved(run, ancestor, "onnx-int8", root="an earlier one"))
    assert answering(run.path).key == "keras@keras"
    assert "the run has another trained model since; run: peregrine best " in caplog.text


def test_a_damaged_best_is_not_passed_over(run: RunDirectory, ancestor: Artifact) -> None:
    made = proved(run, ancestor, "onnx-int8")
    choose(run, made)
    made.model_path.write_bytes(b"something else")
    with pytest.raises(DamagedFile, match=r"model\.onnx"):
        answering(run.path)
