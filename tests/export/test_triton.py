"""A Triton model repository, read back by Triton's own protocol where its client is installed."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from peregrine import formats
from peregrine.artifact import ANCESTOR, Artifact, Golden
from peregrine.errors import CheckFailed, UsageError
from peregrine.export.triton import config, is_served, write_model
from peregrine.formats import FORMATS, Format

PLAN_NOTES = {"library": "tensorrt", "version": "11.4", "batch": {"smallest": 1, "usual": 64, "largest": 64}}


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch) -> Format:
    """The format, also where this version has none of that name."""
    format = replace(FORMATS["onnx"], name="openvino", file="model.xml", runtimes=("openvino",))
    monkeypatch.setitem(formats.FORMATS, "openvino", format)
    return format


def written(path: Path, format: str, verdict: str | None = "passed", **settings: Any) -> Artifact:
    """An Artifact of stand-in files, with a proof of the runtime that Triton's backend is, or without."""
    golden = Golden(tiny.images(1), {ANCESTOR: tiny.answers(1)})
    kind = FORMATS[format]
    notes, batch = settings.pop("notes", PLAN_NOTES if "tensorrt" in format else {}), settings.pop("batch", None)
    like = tiny.like(**settings)
    with Artifact.write(path, format=format, like=like, golden=golden, notes=notes, batch=batch) as folder:
        (folder / kind.file).write_bytes(b"the model")
        if kind.file == "model.xml":
            (folder / "model.bin").write_bytes(b"its weights")
    artifact = Artifact.open(path)
    if verdict:
        provider = "cuda" if kind.runtimes[0] == "tensorrt" else "cpu"
        row = {"runtime": kind.runtimes[0], "provider": provider, "verdict": verdict}
        artifact.learn("parity", {f"{format}@{kind.runtimes[0]}": row})
    return artifact


def parsed(path: Path) -> Any:
    """config.pbtxt as Triton reads it."""
    pytest.importorskip("tritonclient", reason="brings Triton's model_config.proto")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    return text_format.Parse(path.read_text("utf-8"), model_config_pb2.ModelConfig())


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize(
    ("format", "backend", "files", "largest", "kind"),
    [
        ("onnx", "onnxruntime", ["model.onnx"], 250, "KIND_CPU"),
        ("openvino", "openvino", ["model.bin", "model.xml"], 250, "KIND_CPU"),
        ("tensorrt-fp16", "tensorrt", ["model.plan"], 64, "KIND_GPU"),
    ],
)
def test_a_model_is_written(
    format: str, backend: str, files: list[str], largest: int, kind: str, tmp_path: Path
) -> None:
    artifact = written(tmp_path / "artifact", format)
    folder = write_model(artifact, tmp_path / "models", f"my_photos-{format}")
    assert folder == tmp_path / "models" / f"my_photos-{format}"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "config.pbtxt", "labels.txt"]
    assert sorted(path.name for path in (folder / "1").iterdir()) == files
    for name in files:
        assert (folder / "1" / name).read_bytes() == (artifact.path / name).read_bytes()
    assert (folder / "labels.txt").read_text() == "ant\nbee\ncow\n"

    read = parsed(folder / "config.pbtxt")
    (images,), (probabilities,), (group,) = read.input, read.output, read.instance_group
    assert (read.name, read.backend, read.max_batch_size) == (folder.name, backend, largest)
    assert read.default_model_filename == artifact.format.file
    assert (images.name, images.data_type, list(images.dims)) == ("images", 2, [8, 8, 3])
    assert (probabilities.name, probabilities.data_type, list(probabilities.dims)) == ("probabilities", 11, [3])
    assert probabilities.label_filename == "labels.txt"
    assert list(read.dynamic_batching.preferred_batch_size) == [largest]
    assert read.dynamic_batching.max_queue_delay_microseconds == 500
    assert group.Kind.Name(group.kind) == kind
    assert [sample.batch_size for sample in read.model_warmup] == [1, largest]
    assert all(list(sample.inputs["images"].dims) == [8, 8, 3] for sample in read.model_warmup)
    assert read.parameters["peregrine_artifact"].string_value == artifact.id
    assert read.optimization.cuda.graphs == (backend == "tensorrt")
    assert ("PERFORMANCE_HINT" in read.parameters) == (backend == "openvino")


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("format", ["onnx", "openvino", "tensorrt-fp16"])
def test_a_static_batch_is_a_model_that_makes_none(format: str, tmp_path: Path) -> None:
    """Triton refuses `max_batch_size` where the first dimension is not free."""
    notes = {**PLAN_NOTES, "batch": {"smallest": 8, "usual": 8, "largest": 8}} if "tensorrt" in format else {}
    folder = write_model(written(tmp_path / "artifact", format, notes=notes, batch=8), tmp_path / "models", "x")
    read = parsed(folder / "config.pbtxt")
    (images,), (probabilities,), (sample,) = read.input, read.output, read.model_warmup
    assert read.max_batch_size == 0
    assert not read.HasField("dynamic_batching")
    assert (list(images.dims), list(probabilities.dims)) == ([8, 8, 8, 3], [8, 3])
    assert probabilities.label_filename == ""
    assert (sample.batch_size, list(sample.inputs["images"].dims)) == (1, [8, 8, 8, 3])
    assert (folder / "labels.txt").read_text() == "ant\nbee\ncow\n"


def test_a_model_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    first = written(tmp_path / "first", "onnx")
    second = written(tmp_path / "second", "onnx", class_names=("a", 'b"\n c', "ü"))
    for artifact in (first, second):
        folder = write_model(artifact, tmp_path / "models", "photos-onnx")
    assert (folder / "labels.txt").read_text("utf-8") == 'a\nb" c\nü\n'
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["photos-onnx"]
    assert parsed(folder / "config.pbtxt").parameters["peregrine_artifact"].string_value == second.id


def test_names_in_other_letters_stay_apart(tmp_path: Path) -> None:
    artifact = written(tmp_path / "artifact", "onnx")
    folders = {write_model(artifact, tmp_path / "models", name) for name in ("фото-onnx", "море-onnx", "фото-onnx")}
    assert len(folders) == 2
    assert all(re.fullmatch("--onnx-[0-9a-f]{8}", folder.name) for folder in folders)


def test_a_name_cannot_break_out(tmp_path: Path) -> None:
    artifact = written(tmp_path / "artifact", "onnx")
    assert re.fullmatch("a-b-c-[0-9a-f]{8}", write_model(artifact, tmp_path / "models", "a/b\nc").name)
    text = tmp_path / "config.pbtxt"
    text.write_text(config(artifact, 'x" backend: "evil', "cpu"), "utf-8")
    read = parsed(text)
    assert (read.name, read.backend) == ('x" backend: "evil', "onnxruntime")


@pytest.mark.parametrize(
    ("verdict", "found"), [(None, "nothing is known of it"), ("failed", "it failed")], ids=["unproved", "failed"]
)
def test_only_what_was_proved_is_served(verdict: str | None, found: str, tmp_path: Path) -> None:
    artifact = written(tmp_path / "artifact", "onnx", verdict)
    message = f"^Triton is given what onnxruntime was proved to run; of this onnx {found}; see `peregrine export`$"
    with pytest.raises(CheckFailed, match=message):
        write_model(artifact, tmp_path / "models", "x")
    assert not (tmp_path / "models").exists()


@pytest.mark.usefixtures("openvino")
def test_a_precision_that_the_backend_may_choose_counts_too(tmp_path: Path) -> None:
    artifact = written(tmp_path / "artifact", "openvino")
    rows = artifact.evidence()["parity"]
    lowered = {"runtime": "openvino", "provider": "cpu", "precision": "bf16", "verdict": "failed"}
    artifact.learn("parity", {**rows, "openvino@openvino-bf16": lowered})
    with pytest.raises(CheckFailed, match=r"^Triton is given what openvino was proved to run; of this openvino it fai"):
        write_model(artifact, tmp_path / "models", "x")


def test_a_plan_of_tensorrt_rtx_is_not_for_triton(tmp_path: Path) -> None:
    artifact = written(tmp_path / "artifact", "tensorrt", notes={**PLAN_NOTES, "library": "tensorrt_rtx"})
    message = "^Triton loads plans of the package tensorrt; this one is tensorrt_rtx's; build it where tensorrt is"
    with pytest.raises(CheckFailed, match=message):
        write_model(artifact, tmp_path / "models", "x")


def test_a_format_without_a_backend(tmp_path: Path) -> None:
    artifact = tiny.artifact(tmp_path / "torch", "torch")
    assert not is_served(artifact.format.file)
    message = "^Triton serves model.onnx, model.xml, model.plan; a torch artifact is a model.safetensors$"
    with pytest.raises(UsageError, match=message):
        write_model(artifact, tmp_path / "models", "x")
