"""Which model of a run is opened."""

from pathlib import Path

import tiny
from peregrine.candidate import default_candidate
from peregrine.stages.opening import preferred


def test_a_proved_export_that_needs_no_training_library(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    ancestor = tiny.artifact(run.artifact_path("keras"), "keras")

    def proved(format: str) -> None:
        child = {"parent": ancestor.id, "ancestor": ancestor.id}
        made = tiny.artifact(run.artifact_path(format), format, **child)
        made.learn("parity", {default_candidate(made).key: {"verdict": "passed"}})

    assert preferred(run.path).manifest.format == "keras"
    proved("h5")
    assert preferred(run.path).manifest.format == "keras"
    proved("tflite")
    assert preferred(run.path).manifest.format == "tflite"
    proved("onnx")
    assert preferred(run.path).manifest.format == "onnx"
