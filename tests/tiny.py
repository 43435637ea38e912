"""A recipe, a run and Artifacts small enough to make in every test."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from peregrine.artifact import ANCESTOR, Artifact, Golden
from peregrine.candidate import Candidate, default_candidate
from peregrine.dataset import Images
from peregrine.formats import FORMATS
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.runtimes.fake import FakeRuntime
from peregrine.validation import validate

CLASSES = ("ant", "bee", "cow")
SIZE = 8
DATA = {"source": "digits"}


def recipe(**changes: Any) -> Recipe:
    """One epoch of the classic network."""
    content = {"name": "tiny", "engine": "tensorflow", "model": {"name": "cnn"}, "epochs": 1, "batch_size": 8}
    return validate(Recipe, {**content, **changes}, "recipe tiny")


def images(count: int, seed: int = 0) -> Images:
    """Plain colours with noise, uint8 `(count, 8, 8, 3)`, that even a mean tells apart."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 224, (count, 1, 1, 3))
    return (colours + random.integers(0, 32, (count, SIZE, SIZE, 3))).astype(np.uint8)


def answers(count: int, seed: int = 0) -> Any:
    """Probabilities, float32 `(count, 3)`."""
    return np.random.default_rng(seed).dirichlet(np.ones(len(CLASSES)), count).astype(np.float32)


def like(**changes: Any) -> dict[str, Any]:
    """What a manifest says beside the files."""
    return {
        "class_names": CLASSES,
        "preprocess": {"size": SIZE},
        "model": {"name": "cnn"},
        "engine": "tensorflow",
        "recipe": recipe().to_dict(),
        "temperature": 1.0,
        **changes,
    }


def artifact(
    path: Path,
    format: str = "onnx",
    content: bytes = b"the bytes of a model",
    golden: Golden | None = None,
    **changes: Any,
) -> Artifact:
    """An Artifact whose model is `content`, which no library has to like."""
    golden = golden or Golden(images(2), {ANCESTOR: answers(2)})
    with Artifact.write(path, format=format, like=like(**changes), golden=golden, notes={"opset": 20}) as folder:
        (folder / FORMATS[format].file).write_bytes(content)
    return Artifact.open(path)


def run(path: Path, **changes: Any) -> RunDirectory:
    """A run that has just been created."""
    return RunDirectory.create(path, recipe(**changes), dict(DATA))


def fake_artifact(
    path: Path,
    count: int = 4,
    format: str = "onnx",
    asked: dict[str, Any] | None = None,
    pixels: Images | None = None,
    **changes: Any,
) -> Artifact:
    """An Artifact whose golden answers are those of the test double `fake`, whatever its model.

    Args:
        asked: of the test double, in the model's file.
        pixels: the golden images, instead of `count` others.
    """
    pixels = images(count) if pixels is None else pixels
    unproved = artifact(path, format, **changes)
    with FakeRuntime(fake_candidate(unproved), unproved) as runtime:
        given = runtime.predict(pixels)
    content = json.dumps(asked).encode() if asked else b"the bytes of a model"
    return artifact(path, format, content, Golden(pixels, {ANCESTOR: given}), **changes)


def fake_candidate(made: Artifact, **changes: Any) -> Candidate:
    """The Candidate that runs an Artifact by the test double."""
    return replace(default_candidate(made), runtime="fake", **changes)
