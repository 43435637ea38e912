"""What a `.keras` or `.h5` checkpoint tells about itself: the record of `engines/record.py` as JSON inside the file.

A `.keras` file is a zip; the record is its member `peregrine.json`. In an `.h5` file it is the attribute `peregrine`.
It has one key more:
    optimizer               names of the optimiser's variables, in order; empty where none were saved

Nothing here needs TensorFlow.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from peregrine.engines.record import Record, parse
from peregrine.engines.record import describe as describe
from peregrine.errors import DamagedFile

SUFFIXES = (".keras", ".h5")
_MEMBER = "peregrine.json"
_ATTRIBUTE = "peregrine"
_KERAS_GROUP = "optimizer_weights"  # where Keras puts the optimiser's state in an `.h5`
_OUR_GROUP = "optimizer_state"

OptimizerState = dict[str, npt.NDArray[Any]]


def add_record(path: Path, record: Record, optimizer: Sequence[str]) -> None:
    """Put a record into a file that Keras has just written.

    In an `.h5`, the optimiser's state moves from Keras' group `optimizer_weights` to `optimizer_state`. Where Keras
    3.15 finds its own group, it builds the optimiser for `model._trainable_variables`, which is empty in a functional
    model, and `fit` fails with "Unknown variable". Without the group, `fit` goes on with fresh moments. To be removed
    when `load_model_from_hdf5` builds it for `model.trainable_variables`.

    Args:
        optimizer: names of the optimiser's variables in order, or nothing where it was not saved.
    """
    text = json.dumps({**record, "optimizer": list(optimizer)}, ensure_ascii=False)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs[_ATTRIBUTE] = text
            if _KERAS_GROUP in file:
                file.move(_KERAS_GROUP, _OUR_GROUP)
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(_MEMBER, text)


def read_record(path: Path) -> Record | None:
    """The record of a `.keras` or `.h5` file; None where it has none, because somebody else wrote it.

    Raises:
        DamagedFile: the file is not a whole one of its kind, or its record is not of schema 1.
    """
    try:
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                text = file.attrs.get(_ATTRIBUTE)
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(_MEMBER) if _MEMBER in archive.namelist() else None
    except (OSError, zipfile.BadZipFile) as error:
        raise DamagedFile(f"{path} is not a whole {path.suffix} file ({error}); restore it") from None
    return None if text is None else parse(text, path)


def read_optimizer(path: Path) -> OptimizerState | None:
    """The optimiser's state as it was saved, by the names of its variables and in their order; None without one.

    Raises:
        DamagedFile: the record names what the file does not hold.
    """
    record = read_record(path)
    if record is None or not record.get("optimizer"):
        return None
    names: list[str] = record["optimizer"]
    try:
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                return {name: np.asarray(file[_OUR_GROUP][name]) for name in names}
        with zipfile.ZipFile(path) as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights) as file:  # Keras numbers them
            return {name: np.asarray(file["optimizer/vars"][str(number)]) for number, name in enumerate(names)}
    except (KeyError, OSError) as error:
        raise DamagedFile(f"{path} lacks the optimizer's state that its record names ({error}); restore it") from None
