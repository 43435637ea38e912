"""Where first weights come from: what `load_model` of a recipe names, found and checked without opening the network.

Nothing here needs TensorFlow or PyTorch.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peregrine import catalog
from peregrine.artifact import Artifact
from peregrine.errors import UsageError
from peregrine.formats import FORMATS
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.validation import validate

TRAINED = ("keras", "torch")  # formats of Artifacts whose network can be trained on
WRITERS = {".keras": "tensorflow", ".h5": "tensorflow", ".safetensors": "pytorch"}  # engines, by checkpoints' suffixes
PROVENANCE = {"weights"}  # options that say where weights once came from, and nothing of the network

logger = logging.getLogger("peregrine")


@dataclass(frozen=True)
class Origin:
    """A trained network on disk, and what is known of it.

    Attributes:
        file: the network, `.keras`, `.h5` or `.safetensors`.
        recipe: what it was trained by, resolved.
        temperature: fitted to it and part of it; None for a checkpoint, which has none.
    """

    file: Path
    recipe: Recipe
    class_names: tuple[str, ...]
    temperature: float | None = None

    def check(self, recipe: Recipe, class_names: Sequence[str]) -> None:
        """Make sure that these weights fit a resolved recipe and its data.

        Raises:
            UsageError: another engine, other classes, another network or another input size; the message has both
                sides.
        """
        if self.recipe.engine != recipe.engine:
            raise UsageError(
                f"{self.file} was trained by the engine {self.recipe.engine}, the recipe asks for {recipe.engine}; "
                "leave out --recipe and --model-type to go on with the file's own recipe"
            )
        if self.class_names != tuple(class_names):
            raise UsageError(f"{self.file} knows {_difference(self.class_names, class_names)}")
        ours, theirs = (each.model.model_dump(mode="json") for each in (recipe, self.recipe))
        # A key that a file of an older version lacks asks for nothing; weights that do not fit are refused when read.
        if keys := [key for key in theirs if key not in PROVENANCE and ours.get(key) != theirs[key]]:
            raise UsageError(
                f"{self.file} holds a network with {_settings(theirs, keys)}, the recipe asks for "
                f"{_settings(ours, keys)}; leave out --recipe and --model-type to go on with the file's own recipe"
            )
        if recipe.input.size != self.recipe.input.size:
            size = self.recipe.input.size
            raise UsageError(
                f"{self.file} takes images of {size} pixels, the recipe gives {recipe.input.size}; "
                f"use --set input.size={size}"
            )

    def warn_of_other_split(self, recipe: Recipe) -> None:
        """Say in the log when the validation split is another one than when these weights were trained."""
        ours, theirs = ({"seed": each.seed, "validation": each.validation} for each in (recipe, self.recipe))
        if ours != theirs:
            logger.warning(
                "%s was trained with %s, this run has %s: some of its validation images may have been trained on, and "
                "choices made on them are worth less",
                self.file, _settings(theirs, list(theirs)), _settings(ours, list(ours)),
            )  # fmt: skip


def find_origin(path: str | Path) -> Origin:
    """Find out what `path` is: a checkpoint, an Artifact (verified), or a run, of which it means the trained model.

    Raises:
        UsageError: nothing is there, or nothing that Peregrine trained.
        DamagedFile: it is not what its checksum or format says.
    """
    found = Path(path)
    if (found / "run.json").is_file():
        return _of_artifact(RunDirectory.open(found).ancestor())
    if (found / "manifest.json").is_file():
        return _of_artifact(Artifact.open(found))
    if found.name in {FORMATS[name].file for name in TRAINED} and (found.parent / "manifest.json").is_file():
        return _of_artifact(Artifact.open(found.parent))
    if not found.is_file():
        what = "a folder that is neither" if found.is_dir() else "nothing there"
        raise UsageError(f"load_model is a checkpoint, an artifact or a run of Peregrine's; found {what}: {found}")
    if found.suffix not in WRITERS:
        raise UsageError(
            f"load_model takes checkpoints that end in {' or '.join(WRITERS)}, as Peregrine writes them; got {found}"
        )
    record = catalog.load("record", WRITERS[found.suffix])(found)
    if record is None:
        raise UsageError(
            f"{found} was not written by Peregrine; load_model takes a checkpoint, an artifact or a run of its own; "
            "models of others come in by `peregrine import`, for use, not for training"
        )
    return Origin(found, _recipe(record["recipe"], found), tuple(record["class_names"]))


def _of_artifact(artifact: Artifact) -> Origin:
    manifest = artifact.manifest
    if manifest.format not in TRAINED or manifest.parent is not None:  # such as PyTorch's network as a Keras model
        raise UsageError(
            f"load_model takes trained models, artifacts of format {' or '.join(TRAINED)}; {artifact.path} is an "
            f"export of one to {manifest.format}, and its network was trained by the engine {manifest.engine}"
        )
    if manifest.engine not in WRITERS.values():
        raise UsageError(f"load_model takes what Peregrine trained; {artifact.path} was imported, for use alone")
    recipe = _recipe(manifest.recipe, artifact.path)
    return Origin(artifact.model_path, recipe, manifest.class_names, manifest.temperature)


def _recipe(content: dict[str, Any], where: Path) -> Recipe:
    return validate(Recipe, content, f"recipe in {where}")


def _difference(known: Sequence[str], wanted: Sequence[str]) -> str:
    """How two lists of classes differ, in one line however long they are."""
    if len(known) != len(wanted):
        return f"{len(known)} classes, the data has {len(wanted)}; load_model needs the same ones"
    number, theirs, ours = next(
        (number, theirs, ours)
        for number, (theirs, ours) in enumerate(zip(known, wanted, strict=True), 1)
        if theirs != ours
    )
    return f"{theirs!r} as class {number}, in the data that is {ours!r}; load_model needs the same classes in one order"


def _settings(table: dict[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key} = {table[key]!r}" if key in table else f"no {key}" for key in keys)
