"""The whole way on real digits, as the command line goes it, and everything that one does with a run afterwards."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import peregrine
from command import call, invoke, last_line
from peregrine.artifact import Artifact
from peregrine.errors import UsageError
from peregrine.rundir import RunDirectory

pytestmark = [pytest.mark.torch, pytest.mark.xdist_group("pipeline")]
pytest.importorskip("torch", reason="the digits recipe trains with PyTorch")


def test_every_file_of_the_plan_is_there(run: RunDirectory) -> None:
    expected = """
        run.json recipe.toml report.html model_card.md logs/peregrine.log
        checkpoints/best_model.safetensors checkpoints/latest_model.safetensors
        artifacts/torch/manifest.json artifacts/torch/model.safetensors artifacts/torch/golden.npz
        artifacts/onnx/manifest.json artifacts/onnx/model.onnx artifacts/onnx/evidence.json
        results/training_history.png results/training_history.json results/training_summary.json
        results/inference_results.json results/confusion_matrix.png results/class_accuracy.png
        results/prediction_samples.png results/mistakes.png results/confidence_distribution.png
        results/reliability.png results/coverage.png
        results/benchmark.png results/benchmark.json results/parity.json results/best.json
        results/live.json
    """.split()  # noqa: SIM905 - a list of paths reads better without quotes
    assert [path for path in expected if not (run.path / path).is_file()] == []
    assert len(list(run.logs.glob("training_log_*.csv"))) == 1
    assert list((run.logs / "tensorboard").rglob("events.out.tfevents.*"))
    assert not list(run.path.rglob(".tmp-*"))


def test_the_page_of_a_finished_run_does_not_say_that_it_runs(run: RunDirectory) -> None:
    page = run.report_path.read_text("utf-8")
    assert "status:" not in page
    assert "running" not in page


def test_the_result_is_good_and_proved(work: Path) -> None:
    summary = json.loads((work / "run.json").read_text())
    assert summary["evaluation"]["accuracy"] > 0.97
    assert summary["evaluation"]["images"] > 300
    row = summary["exports"][0]["parity"][0]
    assert (row["candidate"], row["verdict"]) == ("onnx@onnxruntime", "passed")
    assert row["max_difference"] < 0.001
    assert row["predict_seconds"] > 0
    every = {row["candidate"]: row for export in summary["exports"] for row in export["parity"]}
    assert {row["candidate"] for row in summary["benchmark"]["rows"]} >= {"torch@torch", "onnx@onnxruntime"}
    assert "onnx-int8@onnxruntime" in every
    assert {"onnx-fp16", "onnx-int8-symmetric", "openvino"} <= set(summary["left_out"])
    assert every.keys() >= {row["candidate"] for row in summary["benchmark"]["rows"]} - {"torch@torch"}
    assert {row["verdict"] for row in every.values()} <= {"passed", "inconclusive"}  # 359 images do not tell all
    assert summary["training"]["training_seconds"] > 0
    best = summary["best"]
    assert best == json.loads((work / "digits" / "results" / "best.json").read_text())
    assert every.get(best["candidate"], {"verdict": "passed"})["verdict"] == "passed"
    assert best["test_accuracy"] == pytest.approx(summary["evaluation"]["accuracy"], abs=0.01)


def test_keys_that_scripts_rely_on(run: RunDirectory) -> None:
    training = json.loads((run.results / "training_summary.json").read_text())
    assert {
        "training_seconds", "validation_seconds", "preparation_seconds", "epochs", "images_per_s", "best_epoch",
        "recipe", "engine", "model", "precision",
    } <= training.keys()  # fmt: skip
    results = json.loads((run.results / "inference_results.json").read_text())
    assert {
        "accuracy", "accuracy_interval", "top3_accuracy", "balanced_accuracy", "macro_f1", "loss", "per_class",
        "confusion_matrix", "ece", "split", "tta", "images", "coverage", "reject",
    } <= results.keys()  # fmt: skip


def test_the_summary_can_be_read(work: Path) -> None:
    text = (work / "run.txt").read_text()
    for word in ("Accuracy on", "95% interval", "onnx@onnxruntime", "passed", "Benchmark", "Best: ", "report.html"):
        assert word in text


def test_the_resolved_recipe_is_the_same_run(work: Path, run: RunDirectory) -> None:
    recipe = run.recipe()
    assert recipe.precision != "auto"
    assert recipe.input.size == Artifact.open(run.artifact_path("torch")).manifest.preprocess.size
    again = peregrine.train(
        peregrine.load_dataset("digits", size=recipe.input.size), run.recipe_path, run=work / "again"
    )
    weights = [folder / "artifacts" / "torch" / "model.safetensors" for folder in (run.path, again.path.parent.parent)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_evaluate_agrees_with_the_run(work: Path, run: RunDirectory) -> None:
    fresh = last_line(call("evaluate", "digits/artifacts/onnx", "--json", cwd=work))
    assert fresh["candidate"] == "onnx@onnxruntime"
    assert fresh["accuracy"] == json.loads((run.results / "inference_results.json").read_text())["accuracy"]
    validation = last_line(call("evaluate", "digits", "--split", "validation", "--json", cwd=work))
    assert validation["split"] == "validation"
    assert validation["images"] < fresh["images"]


def test_evaluate_with_test_time_augmentation(work: Path, run: RunDirectory) -> None:
    """What is recorded and what proofs compare with stays without."""
    recorded = [*run.cache.glob("answers-*.npz"), run.results / "confusion_matrix.png"]
    before = [path.read_bytes() for path in recorded]
    stdout = call("evaluate", "digits", "--tta", "full", "--tta-share", "0.25", "--json", cwd=work)
    result = last_line(stdout)
    plain = json.loads((run.results / "inference_results.json").read_text())
    assert "full of the least certain 25.00% of the images; without it " in stdout
    assert (result["tta"], result["tta_share"], plain["tta"]) == ("full", 0.25, "none")
    assert result["without_tta"]["accuracy"] == plain["accuracy"]
    assert result["loss"] != plain["loss"]
    assert [path.read_bytes() for path in recorded] == before
    exported = last_line(call("evaluate", "digits/artifacts/onnx", "--tta", "flip", "--json", cwd=work))
    assert exported["candidate"] == "onnx@onnxruntime"
    assert exported["images"] == result["images"]


def test_evaluate_aims_at_an_accuracy_and_predict_says_what_is_uncertain(copy: Path) -> None:
    plain = json.loads((copy / "results" / "inference_results.json").read_text())
    assert plain["reject"]["chosen_on"] == "validation"
    assert plain["reject"]["target_accuracy"] > plain["accuracy"] - 0.05
    on_export = last_line(call("evaluate", copy / "artifacts" / "onnx", "--json", cwd=copy.parent))
    assert on_export["reject"]["threshold"] == plain["reject"]["threshold"], "chosen once, with the trained model"
    stdout = call("evaluate", copy, "--target-accuracy", "1", "--json", cwd=copy.parent)
    strict = last_line(stdout)["reject"]
    assert (strict["target_accuracy"], strict["chosen_on"]) == (1, "validation")
    assert strict["threshold"] >= plain["reject"]["threshold"]
    on_export = last_line(call("evaluate", copy / "artifacts" / "onnx", "--json", cwd=copy.parent))
    assert on_export["reject"]["threshold"] == strict["threshold"], "which predict uses now"
    rows = last_line(call("predict", copy, "--sample", "300", "--json", cwd=copy.parent))["predictions"]
    for row in rows:
        assert row["uncertain"] == (row["probability"] < strict["threshold"])


def test_robustness_stays_when_the_run_is_evaluated_again(copy: Path) -> None:
    stdout = call("evaluate", copy, "--robustness", "--json", cwd=copy.parent)
    found = last_line(stdout)["robustness"]
    assert "Mean corruption error" in stdout
    assert "jpeg_compression" in stdout
    assert 0 <= found["clean_error"] < found["mean_corruption_error"] < 0.9
    assert (copy / "results" / "robustness.png").is_file()
    call("evaluate", copy, cwd=copy.parent)
    assert json.loads((copy / "results" / "inference_results.json").read_text())["robustness"] == found


def test_best_within_limits_and_not(work: Path, run: RunDirectory) -> None:
    stdout = call("best", "digits", "--objective", "size", "--max-accuracy-drop", "1", "--json", cwd=work)
    best = last_line(stdout)
    assert f"Best: {best['candidate']}, " in stdout
    assert (best["objective"], best["limits"]["max_accuracy_drop_points"]) == ("size", 1.0)
    assert all(entry["misses"] for entry in best["runners_up"])
    ended = invoke("predict", "digits", "--sample", "3", cwd=work)
    assert f"{best['candidate']} answers, which `peregrine best` chose" in ended.stderr
    before = (run.results / "best.json").read_bytes()
    ended = invoke("best", "digits", "--max-latency-ms", "0.0001", "--json", cwd=work)
    assert ended.returncode == 1
    assert "nothing is within the limits; the nearest is " in ended.stderr.splitlines()[-1]
    assert last_line(ended.stdout)["candidate"] is None
    assert (run.results / "best.json").read_bytes() == before


def test_compare_an_export_with_its_run(work: Path) -> None:
    stdout = call("compare", "digits", "digits/artifacts/onnx", "--picture", "changes.png", "--json", cwd=work)
    assert "Only digits is right: 0 images." in stdout
    result = last_line(stdout)
    assert (work / result["picture"]).is_file()
    trained, exported = result["models"]
    assert (trained["candidate"], exported["candidate"]) == ("torch@torch", "onnx@onnxruntime")
    assert exported["fastest"]["candidate"] == "onnx@onnxruntime"
    (comparison,) = result["comparisons"]
    assert (comparison["difference_points"], comparison["verdict"]) == (0, "no difference shown")


def test_export_to_an_unknown_format(work: Path) -> None:
    call("export", "digits", "--to", "onx", cwd=work, status=2)


def test_the_network_is_a_keras_model_too(work: Path, run: RunDirectory) -> None:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("the extra tensorflow is not installed")
    (outcome,) = last_line(call("export", "digits", "--to", "keras", "--json", cwd=work))["exports"]
    (row,) = outcome["parity"]
    assert (row["candidate"], row["verdict"], row["disagreements"]) == ("keras@keras", "passed", 0)
    assert row["max_difference"] < 1e-5
    with peregrine.open(run.path) as model:
        assert model.candidate.key != "keras@keras", "others start faster"
    with peregrine.open(run.artifact_path("keras"), verify=True) as model:
        assert model.candidate.key == "keras@keras"


def test_export_again_and_to_a_triton_repository(work: Path, run: RunDirectory) -> None:
    stdout = call("export", "digits", "--to", "onnx", "--triton", "models", "--json", cwd=work)
    assert "Triton serves onnx from models/digits-onnx" in stdout
    (outcome,) = last_line(stdout)["exports"]
    assert outcome["status"] in ("proved", "inconclusive")
    assert outcome["triton"] == "models/digits-onnx"
    served = work / "models" / "digits-onnx"
    assert (served / "1" / "model.onnx").read_bytes() == (run.artifact_path("onnx") / "model.onnx").read_bytes()
    assert (served / "labels.txt").read_text().split() == [str(digit) for digit in range(10)]


def test_export_for_a_static_batch(work: Path, run: RunDirectory) -> None:
    """Beside what takes any batch, of which it is made; single images are still answered by that."""
    before = Artifact.open(run.artifact_path("onnx")).id
    stdout = call("export", "digits", "--to", "onnx", "--batch", "8", "--triton", "fixed", "--json", cwd=work)
    (outcome,) = last_line(stdout)["exports"]
    assert outcome["status"] in ("proved", "inconclusive")
    assert outcome["parity"][0]["candidate"] == "onnx@onnxruntime-batch8"
    static = Artifact.open(run.artifact_path("onnx", batch=8))
    assert (static.batch, static.manifest.parent) == (8, before)
    assert "max_batch_size: 0" in (work / "fixed" / "digits-onnx-batch8" / "config.pbtxt").read_text()
    rows = json.loads((run.results / "parity.json").read_text())["rows"]
    assert {"onnx@onnxruntime", "onnx@onnxruntime-batch8"} <= {row["candidate"] for row in rows}
    with peregrine.open(run.path) as model:
        assert model.candidate.batch is None


def test_an_engine_that_cannot_be_proved_here_is_built_and_says_so(copy: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt is not installed")
    from peregrine.host import find_gpu

    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    ended = invoke("export", copy, "--to", "tensorrt", cwd=copy.parent)
    assert ended.returncode == 3
    last = ended.stderr.splitlines()[-1]
    assert f"tensorrt was built at {copy / 'artifacts' / 'tensorrt'}, but not proved: tensorrt@tensorrt" in last
    assert "runs on an NVIDIA GPU; its driver (libcuda) finds none here" in last
    assert Artifact.open(copy / "artifacts" / "tensorrt").evidence() == {}
    skipped = json.loads((copy / "results" / "parity.json").read_text())["skipped"]
    assert {entry["format"]: entry["status"] for entry in skipped}["tensorrt"] == "unproved"
    call("report", copy, cwd=copy.parent)
    assert "tensorrt was built, but not proved here: " in (copy / "report.html").read_text("utf-8")


def test_runs_lists_it(work: Path) -> None:
    rows = last_line(call("runs", ".", "--json", cwd=work))["runs"]
    (row,) = [row for row in rows if row["run"] == "digits"]
    assert row["data"] == "digits"
    assert row["accuracy"] > 0.97


def test_a_damaged_model_is_refused(work: Path, run: RunDirectory) -> None:
    model = run.artifact_path("onnx") / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    try:
        call("predict", "digits/artifacts/onnx", "--sample", "3", cwd=work, status=1)
    finally:
        model.write_bytes(content)


@pytest.fixture
def copy(work: Path, run: RunDirectory, tmp_path: Path) -> Path:
    """The run, to be spoiled."""
    return shutil.copytree(run.path, tmp_path / "copy")


def test_an_export_that_predicts_something_else_is_refused(copy: Path) -> None:
    size = RunDirectory.open(copy).recipe().input.size
    ordered = peregrine.load_dataset("digits", size=size).test.ordered_fingerprint
    (answers,) = (copy / "cache").glob(f"answers-*-{ordered[:12]}.npz")
    with np.load(answers) as saved:
        probabilities = saved["probabilities"]
    np.savez(answers, probabilities=np.roll(probabilities, 1, axis=1))
    for artifact in RunDirectory.open(copy).artifacts():
        if artifact.path.name not in ("torch", "onnx"):  # proved before
            shutil.rmtree(artifact.path)

    ended = invoke("export", copy, "--to", "onnx", "--json", cwd=copy.parent)
    assert ended.returncode == 1
    assert "does not predict what the trained model predicts" in ended.stderr.splitlines()[-1]
    told = [line.split()[:2] for line in ended.stdout.splitlines() if line.startswith(" onnx@")]
    assert ["onnx@onnxruntime", "failed"] in told
    assert {row["verdict"] for row in last_line(ended.stdout)["exports"][0]["parity"]} == {"failed"}
    rows = {row["candidate"]: row for row in json.loads((copy / "results" / "parity.json").read_text())["rows"]}
    assert rows["onnx@onnxruntime"]["verdict"] == "failed"
    assert (copy / "artifacts" / "onnx" / "model.onnx").is_file(), "kept for study"
    with peregrine.open(copy) as model:
        assert model.candidate.key == "torch@torch", "not used"
    measured = peregrine.benchmark(copy, rounds=1, quick=True)["rows"]
    assert [row["candidate"] for row in measured] == ["torch@torch"]


def test_a_converter_that_crashes_costs_its_own_format(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("""
import os, sys
class Crash:
    def find_spec(self, name, path, target=None):
        if name == "peregrine.export.torch_to_onnx":
            os.abort()
sys.meta_path.insert(0, Crash())
""")
    ended = invoke("export", copy, "--to", "onnx", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1
    assert "SIGABRT" in ended.stderr
    assert "worker-export-torch_to_onnx.log" in ended.stderr
    assert "Accuracy on" in call("evaluate", copy, cwd=tmp_path)


def test_a_missing_library_is_named_with_its_extras(copy: Path, tmp_path: Path) -> None:
    """Nobody who trains with PyTorch has to install TensorFlow, unless for what is made by it."""
    (tmp_path / "sitecustomize.py").write_text("""
import sys
class Missing:
    def find_spec(self, name, path, target=None):
        if name in ("keras", "tensorflow"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
""")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ended = invoke("export", copy, "--to", "keras", cwd=tmp_path, PYTHONPATH=path)
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1] == (
        "peregrine: edge torch_to_keras needs the library 'keras', which is not installed; "
        "run: pip install 'peregrine[tensorflow,torch]'"
    )


def test_report_again(work: Path, run: RunDirectory) -> None:
    run.report_path.unlink()
    written = last_line(call("report", "digits", "--json", cwd=work))
    assert written == {"report": str(Path("digits/report.html")), "model_card": str(Path("digits/model_card.md"))}
    assert "onnx@onnxruntime" in run.report_path.read_text()


def test_python_api(work: Path, run: RunDirectory) -> None:
    """From a script without a `__main__` guard, as people write them."""
    script = """
import peregrine
splits = peregrine.load_dataset("digits")
artifact = peregrine.train(splits, "digits", run="api", changes={"epochs": 2})
(export,) = peregrine.export(artifact, "onnx")
figures = peregrine.evaluate(artifact, data=splits)
with peregrine.open(export.artifact, verify=True) as model:
    probabilities = model.predict(model.preprocess.fit_array(splits.test.images))
assert probabilities.shape == (len(splits.test), 10), probabilities.shape
assert abs((probabilities.argmax(1) == splits.test.labels).mean() - figures["accuracy"]) < 0.02
rows = peregrine.benchmark("api", rounds=1, quick=True)["rows"]
print(*(row["candidate"] for row in rows), peregrine.report("api"))
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=work, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert {"torch@torch", "onnx@onnxruntime"} <= set(ended.stdout.split())
    assert ended.stderr == ""


def test_arrays_of_ones_own(work: Path) -> None:
    """Data that was never a file: the run cannot find it again, and says so."""
    splits = peregrine.load_dataset("digits")
    own = peregrine.Splits(splits.train, None, splits.test)
    artifact = peregrine.train(own, "digits", run=work / "own", changes={"epochs": 1})
    assert peregrine.evaluate(artifact, data=own)["images"] == len(own.test)
    with pytest.raises(UsageError, match="--data"):
        peregrine.evaluate(artifact)
