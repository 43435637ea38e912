"""Runs on folders of tiny photos, whose trained model is a tiny ONNX network that nobody trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnx import numpy_helper
from PIL import Image

import onnx_making
import peregrine
import tiny
from peregrine.artifact import Artifact
from peregrine.rundir import RunDirectory
from peregrine.stages.preparing import described, divided

CLASSES = tiny.CLASSES
IMAGES = 12  # of each class, in each split


def pictures(
    folder: Path, seed: int, classes: Sequence[str] = CLASSES, splits: Sequence[str] = ("train", "test")
) -> Path:
    """Write photos of each class into a folder for each split, or where there are none, into the folder itself."""
    for number, split in enumerate(splits or [""]):
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for index, pixels in enumerate(tiny.images(IMAGES, 100 * seed + 10 * number + label)):
                Image.fromarray(pixels).save(folder / split / name / f"{index:02d}.png")
    return folder


def run(path: Path, data: Path, network: int = 0, classes: Sequence[str] = CLASSES, **recipe: Any) -> RunDirectory:
    """A finished run whose trained model is the tiny network of that seed; its classes in this order."""
    resolved = tiny.recipe(**recipe)
    splits = peregrine.load_dataset(str(data), size=tiny.SIZE)
    prepared = divided(splits, tiny.SIZE, "crop", resolved.validation, resolved.seed)
    made = RunDirectory.create(path, resolved, described(prepared, tiny.SIZE, "crop"))
    write(made.artifact_path("onnx"), network, classes, recipe=resolved.to_dict())
    return made


def write(path: Path, network: int, classes: Sequence[str] = CLASSES, **changes: Any) -> Artifact:
    """An Artifact of the tiny network of that seed."""
    model = onnx_making.network(network)
    order = [CLASSES.index(name) for name in classes]
    (dense,) = [constant for constant in model.graph.initializer if constant.name == "dense"]
    dense.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(dense)[:, order], "dense"))
    return onnx_making.write(path, model, class_names=tuple(classes), **changes)


def export(made: RunDirectory, network: int, format: str = "onnx-int8") -> Artifact:
    """An export of the run's trained model that is another network, and says so nowhere."""
    ancestor = made.ancestor()
    born = {"parent": ancestor.id, "ancestor": ancestor.id, "recipe": ancestor.manifest.recipe}
    return write(made.artifact_path(format), network, format=format, **born)
