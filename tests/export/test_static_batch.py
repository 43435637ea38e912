"""The same model for batches of one size: ONNX in every precision, OpenVINO, and what follows from an ONNX file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_making
import small_runs
import tiny
from peregrine.artifact import Artifact
from peregrine.candidate import candidates, default_candidate
from peregrine.export.base import convert_task, fix_batch_task

BATCH = 8
SHAPE = [BATCH, tiny.SIZE, tiny.SIZE, 3]


def fixed(artifact: Artifact) -> Artifact:
    path = artifact.path.with_name(f"{artifact.manifest.format}-batch{BATCH}")
    fix_batch_task(str(artifact.path), str(path), BATCH)
    return Artifact.open(path)


def assert_predicts_the_same(static: Artifact, free: Artifact) -> None:
    """Images that fill no whole batch, and more than one of them."""
    images = tiny.images(2 * BATCH + 3)
    for before, after in zip(candidates(free), candidates(static), strict=True):
        small_runs.need("runtime", after.runtime)
        assert (before.batch, after.batch) == (None, BATCH)
        assert after.key == f"{before.key}-batch{BATCH}"
        limit = {"fp32": 1e-5}.get(after.precision, 1e-2)
        with before.open() as reference, after.open() as runtime:
            for count in (0, 1, BATCH, len(images)):
                np.testing.assert_allclose(
                    runtime.predict(images[:count]), reference.predict(images[:count]), atol=limit
                )


def model_of(format: str, folder: Path) -> Any:
    network = onnx_making.network()
    if format == "onnx-fp16":
        return onnx_making.half(network)
    return onnx_making.quantised(network, folder) if format == "onnx-int8" else network


@pytest.mark.parametrize("format", ["onnx", "onnx-fp16", "onnx-int8"])
def test_an_onnx_file(format: str, tmp_path: Path) -> None:
    free = onnx_making.write(tmp_path / format, model_of(format, tmp_path / "making"), format)
    static = fixed(free)
    assert (free.batch, static.batch) == (None, BATCH)
    assert static.manifest.input == {"name": "images", "dtype": "uint8", "shape": SHAPE}
    assert static.manifest.parent == free.id
    assert static.manifest.notes == free.manifest.notes
    graph = onnx.load(static.model_path).graph
    for value, shape in ((graph.input[0], SHAPE), (graph.output[0], [BATCH, len(tiny.CLASSES)])):
        assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == shape
    assert_predicts_the_same(static, free)


@pytest.mark.openvino
def test_an_openvino_model(tmp_path: Path) -> None:
    small_runs.need("static", "model.xml")
    source = onnx_making.write(tmp_path / "onnx", onnx_making.network())
    convert_task("onnx_to_openvino", str(source.path), str(tmp_path / "openvino"), "openvino")
    free = Artifact.open(tmp_path / "openvino")
    static = fixed(free)
    assert static.manifest.input["shape"] == SHAPE
    assert sorted(static.manifest.files) == ["model.bin", "model.xml"]
    assert_predicts_the_same(static, free)


@pytest.mark.openvino
def test_what_is_made_of_it_has_it_too(tmp_path: Path) -> None:
    small_runs.need("edge", "onnx_to_openvino")
    source = fixed(onnx_making.write(tmp_path / "onnx", onnx_making.network()))
    convert_task("onnx_to_openvino", str(source.path), str(tmp_path / "openvino"), "openvino")
    assert Artifact.open(tmp_path / "openvino").batch == BATCH


def test_a_batch_that_does_not_fit_is_the_librarys_to_refuse(tmp_path: Path) -> None:
    """So a Runtime has to fill up: nothing else would run."""
    import onnxruntime

    static = fixed(onnx_making.write(tmp_path / "onnx", onnx_making.network()))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(static.model_path.read_bytes(), options)
    with pytest.raises(Exception, match="Got: 3 Expected: 8"):
        session.run(None, {"images": tiny.images(3)})
    with default_candidate(static).open() as runtime:
        assert runtime.predict(tiny.images(3)).shape == (3, len(tiny.CLASSES))
