"""Training runs of a second or two, the same for every engine: data that is easy to tell apart, and tiny networks."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peregrine import catalog
from peregrine.candidate import Candidate
from peregrine.dataset import Dataset, Splits
from peregrine.engines.base import Engine, TrainingJob
from peregrine.errors import MissingDependency, MissingDevice
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.signals import StopRequest

CLASSES = ("rows", "columns", "checks", "plain")
SIZE = 12
TRAIN, JUDGED = 90, 40  # images; the batch divides neither
BATCH = 16

# A new engine adds a line here.
RECIPES: dict[str, dict[str, Any]] = {
    "tensorflow": {
        "model": {"name": "cnn", "widths": [8], "dense": [16], "dropout": 0.2},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "augmentation": {"flip": "random", "rotation": 5.0, "width_shift": 0.05},
    },
    "pytorch": {
        "model": {"name": "sprint", "widths": [6, 12]},
        "optimizer": {"name": "muon"},
        "augmentation": {"flip": "alternating", "translate": 1},
    },
}


def need(kind: str, key: str) -> Any:
    """An entry of the catalogue, or a skip that names what is missing."""
    try:
        return catalog.load(kind, key)
    except MissingDependency as error:
        pytest.skip(str(error))


def need_device(candidate: Candidate) -> None:
    """The device that a Candidate runs on, or a skip that names what is missing."""
    try:
        candidate.open().close()
    except MissingDevice as error:
        pytest.skip(str(error))


def patterns(count: int, seed: int, grey: bool = False) -> Dataset:
    """Four patterns, each in a colour of its own unless `grey`, with noise: uint8 `(count, 12, 12, 3)`."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] // 2 % 2
    shapes = np.stack([y, x, y ^ x, np.zeros_like(y)])
    labels = np.arange(count) % len(CLASSES)
    pixels = 60 + 90 * shapes[labels][..., None].repeat(3, axis=3)
    pixels = pixels + random.integers(0, 60, (count, SIZE, SIZE, 1 if grey else 3))
    if not grey:
        pixels[labels < 3, :, :, labels[labels < 3]] += 40
    ids = np.array([f"{seed}/{index}" for index in range(count)])
    return Dataset(pixels.astype(np.uint8), labels.astype(np.int64), ids, CLASSES)


def splits(grey: bool = False) -> Splits:
    """Training, validation and test images that do not overlap."""
    return Splits(*(patterns(count, seed, grey) for seed, count in enumerate((TRAIN, JUDGED, JUDGED))))


def recipe(engine: str, changes: dict[str, Any] | None = None) -> Recipe:
    """The engine's tiny recipe with dotted keys replaced."""
    content = {"name": "tiny", "engine": engine, "epochs": 8, "batch_size": BATCH, "precision": "fp32"}
    return Recipe.model_validate({**content, **RECIPES[engine]}).changed(changes or {})


def job(
    engine: str,
    path: Path,
    changes: dict[str, Any] | None = None,
    *,
    stop: StopRequest | None = None,
    data: Splits | None = None,
) -> TrainingJob:
    """A job in a new run at `path`, resolved by the engine; a run that exists is gone on with."""
    data = data or splits()
    resume = path.exists()
    if resume:
        run = RunDirectory.open(path)
        resolved = run.recipe()
    else:
        resolved = loaded(engine).resolve(recipe(engine, {"input.size": SIZE, **(changes or {})}), data.train)
        run = RunDirectory.create(path, resolved, {"source": "memory"})
    validation = None if resolved.validation == "none" else data.validation
    return TrainingJob(resolved, data.train, validation, run, resume, stop if stop is not None else StopRequest())


def loaded(engine: str) -> Engine:
    """The engine, or a skip."""
    found: Engine = need("engine", engine)()
    return found


class StopAt(StopRequest):
    """Asks to stop when it is looked at for the n-th time, counted from 0."""

    def __init__(self, look: int) -> None:
        super().__init__()
        self._looks_left = look

    def __bool__(self) -> bool:
        self._looks_left -= 1
        if self._looks_left < 0:
            self.signum = signal.SIGTERM
        return self.signum is not None
