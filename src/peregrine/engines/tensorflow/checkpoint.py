"""What a training run leaves on disk: `.keras` checkpoints, and resume states of the whole position."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import files
from peregrine.engines import resume
from peregrine.engines.history import History
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.steps import Variables
from peregrine.errors import DamagedFile
from peregrine.recipe import Recipe

BEST = "best_model.keras"
LATEST = "latest_model.keras"
_VARIABLES = "variables.npz"


@dataclass
class Sums:
    """Over the steps so far of the epoch at hand."""

    loss: float = 0.0
    correct: float = 0.0
    images: int = 0
    seconds: float = 0.0


@dataclass
class Position:
    """Where a run is.

    Attributes:
        precision: of the steps, `fp32` or `bf16`, decided when the run began.
        log: name of the run's CSV file, likewise.
        step: optimiser steps done, over all epochs.
        images: training images that went through them.
        seconds: time spent so far, by name; resumed parts included.
    """

    precision: str
    log: str
    history: History
    step: int = 0
    images: int = 0
    sums: Sums = field(default_factory=Sums)
    seconds: dict[str, float] = field(default_factory=dict)


def save_model(model: Any, path: Path) -> None:
    """Write a model as `.keras`, atomically."""
    with files.writing(path) as temporary, warnings.catch_warnings():
        # Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        model.save(temporary)


def load_model(path: Path) -> Any:
    """Read a `.keras` file that `save_model` wrote; code inside it is refused.

    Raises:
        DamagedFile: it cannot be read.
    """
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DamagedFile(f"{path} is not a Keras model of ours ({first}); restore it or train again") from error


def save_state(checkpoints: Path, position: Position, variables: Variables) -> None:
    """Write a resume state, with the best checkpoint as it is now."""
    content = {"schema": 1, **asdict(position), "history": position.history.to_list()}
    with resume.saving(checkpoints / "resume", position.step, content, linked=checkpoints / BEST) as folder:
        arrays: dict[str, Any] = {f"{number:05d}": value for number, value in enumerate(variables)}
        np.savez(folder / _VARIABLES, **arrays)


@contextlib.contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Explain weights of another shape inside the block, which fills a network from `path`.

    Raises:
        DamagedFile: names the file.
    """
    try:
        yield
    except ValueError as error:
        raise DamagedFile(f"{path} does not hold this model's weights; train again, or restore its recipe") from error


def load_state(checkpoints: Path, recipe: Recipe) -> tuple[Position, Variables] | None:
    """The newest sound resume state, with the best checkpoint put back; None when there is none yet.

    Raises:
        DamagedFile: there are states, and all of them are damaged.
    """
    state = resume.newest(checkpoints / "resume")
    if state is None:
        return None
    state.restore(checkpoints / BEST)
    content = {key: value for key, value in state.content.items() if key != "schema"}
    content["history"] = History.of(recipe, content["history"])
    content["sums"] = Sums(**content["sums"])
    with np.load(state.folder / _VARIABLES, allow_pickle=False) as arrays:
        return Position(**content), [arrays[name] for name in sorted(arrays.files)]
