"""From somebody's file to a run that every verb takes: real files, real digits, real worker processes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra torch")
import foreign_making
import peregrine
from foreign_making import PIXELS
from peregrine import files
from peregrine.__main__ import run as command
from peregrine.artifact import Artifact
from peregrine.cli.importing import read_classes
from peregrine.dataset import Splits
from peregrine.engines.origin import find_origin
from peregrine.errors import CheckFailed, DataError, UsageError
from peregrine.metrics import softmax
from peregrine.rundir import RunDirectory, list_runs, newest_unfinished
from peregrine.stages.reporting import report

pytestmark = pytest.mark.torch
NAMES = tuple("0123456789")
TREATED = {"scale": 1 / 255, "mean": 0.3, "std": 0.35}
FLAGS = ("--scale", "1/255", "--mean", "0.3", "--std", "0.35,0.35,0.35")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def digits() -> Splits:
    return peregrine.load_dataset("digits")


@pytest.fixture(scope="module")
def network(digits: Splits) -> foreign_making.Network:
    return foreign_making.fitted(digits.train)


@pytest.fixture(scope="module")
def file(network: foreign_making.Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of PyTorch: NCHW, logits, a free batch."""
    path = tmp_path_factory.mktemp("somebody") / "digits.onnx"
    return foreign_making.export(foreign_making.torch_module(network), path)


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command in an empty folder: status, stdout, stderr."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def invoke(*arguments: str | Path) -> tuple[int, str, str]:
        status = command([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return invoke


def test_the_whole_way(invoke: Command, file: Path, network: foreign_making.Network, digits: Splits) -> None:
    """Import, then every verb, on the command line."""
    status, out, err = invoke("import", file, "--data", "digits", *FLAGS, "--run", "mine", "--json")
    assert status == 0, err
    assert "warning" not in err
    found = json.loads(out.splitlines()[-1])
    expected = softmax(network.logits(PIXELS.apply(digits.test.images[:])))
    accuracy = float((expected.argmax(1) == digits.test.labels).mean())
    assert found["evaluation"]["accuracy"] == accuracy > 0.9
    assert (found["outputs"], found["found_out"], found["layout"], found["size"]) == ("logits", True, "NCHW", 8)
    assert found["largest_difference"] < 1e-5
    assert found["class_names"] == list(NAMES)
    assert found["validation"]["mending"] is None
    assert "it gives logits" in out

    artifact = Artifact.open(found["artifact"])
    assert (found["run"], found["artifact"], found["artifact_id"]) == ("mine", "mine/artifacts/onnx", artifact.id)
    manifest = artifact.manifest
    assert (manifest.engine, manifest.recipe, manifest.parent) == ("imported", {"validation": 0.1, "seed": 0}, None)
    assert manifest.notes["imported"]["sha256"] == files.sha256(file)
    with peregrine.open(artifact, verify=True) as runtime:
        np.testing.assert_allclose(runtime.predict(digits.test.images[:]), expected, atol=1e-5)

    status, out, err = invoke("export", "mine", "--to", "onnx-int8", "--json")
    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["exports"][0]["status"] in ("proved", "inconclusive")
    status, out, err = invoke("evaluate", "mine", "--json")
    assert json.loads(out.splitlines()[-1])["accuracy"] == accuracy
    status, out, err = invoke("predict", "mine", "--sample", "3", "--json")
    assert len(json.loads(out.splitlines()[-1])["predictions"]) == 3
    assert invoke("predict", "mine", "mine/results/prediction_sample.png")[0] == 0
    status, out, err = invoke("runs", ".")
    assert "mine" in out
    status, out, err = invoke("report", "mine")
    assert status == 0, err
    page = Path("mine/report.html").read_text()
    assert "<bdi>digits.onnx</bdi></strong>, imported as it is" in page
    assert "no trained model yet" not in page
    assert "--scale 1/255 --mean 0.3 --std 0.35" in page


@pytest.mark.openvino
def test_openvino_runs_and_is_proved_beside_onnx_runtime(file: Path, digits: Splits, tmp_path: Path) -> None:
    """The ancestor's answers are ONNX Runtime's; what another runtime makes of the same file has to be proved."""
    pytest.importorskip("openvino", reason="needs the extra openvino")
    run = tmp_path / "run"
    artifact = peregrine.import_model(file, data=digits, run=run, **TREATED)
    outcomes = peregrine.export(run, ["onnx", "openvino"], data=digits)
    rows = {row["candidate"]: row["verdict"] for outcome in outcomes for row in outcome.parity}
    assert {"onnx@onnxruntime", "onnx@openvino", "openvino@openvino"} <= rows.keys()
    assert "failed" not in rows.values()
    by_openvino = peregrine.evaluate(run, data=digits, runtime="openvino")
    assert by_openvino["candidate"] == "onnx@openvino"
    # ONNX Runtime's: OpenVINO's are not the ancestor's
    (answers,) = RunDirectory(run).cache.glob(f"answers-*-{digits.test.ordered_fingerprint[:12]}.npz")
    with np.load(answers) as kept, peregrine.open(artifact) as runtime:
        np.testing.assert_array_equal(kept["probabilities"], runtime.predict(digits.test.images[:]))
    measured = peregrine.benchmark(run, data=digits, rounds=1, quick=True)["rows"]
    assert {"onnx@onnxruntime", "onnx@openvino", "openvino@openvino"} <= {row["candidate"] for row in measured}
    assert "has not been measured" not in report(run).read_text()


def test_every_onnx_export_of_what_wants_blue_first(digits: Splits, tmp_path: Path) -> None:
    """With another order of channels in the graph, from a file with a fixed batch and an old opset."""
    data = foreign_making.tinted(digits)
    network = foreign_making.fitted(data.train, PIXELS.flipped())
    path = foreign_making.export(foreign_making.torch_module(network), tmp_path / "somebody.onnx", opset=11, batch=1)
    peregrine.import_model(path, data=data, run=tmp_path / "run", channels="bgr", **TREATED)
    formats = ["onnx-fp16", "onnx-int8", "onnx-int8-symmetric"]
    outcomes = peregrine.export(tmp_path / "run", formats, data=data)
    assert {outcome.format: outcome.status for outcome in outcomes if outcome.status == "failed"} == {}
    for outcome in outcomes:
        assert outcome.parity[0]["agreement"] > 0.97


@pytest.mark.tensorflow
@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
def test_tensorflows_files(suffix: str, network: foreign_making.Network, digits: Splits, tmp_path: Path) -> None:
    pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs TensorFlow", exc_type=ImportError)
    model = foreign_making.keras_model(network)
    path = tmp_path / f"somebody{suffix}"
    if suffix:
        foreign_making.save_keras(model, path)
    else:
        model.export(path, verbose=False)
    artifact = peregrine.import_model(path, data=digits, run=tmp_path / "run", **TREATED)
    assert artifact.manifest.format == ("keras" if suffix else "onnx")
    found = files.read_json(tmp_path / "run" / "results" / "import.json")
    assert (found["outputs"], found["layout"], found["warnings"]) == ("probabilities", "NHWC", [])
    expected = softmax(network.logits(PIXELS.apply(digits.test.images[:])))
    with peregrine.open(artifact) as runtime:
        np.testing.assert_allclose(runtime.predict(digits.test.images[:]), expected, atol=1e-5)
    with pytest.raises(
        UsageError, match=r"was imported, for use alone$" if suffix else r"artifacts of format keras or"
    ):
        find_origin(artifact.path)


# ---- what does not fit ----------------------------------------------------------------------------------------------


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level("WARNING", logger="peregrine")
    return lambda: "\n".join(record.getMessage() for record in caplog.records if record.levelname == "WARNING")


def test_another_scale_is_told(file: Path, digits: Splits, tmp_path: Path, warned: Callable[[], str]) -> None:
    """Without any preprocessing, what is near enough to the right one is found among the usual ones."""
    peregrine.import_model(file, data=digits, run=tmp_path / "run")
    assert "this looks like the wrong preprocessing: " in warned()
    assert " of 143 validation images are right with --scale 1/255 --mean 0.3055 --std 0.3759; import" in warned()
    assert warned().endswith("import it again with that; the test split was left alone")
    assert not (tmp_path / "run" / "results" / "inference_results.json").exists()
    page = report(tmp_path / "run").read_text()
    assert "Said when the model was imported:" in page


def test_other_channels_are_told(digits: Splits, tmp_path: Path, warned: Callable[[], str]) -> None:
    data = foreign_making.tinted(digits)
    network = foreign_making.fitted(data.train, PIXELS.flipped())
    path = foreign_making.export(foreign_making.torch_module(network), tmp_path / "somebody.onnx")
    peregrine.import_model(path, data=data, run=tmp_path / "wrong", **TREATED)
    assert "are right with --channels bgr --scale 1/255 --mean 0.3 --std 0.35; import it again" in warned()
    peregrine.import_model(path, data=data, run=tmp_path / "right", channels="bgr", **TREATED)
    assert files.read_json(tmp_path / "right" / "results" / "import.json")["warnings"] == []


def test_another_order_of_classes_is_told(
    file: Path, digits: Splits, tmp_path: Path, warned: Callable[[], str]
) -> None:
    order = ["3", "1", "4", "5", "9", "2", "6", "8", "7", "0"]
    peregrine.import_model(file, order, data=digits, run=tmp_path / "run", **TREATED)
    assert "wrong order of classes: 100.0% instead of 20.3%" in warned()
    assert 'are right with --classes "0,1,2,3,4,5,6,7,8,9"; import it again' in warned()


def test_a_model_that_knows_nothing(digits: Splits, tmp_path: Path, warned: Callable[[], str]) -> None:
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.001)
    torch.nn.init.normal_(module[3].bias)
    path = foreign_making.export(module, tmp_path / "somebody.onnx")
    peregrine.import_model(path, data=digits, run=tmp_path / "run", scale=1 / 255)
    assert "this is near chance: right on " in warned()
    assert "no usual scale, order of channels or of classes is much better" in warned()


def test_without_data_nothing_is_measured(
    file: Path, tmp_path: Path, warned: Callable[[], str], digits: Splits
) -> None:
    artifact = peregrine.import_model(file, NAMES, run=tmp_path / "run", **TREATED)
    assert warned() == "nothing was measured: whether digits.onnx gets what it was trained on is not known; give --data"
    assert artifact.golden().images.shape == (16, 8, 8, 3)
    with peregrine.open(artifact, verify=True):
        pass
    assert "nothing is known of how good it is" in report(tmp_path / "run").read_text()
    with pytest.raises(UsageError, match="does not tell where its data is; give it with --data"):
        peregrine.evaluate(tmp_path / "run")
    assert peregrine.evaluate(tmp_path / "run", data=digits)["accuracy"] > 0.9


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.onnx", "--data", "digits"], "nothing is at nowhere.onnx"),
        (["FILE"], "give --classes, or --data with the same classes"),
        (["FILE", "--classes", "a,b,c"], "has 10, and 3 names are given"),
        (["FILE", "--classes", "a,a"], "names each class once; got 'a' again"),
        (["FILE", "--classes", "a"], "two names or more"),
        (["FILE", "--data", "digits", "--scale", "1:255"], "--scale takes numbers such as 0.5 or 1/255"),
        (["FILE", "--data", "digits", "--std", "0"], "--std has a number above 0 per channel"),
        (["FILE", "--data", "digits", "--layout", "nhwc"], "which is not NHWC"),
        (["FILE", "--data", "digits", "--size", "16"], "takes images of 8 pixels; got --size 16"),
        (["FILE", "--classes", "a,b", "--resize", "squash"], "--resize is crop or pad; got 'squash'"),
        (["FILE", "--data", "digits", "--outputs", "sigmoid"], "--outputs is logits or probabilities"),
        (["FILE", "--data", "digits", "--outputs", "probabilities"], "gives other numbers; leave out --outputs"),
        (["weights.pth", "--data", "digits"], "torch.onnx.export where it was trained"),
        (["model.tflite", "--data", "digits"], "import takes .onnx, .keras, .h5, .hdf5 files and SavedModel folders"),
        (["folder", "--data", "digits"], "is a SavedModel, with a saved_model.pb; folder has none"),
    ],
)  # fmt: skip
def test_one_line_and_nothing_written(invoke: Command, file: Path, arguments: list[str], words: str) -> None:
    for name in ("weights.pth", "model.tflite"):
        Path(name).write_bytes(b"\x80\x04")
    Path("folder").mkdir()
    before = sorted(Path.cwd().iterdir())
    status, _, err = invoke("import", *[str(file) if argument == "FILE" else argument for argument in arguments])
    assert status == 2
    assert words in err.splitlines()[-1]
    assert sorted(Path.cwd().iterdir()) == before


def test_classes_in_a_file(invoke: Command, file: Path) -> None:
    Path("names.txt").write_text("zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n")
    status, _, err = invoke("import", file, "--classes", "names.txt", "--run", "mine", *FLAGS)
    assert status == 0, err
    assert Artifact.open("mine/artifacts/onnx").manifest.class_names[3] == "three"
    status, _, err = invoke("import", file, "--classes", "names.txt", "--data", "digits")
    assert status == 2
    assert "the model knows the classes zero, one, two" in err
    Path("names.bin").write_bytes(b"\xff\xfe\x00")
    assert "is none in UTF-8" in invoke("import", file, "--classes", "names.bin")[2]


def test_data_with_a_class_that_the_model_does_not_know(file: Path, digits: Splits, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the data has others: 9$"):
        peregrine.import_model(file, [*NAMES[:9], "ten"], data=digits, run=tmp_path / "run", **TREATED)
    assert not (tmp_path / "run").exists()


def test_a_model_saved_as_for_training(digits: Splits, tmp_path: Path) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(192, 10)).train()
    path = foreign_making.export(module, tmp_path / "somebody.onnx", training=torch.onnx.TrainingMode.TRAINING)
    with pytest.raises(CheckFailed, match=r"in other company, by .* after model\.eval\(\)$"):
        peregrine.import_model(path, data=digits, run=tmp_path / "run", scale=1 / 255)
    assert not (tmp_path / "run").exists()


def test_a_parser_that_crashes_costs_one_line(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Splits
) -> None:
    """A sitecustomize that kills the worker, in the place of a library that does."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Killer:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'onnxruntime': os.abort()\n"
        "sys.meta_path.insert(0, Killer())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with pytest.raises(CheckFailed, match=r"inspect-model ended its process \(SIGABRT\); see (.*)$") as caught:
        peregrine.import_model(file, data=digits, run=tmp_path / "run", **TREATED)
    assert not (tmp_path / "run").exists()
    assert Path(str(caught.value).rpartition(" ")[2]).is_file()


def test_an_imported_run_cannot_be_trained_on(file: Path, tmp_path: Path) -> None:
    artifact = peregrine.import_model(file, NAMES, run=tmp_path / "run", **TREATED)
    run = RunDirectory.open(tmp_path / "run")
    with pytest.raises(UsageError, match=r"was imported, and cannot be trained on; begin a new run$"):
        run.recipe()
    run.update(status="export: failed")
    assert [listed.overview()["recipe"] for listed in list_runs(tmp_path)] == ["–"]
    with pytest.raises(UsageError, match="found no unfinished run"):
        newest_unfinished(tmp_path)
    with pytest.raises(UsageError, match=r"load_model takes trained models.* by the engine imported$"):
        find_origin(artifact.path)


def test_a_file_of_classes_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\r\n dog\r\n\r\nété\r\n", "utf-8-sig")
    assert read_classes(str(tmp_path / "names.txt")) == ["cat", "dog", "été"]
