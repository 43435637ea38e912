"""What a training run leaves on disk: checkpoints that Keras opens, and resume states of the whole position."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peregrine import files
from peregrine.engines import resume
from peregrine.engines.history import History
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.network import Normalisation
from peregrine.engines.tensorflow.record import OptimizerState, add_record, read_optimizer
from peregrine.errors import DamagedFile
from peregrine.recipe import Recipe

_VARIABLES = "variables.npz"

Variables = list[npt.NDArray[Any]]  # the whole state of the steps, in a fixed order


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
        compiled: whether XLA compiles whole steps, likewise.
        step: optimiser steps done, over all epochs.
        images: training images that went through them.
        seconds: time spent so far, by name; resumed parts included.
        normalisation: of the model that the run began with, which may have been made for other data; None where the
            training images decide.
    """

    precision: str
    log: str
    history: History
    compiled: bool = False
    step: int = 0
    images: int = 0
    sums: Sums = field(default_factory=Sums)
    seconds: dict[str, float] = field(default_factory=dict)
    normalisation: Normalisation | None = None


def checkpoint_names(recipe: Recipe) -> tuple[str, str]:
    """File names of the best and of the latest checkpoint; Keras knows their format by the suffix."""
    suffix = "h5" if recipe.callbacks.checkpoint_format == "h5" else "keras"
    return f"best_model.{suffix}", f"latest_model.{suffix}"


def save_model(model: Any, path: Path, record: dict[str, Any] | None = None) -> None:
    """Write a model as `.keras` or `.h5`, atomically; a compiled one with its optimiser's state.

    Args:
        record: what the file tells about itself, see `record.describe`.
    """
    with files.writing(path) as temporary:
        with _quietly():
            model.save(temporary)
        if record is not None:
            optimizer = getattr(model, "optimizer", None)
            add_record(temporary, record, [variable.path for variable in optimizer.variables] if optimizer else [])


def load_model(path: Path) -> Any:
    """Read a file that `save_model` wrote, without its optimiser; code inside it is refused.

    Raises:
        DamagedFile: it cannot be read.
    """
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DamagedFile(f"{path} is not a Keras model of ours ({first}); restore it or train again") from error


def load_for_training(path: Path) -> tuple[Any, OptimizerState | None]:
    """A model, and the state of the optimiser that was saved with it; None where there was none.

    The state is read past Keras, which for an `.h5` loses it and for a `.keras` would build whatever optimiser the file
    names.

    Raises:
        DamagedFile: the file cannot be read.
    """
    return load_model(path), read_optimizer(path)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Save without two remarks that tell a user nothing."""

    def is_news(entry: logging.LogRecord) -> bool:
        return "saving your model as an HDF5 file" not in entry.getMessage()  # asked for by checkpoint_format = "h5"

    logger = logging.getLogger("absl")
    logger.addFilter(is_news)
    try:
        with warnings.catch_warnings():
            # Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            yield
    finally:
        logger.removeFilter(is_news)


def save_state(checkpoints: Path, position: Position, variables: Variables, best: str) -> None:
    """Write a resume state, with the checkpoint of the name `best` as it is now."""
    content = {"schema": 1, **asdict(position), "history": position.history.to_list()}
    with resume.saving(checkpoints / "resume", position.step, content, linked=checkpoints / best) as folder:
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
    state.restore(checkpoints / checkpoint_names(recipe)[0])
    content = {key: value for key, value in state.content.items() if key != "schema"}
    content["history"] = History.of(recipe, content["history"])
    content["sums"] = Sums(**content["sums"])
    if constants := content.get("normalisation"):
        content["normalisation"] = Normalisation(**constants)
    with np.load(state.folder / _VARIABLES, allow_pickle=False) as arrays:
        return Position(**content), [arrays[name] for name in sorted(arrays.files)]
