"""What `export` refuses before it begins; whole exports are in test_pipeline.py."""

from pathlib import Path

import pytest

import photo_runs
import tiny
from peregrine.errors import CheckFailed, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.exporting import attempt, export


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """With an ancestor that nothing has to open."""
    made = tiny.run(tmp_path / "run")
    tiny.artifact(made.artifact_path("torch"), "torch")
    return made


@pytest.mark.parametrize(
    ("formats", "batch", "message"),
    [
        ("onnx", 0, r"^a static batch has 1 to 10,000 images; got 0$"),
        ("onnx", 10_001, r"^a static batch has 1 to 10,000 images; got 10001$"),
        ("onx", None, r"^a format is one of .*; got 'onx'; did you mean 'onnx'\?$"),
        ("torch", 8, r"^ONNX, OpenVINO and TensorRT can have a static batch; torch cannot; leave it or --batch out$"),
    ],
)
def test_what_cannot_be_made_is_refused_first(run: RunDirectory, formats: str, batch: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export(run.path, formats, batch=batch)


def test_settings_of_int8_are_not_chosen_on_what_was_trained_on(tmp_path: Path) -> None:
    """After a training image went, another tenth is the validation part; fp32 has nothing to do with it."""
    photos = photo_runs.pictures(tmp_path / "photos", seed=0)
    run = photo_runs.run(tmp_path / "run", photos)
    (photos / "train" / "ant" / "00.png").unlink()
    int8, onnx = attempt(run.path, ["onnx-int8", "onnx"])
    assert int8.status == "failed"
    assert onnx.status in ("proved", "inconclusive")
    assert int8.reason.startswith(f"the validation images in {photos} are not those of the run any more; restore")
    assert not run.artifact_path("onnx-int8").exists()
    (photos / "test" / "ant" / "00.png").unlink()
    with pytest.raises(CheckFailed, match=r"^the test images in .* are not those of the run any more"):
        attempt(run.path, "onnx")
