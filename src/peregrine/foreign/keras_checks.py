"""What is looked at in somebody's Keras file before Keras sees it: no code, no other files, no bombs.

Keras' safe mode refuses lambdas. It has let other things through in its time: modules that are imported by name, files
that a layer reads, weights that lie in another HDF5 file.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from peregrine.errors import DamagedFile, UsageError
from peregrine.foreign.base import check_file, check_size, first_line

_WEIGHTS = "model.weights.h5"
_MEMBERS = {"metadata.json", "config.json", _WEIGHTS, "peregrine.json"}
_MAX_CONFIG_BYTES = 64 * 2**20
# Code, or what reads a file that the configuration names.
_PROGRAMS = {
    "Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFOpLambda", "SlicingOpLambda",
    "StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization",
}  # fmt: skip
# Parts of Keras that models are not made of: some of them download, read or write.
_NO_MODELS = {"utils", "saving", "config", "datasets", "callbacks", "preprocessing", "export", "tree", "distribution"}


def check(path: Path) -> None:
    """Refuse a `.keras` or `.h5` file that is more than layers of Keras and their weights.

    Raises:
        DamagedFile: it is not a whole file of its kind.
        UsageError: it holds code or classes of somebody's own, or takes something from another file.
    """
    check_file(path)
    try:
        config = _of_archive(path) if zipfile.is_zipfile(path) else _of_hdf5(path)
        for part in _parts(json.loads(config)):
            _refuse_foreign(part, path)
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, RecursionError) as error:
        raise DamagedFile(f"{path} is no whole Keras file ({first_line(error)}); save the model again") from None


def _of_archive(path: Path) -> bytes:
    """The configuration of a `.keras` file, a zip, after a look at all that is in it."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename not in _MEMBERS:
                raise UsageError(
                    f"a .keras file holds a configuration and weights; {path} also has {member.filename!r}; "
                    "save the model without what needs it"
                )
        check_size(path, sum(member.file_size for member in archive.infolist()))
        if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
            raise ValueError("its configuration is too large")
        with h5py.File(io.BytesIO(archive.read(_WEIGHTS))) as weights:
            _check_hdf5(weights, path)
        return archive.read("config.json")


def _of_hdf5(path: Path) -> bytes | str:
    """The configuration in an `.h5` file."""
    if not h5py.is_hdf5(path):
        raise ValueError("neither a zip nor HDF5")
    with h5py.File(path) as file:
        _check_hdf5(file, path)
        config: bytes | str | None = file.attrs.get("model_config")
        if config is None:
            raise UsageError(
                f"a Keras model is its network and its weights; {path} has no network; save it with model.save"
            )
        return config


def _check_hdf5(file: Any, path: Path) -> None:
    """No links to other files, no data in other files, no data that grows beyond what a model has."""
    size = 0
    for link, found in _entries(file):
        if isinstance(link, h5py.ExternalLink) or (
            isinstance(found, h5py.Dataset) and (found.external or found.is_virtual)
        ):
            raise UsageError(f"a Keras file holds its weights itself; {path} takes some from another file")
        if isinstance(found, h5py.Dataset):
            size += found.nbytes
    check_size(path, size)


def _entries(group: Any) -> Iterator[tuple[Any, Any]]:
    """Every link in a file with what it leads to, None where that is not in the same place: it is not followed."""
    for name in group:
        link = group.get(name, getlink=True)
        found = group[name] if isinstance(link, h5py.HardLink) else None
        yield link, found
        if isinstance(found, h5py.Group):
            yield from _entries(found)


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """Every object of a configuration, but those of training, which are never made."""
    if isinstance(config, dict):
        yield config
        for key, value in config.items():
            if key not in ("compile_config", "training_config"):
                yield from _parts(value)
    elif isinstance(config, list):
        for value in config:
            yield from _parts(value)


def _refuse_foreign(part: dict[str, Any], path: Path) -> None:
    name = part.get("class_name")
    if name is None:
        return
    # Keras writes no module for tensors and slices, whose names begin so, and nothing there for a notebook's class.
    told = "module" in part and not (part["module"] is None and str(name).startswith("__"))
    package = str(part.get("registered_name") or "") + str(name)
    if name in _PROGRAMS or (told and not _is_of_keras(str(part["module"]), name)) or ">" in package:
        inner = part.get("config")
        what = inner if name == "function" and isinstance(inner, str) else name
        label = inner.get("name") if isinstance(inner, dict) else None
        raise UsageError(
            f"a Keras file is imported without code: {path} has {what}{f' ({label!r})' if label else ''}, which is a "
            "program of its own; build the model from Keras' own layers, or export it to ONNX where it was trained"
        )


def _is_of_keras(module: str, name: str) -> bool:
    """Whether Keras has such a thing among what models are made of."""
    parts = module.removeprefix("keras.src").removeprefix("keras").strip(".").split(".")
    if module == "builtins":
        return name == "function"  # an activation by its name
    return module.split(".")[0] == "keras" and parts[0] not in _NO_MODELS
