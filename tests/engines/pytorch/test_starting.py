"""`load_model`: what may be gone on from, what is refused and in which words, and what comes of it."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

import small_runs
from peregrine.artifact import Artifact
from peregrine.engines.origin import find_origin
from peregrine.engines.pytorch.engine import PyTorchEngine
from peregrine.engines.pytorch.graph import Classifier, Normalise, build_classifier, load_weights, save_weights
from peregrine.engines.pytorch.models.base import IMAGENET
from peregrine.engines.pytorch.pipeline import Resident
from peregrine.engines.pytorch.starting import start
from peregrine.engines.record import describe
from peregrine.errors import DamagedFile, Interrupted, UsageError
from peregrine.recipe import Recipe
from peregrine.stages.training import ancestor_of_run, train

pytestmark = pytest.mark.torch
RECIPE = PyTorchEngine().resolve(
    small_runs.recipe("pytorch", {"input.size": small_runs.SIZE}), small_runs.splits().train
)
CLASSES = small_runs.CLASSES


def built(recipe: Recipe = RECIPE, seed: int = 5) -> Classifier:
    """Random weights, a normalisation of its own and a temperature."""
    classifier = build_classifier(recipe.model, small_runs.SIZE, len(CLASSES), seed)
    classifier.normalise = Normalise(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0]))
    classifier.temperature.fill_(2)
    return classifier


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("start") / "best_model.safetensors"
    save_weights(built(), path, describe(RECIPE, CLASSES))
    return path


def started(path: Path, folder: Path, **changes: Any) -> Classifier:
    """What a run begins with that goes on from `path`."""
    job = small_runs.job("pytorch", folder, {"load_model": str(path), **changes})
    classifier = build_classifier(job.recipe.model, small_runs.SIZE, len(CLASSES), job.recipe.seed)
    start(classifier, job.recipe, job.train, Resident.of(job.train, torch.device("cpu")))
    return classifier


# ---- what may be gone on from ---------------------------------------------------------------------------------------


def test_weights_and_normalisation_of_a_checkpoint(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "peregrine"):
        classifier = started(checkpoint, tmp_path / "run")
    assert f"{checkpoint} has no optimizer's state: the optimizer starts fresh" in caplog.text
    expected = built().state_dict()
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, torch.ones(()) if name == "temperature" else expected[name]), name


def test_a_moved_and_renamed_checkpoint_is_still_ours(checkpoint: Path, tmp_path: Path) -> None:
    moved = tmp_path / "renamed.safetensors"
    shutil.copy(checkpoint, moved)
    assert find_origin(moved).recipe == RECIPE
    assert find_origin(moved).class_names == CLASSES


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_a_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(built(), path)
    with pytest.raises(
        UsageError, match=r"was not written by Peregrine; load_model takes .* by `peregrine import`, for use"
    ):
        find_origin(path)


def test_a_torn_file(checkpoint: Path, tmp_path: Path) -> None:
    torn = tmp_path / "best_model.safetensors"
    torn.write_bytes(checkpoint.read_bytes()[:-10])
    with pytest.raises(DamagedFile, match=r"best_model\.safetensors is not a whole \.safetensors file .*; restore it"):
        find_origin(torn)


def test_a_record_of_another_version(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "best_model.safetensors"
    save_weights(built(), path, {**describe(RECIPE, CLASSES), "schema": 2})
    with pytest.raises(
        DamagedFile, match=r"the record in .* is not of schema 1; open it with the version that wrote it"
    ):
        find_origin(path)


def test_a_record_that_lies_about_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "best_model.safetensors"
    save_weights(built(), path, describe(RECIPE.changed({"model.widths": [5, 12]}), CLASSES))
    with pytest.raises(DamagedFile, match=r"best_model\.safetensors does not hold this model's weights"):
        started(path, tmp_path / "run", **{"model.widths": [5, 12]})


@pytest.mark.parametrize(
    ("changes", "classes", "message"),
    [
        ({}, CLASSES[:3], "knows 4 classes, the data has 3; load_model needs the same ones"),
        ({"model.widths": [9]}, CLASSES, "widths = [6, 12], the recipe asks for widths = [9]; leave out --recipe"),
        ({"model.depth": 3}, CLASSES, "holds a network with depth = 2, the recipe asks for depth = 3; leave out"),
        ({"input.size": 16}, CLASSES, "takes images of 12 pixels, the recipe gives 16; use --set input.size=12"),
        (
            {"engine": "tensorflow"},
            CLASSES,
            "was trained by the engine pytorch, the recipe asks for tensorflow; leave out --recipe and --model-type",
        ),
    ],
)
def test_what_does_not_fit(checkpoint: Path, changes: dict[str, Any], classes: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_origin(checkpoint).check(RECIPE.changed(changes), classes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_the_first_weights_came_from_does_not_matter(tmp_path: Path) -> None:
    """The file may be gone by now."""
    model = {"name": "resnet18", "weights": "gone.pth", "pixels": "imagenet", "stem": "cifar"}
    recipe = RECIPE.changed({"model": model})
    path = tmp_path / "best_model.safetensors"
    save_weights(built(recipe), path, describe(recipe, CLASSES))
    find_origin(path).check(recipe.changed({"model.weights": "none"}), CLASSES)
    with pytest.raises(UsageError, match="pixels = 'imagenet', the recipe asks for pixels = 'data'"):
        find_origin(path).check(recipe.changed({"model.weights": "none", "model.pixels": "data"}), CLASSES)


# ---- real runs ------------------------------------------------------------------------------------------------------


def rows(artifact: Artifact) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(
        (artifact.path.parent.parent / "results" / "training_history.json").read_text()
    )
    return content


@pytest.mark.parametrize("what", ["checkpoint", "run"])
def test_a_run_goes_on_where_another_ended(tmp_path: Path, what: str) -> None:
    changes = {"validation": "none", "augmentation": {}, "optimizer": {"name": "adam", "learning_rate": 0.003}}
    recipe = small_runs.recipe("pytorch", changes)
    splits = small_runs.splits()
    first = train(splits, recipe.changed({"epochs": 3}), run=tmp_path / "first")
    source = tmp_path / "first" / ("checkpoints/latest_model.safetensors" if what == "checkpoint" else "")
    on = train(splits, recipe.changed({"epochs": 2, "load_model": str(source)}), run=tmp_path / "on")
    assert [row["epoch"] for row in rows(on)] == [1, 2]
    assert rows(on)[0]["loss"] < rows(first)[-1]["loss"]
    assert find_origin(tmp_path / "on" / "checkpoints" / "best_model.safetensors").recipe.precision == "fp32"


def test_a_model_is_taken_as_it_is(tmp_path: Path) -> None:
    splits = small_runs.splits()
    first = train(splits, small_runs.recipe("pytorch", {"epochs": 2}), run=tmp_path / "first")
    recipe = find_origin(first.path).recipe.changed({"load_model": str(first.path)})
    for path in (first.path, first.model_path):
        origin = find_origin(path)
        assert (origin.file, origin.temperature) == (first.model_path, first.manifest.temperature)
    taken = ancestor_of_run(splits, recipe, run=tmp_path / "taken", skip_training=True)
    np.testing.assert_array_equal(taken.golden().answers["ancestor"], first.golden().answers["ancestor"])


def test_a_resumed_run_never_looks_back(checkpoint: Path, tmp_path: Path) -> None:
    """Weights, and the normalisation of the loaded network, come from the resume state."""
    source = tmp_path / "start.safetensors"
    shutil.copy(checkpoint, source)
    changes = {"epochs": 1, "load_model": str(source)}
    straight = PyTorchEngine().train(small_runs.job("pytorch", tmp_path / "straight", changes))
    stopped = small_runs.job("pytorch", tmp_path / "run", changes, stop=small_runs.StopAt(2))
    with pytest.raises(Interrupted):
        PyTorchEngine().train(stopped)
    source.unlink()
    resumed = PyTorchEngine().train(small_runs.job("pytorch", tmp_path / "run"))
    one, other = built(), built()
    load_weights(one, straight.checkpoint)
    load_weights(other, resumed.checkpoint)
    assert one.normalise.mean.tolist() == [1, 2, 3]
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_pretrained_weights_are_read_once_and_bring_imagenets_pixels(tmp_path: Path) -> None:
    """A resumed run and a restored model need the file no more."""
    weights = tmp_path / "resnet18.pth"
    model = {"name": "resnet18", "weights": str(weights)}
    torch.save(
        build_classifier(RECIPE.changed({"model": {"name": "resnet18"}}).model, 8, 1000).network.state_dict(), weights
    )
    changes = {"epochs": 1, "model": model, "optimizer": {"name": "adam"}}
    stopped = small_runs.job("pytorch", tmp_path / "run", changes, stop=small_runs.StopAt(2))
    assert stopped.recipe.model.options == {"stem": "imagenet", "weights": str(weights), "pixels": "imagenet"}
    with pytest.raises(Interrupted):
        PyTorchEngine().train(stopped)
    weights.unlink()
    resumed = PyTorchEngine().train(small_runs.job("pytorch", tmp_path / "run"))
    restored = PyTorchEngine().restore(resumed.recipe, resumed.checkpoint, len(CLASSES))
    assert restored.logits(small_runs.splits().train.images[:3]).shape == (3, 4)
    kept = build_classifier(resumed.recipe.model, small_runs.SIZE, len(CLASSES))
    load_weights(kept, resumed.checkpoint)
    torch.testing.assert_close(kept.normalise.mean, torch.tensor(IMAGENET.mean))
    torch.testing.assert_close(kept.normalise.std, torch.tensor(IMAGENET.std))
