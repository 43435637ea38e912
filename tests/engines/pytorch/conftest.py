"""Tiny training runs: three classes told apart by their colour or shade, one thread, a fraction of a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peregrine import host
from peregrine.dataset import Dataset
from peregrine.engines.base import TrainingJob
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.signals import StopRequest

TINY: dict[str, Any] = {
    "schema": 1,
    "name": "tiny",
    "engine": "pytorch",
    "model": {"name": "sprint", "widths": [6, 12], "whitening_bias": 0.5},
    "input": {"growth": [[0.5, 10]]},
    "augmentation": {"flip": "alternating", "translate": 1},
    "optimizer": {"name": "muon"},
    "schedule": {"name": "linear"},
    "label_smoothing": 0.1,
    "precision": "fp32",
    "epochs": 3,
    "batch_size": 16,
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP's threads wait for each other by spinning, which tests that run side by side pay for dearly."""
    monkeypatch.setattr(host, "threads", lambda: 1)


@pytest.fixture
def shades() -> Callable[..., Dataset]:
    """Make images whose class shows in the colour, or with `grey` in the brightness."""

    def make(count: int = 70, size: int = 12, seed: int = 0, grey: bool = False) -> Dataset:
        random = np.random.default_rng(seed)
        labels = np.arange(count) % 3
        pixels = random.integers(0, 100, (count, size, size, 3))
        if grey:
            pixels = pixels[..., :1].repeat(3, 3) + 50 * labels[:, None, None, None]
        else:
            pixels[np.arange(count), :, :, labels] += 50
        ids = np.array([f"image/{index}" for index in range(count)])
        return Dataset(pixels.astype(np.uint8), labels.astype(np.int64), ids, ("first", "second", "third"))

    return make


@pytest.fixture
def tiny() -> Callable[..., Recipe]:
    """The tiny recipe, with dotted keys replaced."""

    def make(changes: dict[str, Any] | None = None) -> Recipe:
        return Recipe.model_validate(TINY).changed(changes or {})

    return make


@pytest.fixture
def job(tmp_path: Path, shades: Callable[..., Dataset], tiny: Callable[..., Recipe]) -> Callable[..., TrainingJob]:
    """Make a job in a new run, resolved by the engine, or go on with an old one: `job("name", {...}, resume=True)`."""

    def make(
        name: str = "run",
        changes: dict[str, Any] | None = None,
        resume: bool = False,
        stop: StopRequest | None = None,
        train: Dataset | None = None,
    ) -> TrainingJob:
        from peregrine.engines.pytorch.engine import PyTorchEngine

        data = train if train is not None else shades()
        asked = stop if stop is not None else StopRequest()  # what stands for False may be asked for its turn
        validation = None if (changes or {}).get("validation") == "none" else shades(30, seed=1)
        if resume:
            run = RunDirectory.open(tmp_path / name)
            return TrainingJob(run.recipe(), data, validation, run, True, asked)
        recipe = PyTorchEngine().resolve(tiny({"input.size": data.image_size[0], **(changes or {})}), data)
        run = RunDirectory.create(tmp_path / name, recipe, {"source": "memory"})
        return TrainingJob(recipe, data, validation, run, False, asked)

    return make
