"""What `export` refuses before it begins; whole exports are in test_pipeline.py."""

from pathlib import Path

import pytest

import tiny
from peregrine.errors import UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.exporting import export


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
