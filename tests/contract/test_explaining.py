"""`export --explain`: a converter that breaks one node is found out, and the node is named, whatever it was made of."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import small_runs
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.divergence import explain_task
from peregrine.errors import ParityFailed, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages import exporting
from peregrine.stages.explaining import explain
from workshop import ANCESTORS, Workshop, engine_marks

EVERY_ENGINE = [pytest.param(format, marks=engine_marks(engine)) for format, engine in ANCESTORS.items()]
AGREEING = {"torch": 0.9, "keras": 0.5}  # share of a sound file's layers; the others are steps that were folded
ONE_ENGINE = [pytest.param("torch", marks=engine_marks("pytorch"))]


@pytest.fixture
def ancestor(format: str, workshop: Workshop) -> Artifact:
    return workshop.artifact(format)


@pytest.fixture
def sound(format: str, workshop: Workshop) -> Artifact:
    return workshop.exported(f"{format}_to_onnx")


@pytest.fixture
def run(ancestor: Artifact, tmp_path: Path) -> RunDirectory:
    """A copy, into which an export may write."""
    shutil.copytree(ancestor.path.parents[1], tmp_path / "run")
    return RunDirectory.open(tmp_path / "run")


def heavy(model: Any) -> list[Any]:
    return [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]


def broken(artifact: Artifact, path: Path, index: int) -> tuple[Artifact, Any]:
    """The same with the weights of its n-th convolution or product reversed; and that node."""
    model = onnx.load(artifact.model_path)
    node = heavy(model)[index]
    (weight,) = [constant for constant in model.graph.initializer if constant.name == node.input[1]]
    value = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value[::-1]), weight.name))
    like = {**artifact.inherited(), "parent": artifact.manifest.parent, "ancestor": artifact.manifest.ancestor}
    with Artifact.write(path, format="onnx", like=like, golden=artifact.golden()) as folder:
        onnx.save_model(model, folder / "model.onnx")
    return Artifact.open(path), node


def explained(artifact: Artifact, ancestor: Artifact, folder: Path) -> dict[str, Any]:
    np.save(folder / "images.npy", small_runs.splits().test.images[:8])
    of, by = default_candidate(artifact).to_dict(), default_candidate(ancestor).to_dict()
    return explain_task(of, by, str(folder / "images.npy"))


@pytest.mark.parametrize("format", EVERY_ENGINE)
def test_every_broken_node_is_named(ancestor: Artifact, sound: Artifact, tmp_path: Path) -> None:
    count = len(heavy(onnx.load(sound.model_path)))
    assert count >= 3
    for index in range(count):
        artifact, node = broken(sound, tmp_path / str(index), index)
        first = explained(artifact, ancestor, tmp_path)["first"]
        assert (first["operation"], first["name"]) == (node.op_type, node.name)
        assert first["difference"] > 0.01
        assert first["before"] is None or first["before"] < 0.001


@pytest.mark.parametrize("format", EVERY_ENGINE)
def test_a_sound_file_has_no_such_layer(ancestor: Artifact, sound: Artifact, tmp_path: Path, format: str) -> None:
    found = explained(sound, ancestor, tmp_path)
    assert found["first"] is None
    assert found["limit"] == 0.001
    agreeing = [layer for layer in found["layers"] if layer["difference"] < 0.001]
    assert len(agreeing) >= AGREEING[format] * len(found["layers"])


@pytest.mark.parametrize("format", ONE_ENGINE)
def test_the_export_says_it(
    run: RunDirectory, sound: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, node = broken(sound, tmp_path / "broken", 1)
    monkeypatch.setattr(exporting, "_convert", lambda *given: artifact)
    with pytest.raises(ParityFailed) as caught:
        exporting.export(run.path, "onnx", data=small_runs.splits(), explain=True)
    message = str(caught.value)
    assert message.startswith("onnx does not predict what the trained model predicts: onnx@onnxruntime: ")
    assert (
        f"; onnx@onnxruntime: the first layer that diverges from torch is {node.op_type} {node.name!r}: its va"
        in message
    )
    assert message.count(f"; see {run.results / 'explain-onnx.json'}") == 1
    assert "\n" not in message
    rows = json.loads((run.results / "parity.json").read_text())["rows"]
    assert {row["verdict"] for row in rows} == {"failed"}
    written = json.loads((run.results / "explain-onnx.json").read_text())
    assert (written["first"]["name"], written["reference"]) == (node.name, run.ancestor().id)


@pytest.mark.parametrize("format", ONE_ENGINE)
def test_a_keras_model_is_looked_into_too(
    run: RunDirectory, ancestor: Artifact, workshop: Workshop, tmp_path: Path
) -> None:
    port = workshop.exported("torch_to_keras")
    from peregrine.engines.tensorflow.checkpoint import load_model, save_model

    model = load_model(port.model_path)
    layer = model.get_layer("conv2d_1")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel[::-1], bias])
    with Artifact.write(tmp_path / "port", format="keras", like=ancestor.inherited(), golden=port.golden()) as folder:
        save_model(model, folder / "model.keras")
    spoilt = Artifact.open(tmp_path / "port")
    told = explain(run, default_candidate(spoilt), spoilt, small_runs.splits().test.images[:8], tmp_path)
    assert told.startswith("the first layer that diverges from torch is Conv2D 'conv2d_1': its values differ by ")


@pytest.mark.parametrize("format", ONE_ENGINE)
def test_what_cannot_be_compared_says_so(run: RunDirectory, sound: Artifact, tmp_path: Path) -> None:
    ancestor, images = run.ancestor(), small_runs.splits().test.images[:2]
    told = explain(run, default_candidate(ancestor), ancestor, images, tmp_path)
    assert told == (
        "the layers of a model.safetensors cannot be looked into; explain the ONNX or Keras file that it was made of"
    )
    golden = ancestor.golden()
    with Artifact.write(tmp_path / "half", format="onnx-fp16", like=ancestor.inherited(), golden=golden) as folder:
        (folder / "model.onnx").write_bytes(sound.model_path.read_bytes())
    half = Artifact.open(tmp_path / "half")
    shutil.rmtree(run.artifact_path("onnx"), ignore_errors=True)
    told = explain(run, default_candidate(half), half, images, tmp_path)
    assert told == "there is no float32 ONNX file of the same model to compare layers with; export onnx first"


def test_a_runtime_that_shows_no_layers(tmp_path: Path) -> None:
    import tiny

    artifact = tiny.fake_artifact(tmp_path / "fake")
    with (
        tiny.fake_candidate(artifact).open() as runtime,
        pytest.raises(UsageError, match=r"^onnx@fake does not show its layers; ONNX files, Keras models and an"),
    ):
        runtime.layers(tiny.images(1))
    with (
        tiny.fake_candidate(artifact).open() as runtime,
        pytest.raises(UsageError, match=r"^onnx@fake does not show its operations; ONNX files and Keras models do$"),
    ):
        runtime.operations()
