"""Keras' older file format, HDF5, for programs that read `.h5`."""

from pathlib import Path
from typing import Any

from peregrine.artifact import Artifact
from peregrine.engines.tensorflow.checkpoint import load_model, save_model
from peregrine.engines.tensorflow.library import keras
from peregrine.formats import FORMATS


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `model.h5` into `folder`: built-in layers alone, without the optimiser.

    Returns:
        Notes for the manifest: what produced the file.
    """
    save_model(load_model(source.model_path), folder / FORMATS["h5"].file)
    return {"producer": f"keras {keras.__version__}"}
