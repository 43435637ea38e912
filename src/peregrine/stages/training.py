"""Train a recipe into a run: checkpoints, history, and the ancestor Artifact."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peregrine import catalog, files, metrics
from peregrine.artifact import ANCESTOR, Artifact, Golden, golden_images
from peregrine.dataset import Splits
from peregrine.engines.base import Engine, TrainedModel, TrainingJob, TrainingResult
from peregrine.errors import CheckFailed, UsageError
from peregrine.host import describe
from peregrine.metrics import softmax
from peregrine.recipe import Recipe, load_recipe, write_recipe
from peregrine.rundir import RunDirectory, check_free, new_run_path
from peregrine.signals import stop_request
from peregrine.stages import plots
from peregrine.stages.preparing import prepared

logger = logging.getLogger("peregrine")


def train(
    splits: Splits,
    recipe: Recipe | str | Path,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> Artifact:
    """Train on `splits.train` and return the trained model, the ancestor of every export.

    Args:
        splits: from `load_dataset`, or arrays of your own.
        recipe: a `Recipe`, the name of a shipped one, or the path of a TOML file.
        run: folder of the run, by default a new one in `runs/`.
        resume: go on with the run in `run`, by its own recipe; `recipe` and `changes` are not looked at.
        changes: dotted recipe keys to replace, `{"optimizer.learning_rate": 0.1}`.

    Raises:
        RecipeError: the recipe breaks a rule, or asks for what its engine or the data cannot do.
        DataError: the data cannot be trained on.
        UsageError: `run` exists already, or with `resume` does not.
        TrainingDiverged: the loss became NaN.
        Interrupted: a signal stopped the training; a resume state is saved.
    """
    if resume:
        if run is None:
            raise UsageError("resume needs the run to go on with; give run=…")
        directory = RunDirectory.open(run)
        with directory.lock():
            return _train(directory, prepared(splits, directory.recipe()), resume=True)
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    if changes:
        recipe = recipe.changed(changes)
    path = Path(run) if run is not None else new_run_path(recipe.name)
    check_free(path)
    splits = prepared(splits, recipe)
    size = splits.train.image_size[0]
    recipe = _engine(recipe).resolve(recipe.changed({"input.size": size}), splits.train)
    data = _describe_data(splits, recipe)
    directory = RunDirectory.create_new(recipe, data) if run is None else RunDirectory.create(path, recipe, data)
    with directory.lock():
        return _train(directory, splits, resume=False)


def _train(run: RunDirectory, splits: Splits, resume: bool) -> Artifact:
    recipe = run.recipe()
    fingerprint = splits.train.fingerprint
    if resume:
        expected = run.read()["data"]["fingerprints"]["train"]
        if fingerprint != expected:
            raise CheckFailed(
                f"the data is not what {run.path} was trained on: fingerprint {fingerprint[:12]}, expected "
                f"{expected[:12]}; restore the data or start a new run"
            )
        if run.artifact_path(_engine(recipe).format).exists():
            logger.info("%s is trained already", run.path)
            return run.ancestor()
    engine = _engine(recipe)
    with run.verb("train"), log_file(run), stop_request() as stop:
        job = TrainingJob(recipe, splits.train, splits.validation, run, resume, stop)
        result = engine.train(job)
        write_recipe(result.recipe, run.recipe_path)
        model = engine.restore(result.recipe, result.checkpoint, len(splits.class_names))
        temperature = _temperature(model, splits, result.recipe)
        files.write_json(run.results / "training_history.json", result.history)
        judged_on = "test" if result.recipe.validation == "test" else "validation"
        plots.training_history(result.history, result.best_epoch, run.results / "training_history.png", judged_on)
        files.write_json(run.results / "training_summary.json", _summary(result, splits, model, temperature))
        return _write_ancestor(run, engine.format, model, result.recipe, splits, temperature)


def _engine(recipe: Recipe) -> Engine:
    engine: Engine = catalog.load("engine", recipe.engine)()
    return engine


def _describe_data(splits: Splits, recipe: Recipe) -> dict[str, Any]:
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    present = {name: part for name, part in parts.items() if part is not None}
    return {
        "source": splits.source,
        "notes": list(splits.notes),
        "class_names": list(splits.class_names),
        "size": recipe.input.size,
        "resize": recipe.input.resize,
        "images": {name: len(part) for name, part in present.items()},
        "fingerprints": {name: part.fingerprint for name, part in present.items()},
    }


def _temperature(model: TrainedModel, splits: Splits, recipe: Recipe) -> float:
    """Fitted on validation; 1 where the recipe lets nothing be fitted."""
    if splits.validation is None or recipe.validation == "test":
        return 1.0
    return metrics.fit_temperature(model.logits(splits.validation.images), splits.validation.labels)


def _summary(result: TrainingResult, splits: Splits, model: TrainedModel, temperature: float) -> dict[str, Any]:
    best = result.history[result.best_epoch - 1]
    return {
        "schema": 1,
        "engine": result.recipe.engine,
        "model": result.recipe.model.name,
        "recipe": result.recipe.name,
        "precision": result.precision,
        "training_seconds": result.training_seconds,
        **{f"{name}_seconds": seconds for name, seconds in result.other_seconds.items()},
        "epochs": len(result.history),
        "images_per_s": result.images / result.training_seconds if result.training_seconds else 0.0,
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
        "validation": result.recipe.validation,
        "validation_accuracy": best["val_accuracy"],
        "validation_loss": best["val_loss"],
        "temperature": temperature,
        "parameters": model.parameters,
        "train_images": len(splits.train),
        "validation_images": len(splits.validation) if splits.validation is not None else 0,
        "image_size": splits.train.image_size[0],
        "class_names": list(splits.class_names),
        "seed": result.recipe.seed,
        "host": describe(),
    }


def _write_ancestor(
    run: RunDirectory, format: str, model: TrainedModel, recipe: Recipe, splits: Splits, temperature: float
) -> Artifact:
    images = golden_images(splits.test)
    answers = softmax(model.logits(images) / temperature).astype("float32")
    like = {
        "class_names": splits.class_names,
        "preprocess": {"size": recipe.input.size, "resize": recipe.input.resize},
        "model": recipe.model.model_dump(mode="json"),
        "engine": recipe.engine,
        "recipe": recipe.to_dict(),
        "temperature": temperature,
    }
    path = run.artifact_path(format)
    with Artifact.write(path, format=format, like=like, golden=Golden(images, {ANCESTOR: answers})) as folder:
        model.save(folder, temperature)
    return Artifact.open(path)


@contextmanager
def log_file(run: RunDirectory) -> Iterator[None]:
    """Copy the package's log messages into the run's `logs/peregrine.log`."""
    handler = logging.FileHandler(run.logs / "peregrine.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
