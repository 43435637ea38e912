"""The classic flags: which recipe they mean, and real commands on a folder of tiny images."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import keras_ancestor
import peregrine
import small_runs
from peregrine import catalog
from peregrine.__main__ import run as command
from peregrine.cli.classic import classic_recipe, strategy_changes
from peregrine.errors import UsageError
from peregrine.recipe import Recipe, load_recipe
from peregrine.rundir import RunDirectory

pytestmark = pytest.mark.tensorflow
TINY = ("--set", "model.widths=[8]", "--set", "model.dense=[16]", "--set", "precision=fp32")

# ---- which recipe ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "model_type", "changes", "chosen", "format"),
    [
        (None, None, {}, None, "auto"),
        (None, None, {"epochs": 5}, "resnet", "h5"),
        (None, "cnn", {}, "cnn", "h5"),
        (None, "resnet", {"batch_size": 64}, "resnet", "h5"),
        ("sprint-quick", None, {"epochs": 2}, "sprint-quick", "auto"),
    ],
)
def test_which_recipe(recipe: Any, model_type: Any, changes: dict[str, Any], chosen: Any, format: str) -> None:
    name, changed = classic_recipe(recipe, model_type, None, changes)
    assert name == chosen
    if chosen:
        loaded = load_recipe(chosen, changed)
        assert loaded.callbacks.checkpoint_format == format
        assert {key: getattr(loaded, key) for key in changes} == changes


def test_the_defaults_are_the_classic_ones() -> None:
    cnn, resnet = load_recipe("cnn"), load_recipe("resnet")
    assert (resnet.epochs, resnet.batch_size, resnet.optimizer.learning_rate) == (100, 128, 0.001)
    assert (cnn.epochs, cnn.batch_size, cnn.optimizer.learning_rate) == (50, 256, 0.0001)
    assert cnn.callbacks.early_stopping_patience == resnet.callbacks.early_stopping_patience == 15
    assert (resnet.model.options["dropout"], resnet.model.options["l2"]) == (0.3, 1e-4)


def test_a_loaded_model_brings_its_recipe(artifact: Path) -> None:
    chosen, changes = classic_recipe(None, None, artifact, {"epochs": 5})
    assert isinstance(chosen, Recipe)
    assert chosen.model.options["widths"] == [8]
    assert changes == {"epochs": 5, "load_model": str(artifact)}
    assert classic_recipe("cnn", None, artifact, {})[0] == "cnn", "unless another is named"
    assert classic_recipe(None, "cnn", artifact, {})[0] == "cnn"


@pytest.mark.parametrize(
    ("strategy", "gpus", "devices", "changes"),
    [
        (None, None, None, {}),
        ("mirrored", None, "cpu:2", {"strategy.name": "mirrored", "strategy.devices": "cpu:2"}),
        (None, 2, None, {"strategy.devices": "gpu:2"}),
    ],
)
def test_strategy(strategy: str | None, gpus: int | None, devices: str | None, changes: dict[str, Any]) -> None:
    assert strategy_changes(strategy, gpus, devices) == changes


def test_devices_said_twice() -> None:
    with pytest.raises(UsageError, match="--num-gpus and --devices both say which devices; got 2 and 'cpu:2'"):
        strategy_changes(None, 2, "cpu:2")


# ---- real commands --------------------------------------------------------------------------------------------------

Invoke = Callable[..., str]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that nobody trained."""
    return keras_ancestor.write(tmp_path_factory.mktemp("artifact") / "keras", small_runs.SIZE).path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_runs.patterns` as files, in `train/` and `test/`; the classes are in the order of their names."""
    folder = tmp_path_factory.mktemp("images")
    for split, seed, count in (("train", 0, 120), ("test", 1, 40)):
        data = small_runs.patterns(count, seed)
        for number, (pixels, label) in enumerate(zip(data.images, data.labels, strict=True)):
            path = folder / split / keras_ancestor.CLASSES[label % 3] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if label < 3:
                Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Run a command in an empty folder, check its status; gives stdout, or the one line that says what is wrong."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str | Path, status: int = 0) -> str:
        found = command([str(argument) for argument in arguments])
        told = capsys.readouterr()
        assert found == status, told.err
        lines = [line for line in told.err.splitlines() if line.startswith("peregrine: ")]
        assert len(lines) == (status != 0), lines
        return lines[0] if lines else told.out

    return invoke


def last_line(stdout: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return content


def test_train_only(invoke: Invoke, images: Path) -> None:
    flags = ("--model-type", "cnn", "--epochs", "3", "--batch-size", "16", "--learning-rate", "0.01")
    skips = ("--skip-inference", "--skip-visualization")
    stdout = invoke("run", "--data", images, *flags, *TINY, *skips, "--run", "mine", "--json")
    summary = last_line(stdout)
    assert summary["training"]["epochs"] == 3
    assert summary["evaluation"] is summary["benchmark"] is summary["report"] is None
    assert summary["exports"] == []
    assert "Run: mine" in stdout
    run = RunDirectory.open("mine")
    recipe = run.recipe()
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.learning_rate) == (3, 16, 0.01)
    assert recipe.callbacks.early_stopping_patience == 15
    assert sorted(path.name for path in run.results.iterdir()) == [
        "live.json", "training_history.json", "training_summary.json",
    ]  # fmt: skip
    assert not run.report_path.exists()
    assert [path.name for path in run.artifacts_folder.iterdir()] == ["keras"]
    assert run.read()["skipped"] == ["inference", "visualization"]
    assert run.overview()["status"] == "done"


def test_the_report_says_what_was_left_out(invoke: Invoke, images: Path) -> None:
    invoke("run", "--data", images, "--model-type", "cnn", "--epochs", "1", *TINY, "--skip-inference", "--run", "mine")
    run = RunDirectory.open("mine")
    page = run.report_path.read_text()
    assert page.count("left out by <code>--skip-inference</code>") == 4
    assert "peregrine evaluate mine" in page
    assert (run.results / "training_history.png").is_file()


def test_checkpoints_are_h5(invoke: Invoke, images: Path) -> None:
    skips = ("--skip-inference", "--skip-visualization")
    invoke("run", "--data", images, "--model-type", "cnn", "--epochs", "1", *TINY, *skips, "--run", "mine")
    assert sorted(path.name for path in Path("mine/checkpoints").iterdir() if path.is_file()) == [
        "best_model.h5",
        "latest_model.h5",
    ]


def test_going_on_from_a_checkpoint(invoke: Invoke, images: Path) -> None:
    """By the recipe in the file, which may have been moved, with the flags on top."""
    skips = ("--skip-inference", "--skip-visualization")
    flags = ("--model-type", "cnn", "--epochs", "6", "--batch-size", "16", "--learning-rate", "0.01")
    first = last_line(invoke("run", "--data", images, *flags, *TINY, *skips, "--run", "first", "--json"))
    shutil.move("first/checkpoints/best_model.h5", "moved.h5")
    on = last_line(
        invoke("run", "--data", images, "--load-model", "moved.h5", "--epochs", "2", *skips, "--run", "on", "--json")
    )
    assert on["training"]["epochs"] == 2
    assert on["training"]["loaded_from"] == "moved.h5"
    assert on["training"]["validation_accuracy"] >= first["training"]["validation_accuracy"]
    recipe = RunDirectory.open("on").recipe()
    assert (recipe.batch_size, recipe.optimizer.learning_rate, recipe.load_model) == (16, 0.01, "moved.h5")
    kept = RunDirectory.open("on").read()["data"]["fingerprints"]
    assert kept == RunDirectory.open("first").read()["data"]["fingerprints"], "the same validation split"


def test_a_model_as_it_is(invoke: Invoke, images: Path, artifact: Path) -> None:
    skips = ("--skip-training", "--skip-inference")
    stdout = invoke("run", "--data", images, "--load-model", artifact, *skips, "--run", "mine", "--json")
    assert f"Took cnn (tensorflow) from {artifact}, without training." in stdout
    training = last_line(stdout)["training"]
    assert (training["epochs"], training["training_seconds"], training["images_per_s"]) == (0, 0, 0)
    assert training["loaded_from"] == str(artifact)
    assert 0 <= training["validation_accuracy"] <= 1
    run = RunDirectory.open("mine")
    golden = run.ancestor().golden()
    given = keras_answers(artifact, golden.images)
    assert abs(golden.answers["ancestor"] - given).max() < 1e-6, "its own temperature too"
    page = run.report_path.read_text()
    assert "Nothing was trained in this run" in page
    assert "was taken as it is, without training" in page
    assert "training_history.png" not in page


def test_a_model_as_it_is_killed_and_resumed(invoke: Invoke, images: Path, artifact: Path) -> None:
    """It is not trained after all."""
    skips = ("--skip-training", "--skip-inference", "--skip-visualization")
    invoke("run", "--data", images, "--load-model", artifact, *skips, "--run", "mine")
    run = RunDirectory.open("mine")
    assert sorted(path.name for path in run.results.iterdir()) == ["training_history.json", "training_summary.json"]
    shutil.rmtree(run.artifact_path("keras"))
    invoke("train", "--resume", "--run", "mine")
    assert [verb["verb"] for verb in run.read()["verbs"]] == ["load", "run", "load"]
    assert run.ancestor().manifest.temperature == pytest.approx(1.7)


def keras_answers(path: Path, images: Any) -> Any:
    with peregrine.open(path) as model:
        return model.predict(images)


@pytest.mark.slow
def test_a_model_as_it_is_all_the_way(
    invoke: Invoke, images: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluated, exported, proved, measured, reported; with one format, as several take a minute."""
    monkeypatch.setitem(catalog.CATALOG, "edge", {"keras_to_onnx": catalog.find("edge", "keras_to_onnx")})
    stdout = invoke("run", "--data", images, "--load-model", artifact, "--skip-training", "--run", "mine", "--json")
    summary = last_line(stdout)
    assert summary["evaluation"]["images"] == 30
    measured = {row["candidate"] for row in summary["benchmark"]["rows"]}
    assert measured >= {"keras@keras", "onnx@onnxruntime"}
    run = RunDirectory.open("mine")
    assert run.read()["skipped"] == ["training"]
    assert "picture" not in "".join(re.findall(r'<p class="todo">.*', run.report_path.read_text()))


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--skip-training",), 2, ["needs a model to take", "--load-model"]),
        (("--skip-training", "--time-budget", "5m"), 2, ["a time budget is for training", "leave out"]),
        (
            ("--load-model", "gone.h5", "--skip-training", "--epochs", "3"),
            2,
            ["--skip-training trains nothing", "epochs=3"],
        ),
        (("--load-model", "gone.h5"), 2, ["found nothing there: gone.h5"]),
        (("--recipe", "cnn", "--model-type", "cnn"), 2, ["--model-type chooses a recipe", "not both"]),
        (("--model-type", "resnt"), 2, ["--model-type is one of", "resnt", "did you mean 'resnet'?"]),
        (("--recipe", "sprint-quick", "--num-gpus", "2", "--devices", "gpu:2"), 2, ["--num-gpus and --devices"]),
        (("--recipe", "sprint-quick", "--strategy", "mirrored"), 2, ["strategy.name", "mirrored"]),
        (("--model-type", "cnn", "--strategy", "miror"), 2, ["strategy.name", "miror"]),
        (("--model-type", "cnn", "--devices", "tpu:2"), 2, ["strategy.devices", "tpu:2"]),
        (("--num-gpus", "0"), 2, ["--num-gpus"]),
        (("--resume", "--epochs", "3"), 2, ["--resume", "classic flags"]),
    ],
)
def test_what_makes_no_sense(
    invoke: Invoke, images: Path, arguments: tuple[str, ...], status: int, words: list[str]
) -> None:
    message = invoke("run", "--data", images, *arguments, status=status)
    for word in words:
        assert word in message
    assert not any(Path.cwd().iterdir())
