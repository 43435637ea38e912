"""A run whose Artifacts are all answered by the test double `fake`, each as its file asks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from peregrine.artifact import Artifact
from peregrine.candidate import Candidate
from peregrine.dataset import Dataset, Splits
from peregrine.rundir import RunDirectory
from peregrine.runtimes.fake import FakeRuntime
from peregrine.stages import benchmarking
from peregrine.stages.evaluating import save_answers

IMAGES = 300


def splits(count: int = IMAGES, seed: int = 5) -> Splits:
    """Test images, with labels that have nothing to do with them."""
    pixels = tiny.images(count, seed)
    labels = (np.arange(count) % 3).astype(np.int64)
    ids = np.array([f"test/{index}" for index in range(count)])
    test = Dataset(pixels, labels, ids, tiny.CLASSES)
    return Splits(test.subset(slice(0, 30)), None, test)


def run(path: Path, asked: Mapping[str, dict[str, Any]], data: Splits) -> RunDirectory:
    """A run with an `onnx` ancestor and one Artifact more for each format in `asked`, proved by nobody."""
    made = tiny.run(path)
    ancestor = tiny.fake_artifact(made.artifact_path("onnx"))
    for format, wanted in asked.items():
        tiny.fake_artifact(
            made.artifact_path(format), format=format, asked=wanted, parent=ancestor.id, ancestor=ancestor.id
        )
    remember(made, data)
    return made


def remember(made: RunDirectory, data: Splits) -> None:
    """Keep the trained model's answers, for which nothing else than the test double can be asked."""
    ancestor = made.ancestor()
    with FakeRuntime(tiny.fake_candidate(ancestor), ancestor) as runtime:
        save_answers(made, ancestor, data.test, runtime.predict(data.test.images))


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every Artifact be run by the test double: here, as workers are told."""

    def candidates(artifact: Artifact) -> Iterator[Candidate]:
        cuda = b"falls_back" in artifact.model_path.read_bytes()
        yield tiny.fake_candidate(artifact, provider="cuda" if cuda else "cpu")

    monkeypatch.setattr(benchmarking, "candidates", candidates)
