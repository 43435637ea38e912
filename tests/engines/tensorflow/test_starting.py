"""`load_model`: what may be gone on from, what is refused and in which words, and what comes of it."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import keras_ancestor
import small_runs
import tiny
from peregrine.artifact import Artifact
from peregrine.engines.origin import find_origin
from peregrine.engines.tensorflow import network
from peregrine.engines.tensorflow.checkpoint import load_model, save_model
from peregrine.engines.tensorflow.engine import TensorFlowEngine
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.record import describe
from peregrine.engines.tensorflow.starting import Start, find_start
from peregrine.errors import DamagedFile, Interrupted, UsageError
from peregrine.recipe import Recipe
from peregrine.stages.training import train

pytestmark = pytest.mark.tensorflow
RECIPE = TensorFlowEngine().resolve(
    small_runs.recipe("tensorflow", {"input.size": small_runs.SIZE}), small_runs.splits().train
)
CLASSES = small_runs.CLASSES


def built(recipe: Recipe, optimizer: Any) -> Any:
    """A compiled network with random weights, whose optimiser has no step behind it."""
    model = network.plain(recipe, len(CLASSES), network.Normalisation([0.01] * 3, [-1.0, 0.0, 1.0]))
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.fixture(scope="module", params=[".keras", ".h5"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and an Adam whose state is its own numbers."""
    path: Path = tmp_path_factory.mktemp("start") / f"best_model{request.param}"
    model = built(RECIPE, keras.optimizers.Adam(0.01))
    for number, variable in enumerate(model.optimizer.variables):
        variable.assign(np.full(variable.shape, number))
    save_model(model, path, describe(RECIPE, CLASSES))
    return path


def filled(start: Start, optimizer: Any) -> Any:
    model = built(RECIPE.changed({"seed": 1}), optimizer)
    start.fill(model, model.optimizer)
    return model


# ---- what may be gone on from ---------------------------------------------------------------------------------------


def test_weights_and_optimizer_of_a_checkpoint(checkpoint: Path) -> None:
    start = find_start(checkpoint, RECIPE, CLASSES)
    model = filled(start, keras.optimizers.Adam(0.5))
    for read, written in zip(model.weights, start.model.weights, strict=True):
        np.testing.assert_array_equal(read.numpy(), written.numpy())
    state = [float(np.max(variable.numpy())) for variable in model.optimizer.variables]
    assert state == list(range(len(state)))
    assert start.normalisation.offset == [-1.0, 0.0, 1.0], "the network's own normalisation, whatever the new data's is"


def test_a_moved_and_renamed_checkpoint_is_still_ours(checkpoint: Path, tmp_path: Path) -> None:
    moved = tmp_path / f"renamed{checkpoint.suffix}"
    shutil.copy(checkpoint, moved)
    assert find_origin(moved).recipe == RECIPE
    assert find_origin(moved).class_names == CLASSES


def test_another_optimizer_starts_fresh_and_says_so(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = RECIPE.changed({"optimizer": {"name": "sgd"}})
    start = find_start(checkpoint, recipe, CLASSES)
    assert start.optimizer is None
    assert "was trained with adam, this run has sgd: the optimizer starts fresh" in caplog.text


def test_a_state_of_other_weights_starts_fresh(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As after a phase in which a part of the network rested."""
    start = find_start(checkpoint, RECIPE, CLASSES)
    assert start.optimizer is not None
    part = Start(start.file, start.model, dict(list(start.optimizer.items())[:-2]))
    model = filled(part, keras.optimizers.Adam(0.5))
    assert int(model.optimizer.iterations) == 0
    assert "is of other weights: the optimizer starts fresh" in caplog.text


def test_an_artifact_has_weights_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    artifact = keras_ancestor.write(tmp_path / "artifact", small_runs.SIZE)
    recipe = Recipe.model_validate(artifact.manifest.recipe)
    with caplog.at_level(logging.INFO, "peregrine"):
        start = find_start(artifact.path, recipe, keras_ancestor.CLASSES)
    assert start.optimizer is None
    assert "has no optimizer's state: the optimizer starts fresh" in caplog.text
    model = network.plain(recipe, 3, network.Normalisation.from_model(start.model))
    start.fill(model, None)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), np.uint8)
    logits = network.compiled(start.model, "logits")(pixels)
    np.testing.assert_allclose(model(pixels.astype(np.float32)), logits, rtol=1e-5, atol=1e-5)
    assert find_origin(artifact.path).temperature == pytest.approx(1.7)
    assert find_origin(artifact.model_path).temperature == pytest.approx(1.7), "named by its file"


def test_a_run_is_its_trained_model(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    with pytest.raises(UsageError, match="has no trained model yet"):
        find_origin(run.path)
    artifact = keras_ancestor.write(run.artifact_path("keras"), small_runs.SIZE)
    assert find_origin(run.path).file == artifact.model_path


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"load_model is a checkpoint, an artifact or a run .*; found nothing there: "):
        find_origin(tmp_path / "best_model.h5")
    with pytest.raises(UsageError, match="found a folder that is neither: "):
        find_origin(tmp_path)


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    path.write_bytes(b"weights")
    with pytest.raises(
        UsageError, match=r"load_model takes checkpoints that end in \.keras or \.h5 or \.safetensors, .*; got .*\.pt$"
    ):
        find_origin(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_foreign_model(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    save_model(built(RECIPE, keras.optimizers.Adam()), path)
    with pytest.raises(
        UsageError, match=r"was not written by Peregrine; load_model takes .* by `peregrine import`, for use, not"
    ):
        find_origin(path)


def test_an_export(tmp_path: Path) -> None:
    tiny.artifact(tmp_path / "onnx")
    with pytest.raises(
        UsageError, match=r"load_model takes trained models, artifacts of format keras or torch; .*of one to onnx"
    ):
        find_origin(tmp_path / "onnx")
    tiny.artifact(tmp_path / "keras", "keras", parent="ab" * 32, engine="pytorch")  # a port of PyTorch's network
    with pytest.raises(UsageError, match=r"is an export of one to keras, and .* trained by the engine pytorch$"):
        find_origin(tmp_path / "keras" / "model.keras")


def test_a_changed_artifact(tmp_path: Path) -> None:
    artifact = keras_ancestor.write(tmp_path / "artifact", small_runs.SIZE)
    artifact.model_path.write_bytes(artifact.model_path.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match="its manifest says"):
        find_origin(artifact.path)


@pytest.mark.parametrize(
    ("changes", "classes", "message"),
    [
        ({}, CLASSES[:3], "knows 4 classes, the data has 3; load_model needs the same ones"),
        (
            {},
            ("columns", "rows", *CLASSES[2:]),
            "knows 'rows' as class 1, in the data that is 'columns'; load_model needs the same classes in one order",
        ),
        (
            {"model.widths": [9], "model.dropout": 0.5},
            CLASSES,
            "holds a network with widths = [8], dropout = 0.2, the recipe asks for widths = [9], dropout = 0.5; leave",
        ),
        ({"input.size": 16}, CLASSES, "takes images of 12 pixels, the recipe gives 16; use --set input.size=12"),
    ],
)
def test_what_does_not_fit(checkpoint: Path, changes: dict[str, Any], classes: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_start(checkpoint, RECIPE.changed(changes), classes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_that_lies_about_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "best_model.keras"
    save_model(built(RECIPE, keras.optimizers.Adam()), path, describe(RECIPE.changed({"model.widths": [5]}), CLASSES))
    lied = RECIPE.changed({"model.widths": [5]})
    start = find_start(path, lied, CLASSES)
    model = network.plain(lied, len(CLASSES), network.Normalisation([1.0] * 3, [0.0] * 3))
    with pytest.raises(DamagedFile, match=r"best_model\.keras does not hold this model's weights"):
        start.fill(model, None)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"validation": 0.2}])
def test_another_validation_split_is_told(
    checkpoint: Path, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    find_start(checkpoint, RECIPE, CLASSES)
    assert "validation" not in caplog.text
    find_start(checkpoint, RECIPE.changed(changes), CLASSES)
    assert "was trained with seed = 0, validation = 0.1, this run has seed = " in caplog.text
    assert "some of its validation images may have been trained on" in caplog.text


# ---- real runs ------------------------------------------------------------------------------------------------------


def rows(artifact: Artifact) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(
        (artifact.path.parent.parent / "results" / "training_history.json").read_text()
    )
    return content


@pytest.mark.parametrize("format", ["keras", "h5"])
def test_a_run_goes_on_where_another_ended(tmp_path: Path, format: str) -> None:
    """Weights and Adam's moments: without either, the loss would jump up."""
    changes = {"callbacks.checkpoint_format": format, "validation": "none", "augmentation": {}, "model.dropout": 0.0}
    recipe = small_runs.recipe("tensorflow", changes)
    splits = small_runs.splits()
    first = train(splits, recipe.changed({"epochs": 3}), run=tmp_path / "first")
    checkpoint = tmp_path / "first" / "checkpoints" / f"latest_model.{format}"
    on = train(splits, recipe.changed({"epochs": 2, "load_model": str(checkpoint)}), run=tmp_path / "on")
    assert [row["epoch"] for row in rows(on)] == [1, 2]
    assert rows(on)[0]["loss"] < rows(first)[-1]["loss"]
    state = find_start(tmp_path / "on" / "checkpoints" / f"latest_model.{format}", find_origin(on.path).recipe, CLASSES)
    assert state.optimizer is not None
    steps = -(-small_runs.TRAIN // small_runs.BATCH)
    assert int(next(iter(state.optimizer.values()))) == 5 * steps
    summary = json.loads((tmp_path / "on" / "results" / "training_summary.json").read_text())
    assert summary["loaded_from"] == str(checkpoint)


def test_a_resumed_run_keeps_the_normalisation_it_began_with(tmp_path: Path) -> None:
    """That of the loaded network, which was trained on brighter images."""
    checkpoint = tmp_path / "start.keras"
    model = built(RECIPE, keras.optimizers.Adam(0.01))
    save_model(model, checkpoint, describe(RECIPE, CLASSES))
    changes = {"epochs": 1, "load_model": str(checkpoint)}
    stopped = small_runs.job("tensorflow", tmp_path / "run", changes, stop=small_runs.StopAt(2))
    with pytest.raises(Interrupted):
        TensorFlowEngine().train(stopped)
    checkpoint.unlink()
    result = TensorFlowEngine().train(small_runs.job("tensorflow", tmp_path / "run"))
    kept = network.Normalisation.from_model(load_model(result.checkpoint))
    assert kept.offset == [-1.0, 0.0, 1.0]


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    recipe = small_runs.recipe("tensorflow", {"load_model": str(tmp_path / "gone.h5")})
    with pytest.raises(UsageError, match="found nothing there"):
        train(small_runs.splits(), recipe, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
