"""An edge in a worker makes a whole Artifact, or none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from peregrine import catalog
from peregrine.artifact import Artifact
from peregrine.errors import CheckFailed
from peregrine.export.base import convert_task


def copy(source: Artifact, folder: Path) -> dict[str, Any]:
    """An edge that needs no library."""
    (folder / "model.onnx").write_bytes(source.model_path.read_bytes()[::-1])
    return {"opset": 20}


def forget(source: Artifact, folder: Path) -> dict[str, Any]:
    """An edge that goes wrong without a word."""
    return {}


@pytest.fixture
def edges(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (copy, forget):
        monkeypatch.setitem(
            catalog.CATALOG["edge"], function.__name__, catalog.Entry(f"{__name__}:{function.__name__}")
        )


@pytest.mark.usefixtures("edges")
def test_the_result_is_a_child_with_the_same_golden_images(tmp_path: Path) -> None:
    source = tiny.artifact(tmp_path / "torch", "torch")
    target = str(tmp_path / "onnx")
    assert convert_task("copy", str(source.path), target, "onnx") == {"path": target}
    made = Artifact.open(target)
    assert made.model_path.read_bytes() == source.model_path.read_bytes()[::-1]
    assert made.manifest.notes == {"opset": 20}
    assert (made.manifest.parent, made.manifest.ancestor) == (source.id, source.id)
    assert made.manifest.class_names == source.manifest.class_names
    assert np.array_equal(made.golden().images, source.golden().images)
    assert np.array_equal(made.golden().answers["ancestor"], source.golden().answers["ancestor"])


@pytest.mark.usefixtures("edges")
def test_an_edge_that_writes_nothing_makes_nothing(tmp_path: Path) -> None:
    source = tiny.artifact(tmp_path / "torch", "torch")
    with pytest.raises(CheckFailed, match=r"holds model\.onnx; none was written"):
        convert_task("forget", str(source.path), str(tmp_path / "onnx"), "onnx")
    assert list(tmp_path.iterdir()) == [source.path]
