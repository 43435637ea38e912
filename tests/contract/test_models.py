"""What every network promises; a new one adds a line here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_runs
from peregrine import catalog
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.engines.origin import find_origin
from peregrine.errors import Interrupted
from peregrine.export.base import convert_task
from peregrine.stages.training import train
from workshop import engine_marks

# The catalogue's key, and the network's options where its own are too large for a test.
MODELS: dict[str, dict[str, Any]] = {
    "tensorflow/cnn": {"widths": [8], "dense": [16]},
    "tensorflow/resnet": {"depth": 8, "width": 4},
    "tensorflow/sprint": {"widths": [6, 12], "depth": 3, "activation": "hard-swish"},
    "pytorch/sprint": {"widths": [6, 12], "depth": 3, "activation": "hard-swish"},
    "pytorch/resnet18": {"stem": "cifar"},
}
LARGE = {"tensorflow/efficientnet"}  # a minute of compiling; it has tests of its own
EDGES = {"tensorflow": "keras_to_onnx", "pytorch": "torch_to_onnx"}


def test_every_network_is_here() -> None:
    assert MODELS.keys() | LARGE == catalog.CATALOG["model"].keys()


@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=engine_marks(key.partition("/")[0]), id=key) for key in MODELS]
)
def test_a_network_trains_resumes_and_exports(key: str, tmp_path: Path) -> None:
    """Grey images, an odd batch, stopped and gone on with; its checkpoint and its export answer as the model does."""
    engine, _, name = key.partition("/")
    grey = small_runs.splits(grey=True)
    data = replace(grey, train=grey.train.subset(np.arange(31)))
    changes = {"model": {"name": name, **MODELS[key]}, "epochs": 2, "batch_size": 15, "validation": "none"}
    adam = {"optimizer": {"name": "adam", "learning_rate": 1e-3}, "augmentation": {"flip": "random"}}
    recipe = small_runs.recipe(engine, {**changes, **adam})
    small_runs.need("edge", EDGES[engine])
    artifact = train(data, recipe, run=tmp_path / "run")
    stopped = small_runs.job(engine, tmp_path / "again", {**changes, **adam}, stop=small_runs.StopAt(3), data=data)
    with pytest.raises(Interrupted):
        small_runs.loaded(engine).train(stopped)
    resumed = small_runs.loaded(engine).train(small_runs.job(engine, tmp_path / "again", data=data))
    origin = find_origin(resumed.checkpoint)
    origin.check(artifact_recipe := find_origin(artifact.path).recipe, data.class_names)
    logits = small_runs.loaded(engine).restore(artifact_recipe, origin.file, 4).logits(data.test.images)
    convert_task(EDGES[engine], str(artifact.path), str(tmp_path / "onnx"), "onnx")
    with default_candidate(artifact).open() as one, default_candidate(Artifact.open(tmp_path / "onnx")).open() as other:
        expected, exported = one.predict(data.test.images), other.predict(data.test.images)
    np.testing.assert_allclose(exported, expected, atol=1e-5)
    answers = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(answers / answers.sum(1, keepdims=True), expected, atol=1e-4)
