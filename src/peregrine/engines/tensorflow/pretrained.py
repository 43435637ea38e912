"""Weights that somebody else trained, in the layout of the files of `keras.applications`.

That is legacy Keras HDF5: the root (or its group `model_weights`, where a whole model was saved) has the attribute
`layer_names`, and each layer's group `weight_names`, in the order in which the layer has them.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pooch

from peregrine import files
from peregrine.errors import DamagedFile, MachineError, RecipeError

Weights = dict[str, list[npt.NDArray[Any]]]


@dataclass(frozen=True)
class Published:
    """A file of weights that Keras publishes.

    Attributes:
        url: where it is; the last part is its name on disk.
        md5: hex digest.
    """

    url: str
    md5: str


def fetch(published: Published) -> Path:
    """The path of a published file in Keras' own cache; downloaded when it is not there, verified in any case.

    Raises:
        MachineError: the address cannot be reached; the message says where to put the file.
        DamagedFile: the file, downloaded or found, is another one.
        OSError: the disk is full or cannot be written to.
    """
    name = published.url.rpartition("/")[2]
    path = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / name
    if not path.exists():
        with files.writing(path) as temporary:
            _download(published.url, temporary, path)
            _verify(temporary, published.md5, published.url, f"run again, or put the right file at {path} by hand")
    else:
        _verify(path, published.md5, f"{path}", f"delete it or put {published.url} in its place")
    return path


def read(path: Path) -> Weights:
    """The weights of each layer that has some, in the file's order.

    Raises:
        RecipeError: there is no such file, or it has another layout.
        DamagedFile: it is no HDF5 file, or a broken one.
    """
    if not path.is_file():
        raise RecipeError(f"model.weights is imagenet, none or the path of an .h5 file; got {path}, which is no file")
    try:
        with h5py.File(path) as file:
            root = file if "layer_names" in file.attrs else file.get("model_weights")
            if root is None or "layer_names" not in root.attrs:
                raise RecipeError(
                    f"model.weights takes the layout of keras.applications, whose root has layer_names; got {path} "
                    "without them; load it into the model that it came from and save that as .h5"
                )
            layers = {name: root[name] for name in _names(root, "layer_names")}
            found = {name: [group[key][()] for key in _names(group, "weight_names")] for name, group in layers.items()}
    except (OSError, KeyError) as error:
        raise DamagedFile(f"{path} is not a whole HDF5 file of weights ({error}); fetch or save it again") from error
    return {name: [np.asarray(value) for value in values] for name, values in found.items() if values}


def check(model: Any, weights: Weights, path: Path) -> None:
    """See that every layer of `model` finds its weights, by name and shape; the file may hold more.

    Raises:
        RecipeError: names the first layer that does not, what it needs, and what the file has.
    """
    for layer in model.layers:
        needed = [tuple(weight.shape) for weight in layer.weights]
        got = [value.shape for value in weights.get(layer.name, [])]
        if needed != got:
            found = f"got {_shapes(got)}" if got else "it is not there"
            raise RecipeError(
                f"{path} does not fit the model: its layer {layer.name} needs weights {_shapes(needed)}; {found}; "
                "give model.weights another file"
            )


def fill(model: Any, weights: Weights) -> None:
    """Give every layer of `model` its weights, which `check` has seen."""
    for layer in model.layers:
        for weight, value in zip(layer.weights, weights.get(layer.name, []), strict=True):
            weight.assign(value)


def _names(group: Any, attribute: str) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]]


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return " + ".join("×".join(map(str, shape)) or "1" for shape in shapes) or "none"


def _download(url: str, destination: Path, path: Path) -> None:
    try:
        pooch.HTTPDownloader()(url, str(destination), None)
    except OSError as error:  # the errors of `requests`, which pooch lets through, are OSErrors without a number
        if error.errno is not None:
            raise
        reason: BaseException = error
        while reason.__context__:
            reason = reason.__context__
        words = " ".join((getattr(reason, "strerror", None) or str(reason)).split())
        raise MachineError(
            f"cannot download {url}: {words}; check the network and run again, put the file at {path} by hand, "
            "or train without it: --set model.weights=none"
        ) from error


def _verify(path: Path, md5: str, name: str, fix: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise DamagedFile(f"{name} is not the published file: expected md5 {md5}, got {found}; {fix}")
