"""Train a recipe into a run: checkpoints, history, and the ancestor Artifact."""

import atexit
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peregrine import catalog, files, host, metrics
from peregrine.artifact import ANCESTOR, Artifact, Golden, golden_images
from peregrine.dataset import Dataset, Splits
from peregrine.engines.base import Engine, TrainedModel, TrainingJob, TrainingResult
from peregrine.errors import CheckFailed, UsageError
from peregrine.metrics import softmax
from peregrine.recipe import MIN_SIZE, Growth, Recipe, load_recipe, write_recipe
from peregrine.rundir import RunDirectory, check_free
from peregrine.signals import stop_request
from peregrine.stages import plots
from peregrine.stages.monitoring import LiveResults
from peregrine.stages.preparing import described, in_class_order, prepared

logger = logging.getLogger("peregrine")
LADDER = ("sprint-quick", "sprint", "sprint-max")  # points of the accuracy-time curve, cheapest first
LADDER_SIZE = 32  # side of the images, in pixels, that their small sizes are meant for
TRAINING = "training"  # in `skipped` of run.json: the ancestor is a model that was loaded


def train(
    splits: Splits,
    recipe: Recipe | str | Path | None = None,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    changes: Mapping[str, Any] | None = None,
    time_budget: float | None = None,
) -> Artifact:
    """Train on `splits.train` and return the trained model, the ancestor of every export.

    Args:
        splits: from `load_dataset`, or arrays of your own.
        recipe: a `Recipe`, the name of a shipped one, or the path of a TOML file; by default `sprint-quick`.
        run: folder of the run, by default a new one in `runs/`.
        resume: go on with the run in `run`, by its own recipe; `recipe` and `changes` are not looked at.
        changes: dotted recipe keys to replace, `{"optimizer.learning_rate": 0.1}`.
        time_budget: seconds that training takes on this machine. A few steps are timed, and epochs and the share of
            small images are chosen to fit; without a `recipe` also which one of `LADDER`. The choice is in the run's
            recipe.

    Raises:
        RecipeError: the recipe breaks a rule, or asks for what its engine or the data cannot do.
        DataError: the data cannot be trained on.
        UsageError: `run` exists already, or with `resume` does not.
        TrainingDiverged: the loss became NaN.
        Interrupted: a signal stopped the training; a resume state is saved.
    """
    return ancestor_of_run(splits, recipe, run=run, resume=resume, changes=changes, time_budget=time_budget)


def ancestor_of_run(
    splits: Splits,
    recipe: Recipe | str | Path | None = None,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    changes: Mapping[str, Any] | None = None,
    time_budget: float | None = None,
    skip_training: bool = False,
    pictures: bool = True,
) -> Artifact:
    """`train`, and what only the whole way needs.

    Args:
        skip_training: the run's trained model is the one that the recipe's `load_model` names, as it is.
        pictures: draw the history.
    """
    if resume and run is None:
        raise UsageError("resume needs the run to go on with; give run=…")
    resume = resume or _was_restarted(run)
    if host.rank():
        run = _folder_of_worker(Path(run) if resume and run else None)
    if resume:
        assert run is not None
        directory = RunDirectory.open(run)
        with directory.lock():
            splits = in_class_order(splits, directory.read()["data"]["class_names"])  # another form may have another
            splits = prepared(splits, directory.recipe())
            return _train(directory, splits, resume=True, skip_training=skip_training, pictures=pictures)
    if recipe is None:
        recipes = [load_recipe(name) for name in (LADDER if time_budget else LADDER[:1])]
    else:
        recipes = [recipe if isinstance(recipe, Recipe) else load_recipe(recipe)]
    recipes = [one.changed(changes) if changes else one for one in recipes]
    if skip_training and time_budget:
        raise UsageError("a time budget is for training; leave out the time budget or what skips the training")
    if skip_training and not recipes[0].load_model:
        raise UsageError("without training, a run needs a model to take; give --load-model PATH")
    if run is not None:
        check_free(Path(run))
    splits = prepared(splits, recipes[0])
    size = splits.train.image_size[0]
    if recipe is None and "input.growth" not in (changes or {}):
        recipes = [one.changed({"input.growth": _scaled(one.input.growth, size / LADDER_SIZE)}) for one in recipes]
    recipes = [_engine(one).resolve(one.changed({"input.size": size}), splits.train) for one in recipes]
    recipe = recipes[0]
    if recipe.load_model:
        catalog.load("stage", "origin")(recipe.load_model).check(recipe, splits.class_names)
    if time_budget:
        recipe = _engine(recipe).fill_time(recipes, splits.train, splits.validation, time_budget)
    data = described(splits, recipe.input.size, recipe.input.resize)
    data["train_order"] = splits.train.ordered_fingerprint
    directory = RunDirectory.create_new(recipe, data) if run is None else RunDirectory.create(Path(run), recipe, data)
    with directory.lock():
        if skip_training:
            directory.update(skipped=[TRAINING])
        return _train(directory, splits, resume=False, skip_training=skip_training, pictures=pictures)


def _scaled(growth: Growth, factor: float) -> list[list[float]]:
    """The same share of the run for images of other sizes."""
    return [[until, max(MIN_SIZE, round(factor * side))] for until, side in growth]


def _was_restarted(run: str | Path | None) -> bool:
    """Whether torchrun gives the command that began `run` once more, after a process of it was lost.

    Raises:
        UsageError: torchrun may do so, but could not tell which run it was.
    """
    started = host.torchrun()
    if started is None or not started.max_restarts:
        return False
    if run is None:
        raise UsageError("torchrun --max-restarts goes on with a run by its folder; give --run PATH, or run=…")
    return started.restarts > 0 and (Path(run) / "run.json").is_file()


def _folder_of_worker(resumed: Path | None) -> Path:
    """A private run for a worker that is not the first: of a distributed run, the first alone writes the real one.

    Args:
        resumed: the real run to go on with; this worker reads the states in it, and so it has to be on a shared disk.
    """
    private = Path(tempfile.mkdtemp(prefix=f"peregrine-worker-{host.rank()}-"))
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    folder = private / "run"
    if resumed:
        shutil.copytree(RunDirectory.open(resumed).path, folder, ignore=shutil.ignore_patterns(".*"))
    return folder


def _train(run: RunDirectory, splits: Splits, *, resume: bool, skip_training: bool, pictures: bool) -> Artifact:
    recipe = run.recipe()
    if resume:
        trained = run.artifact_path(_engine(recipe).format).exists()
        _check_same(run, splits.train, in_order=not trained)
        if trained:
            logger.info("%s is trained already", run.path)
            return run.ancestor()
    engine = _engine(recipe)
    if TRAINING in run.read().get("skipped", []):  # by the command that began the run
        with run.verb("load"), log_file(run):
            return _take(run, engine, splits)
    if skip_training:
        raise UsageError(
            f"{run.path} is still to be trained; got --resume with --skip-training; leave out what skips the training"
        )
    live = LiveResults(run, recipe, pictures and not host.rank())
    with run.verb("train"), log_file(run), stop_request() as stop, live:
        job = TrainingJob(recipe, splits.train, splits.validation, run, resume, stop, live)
        result = engine.train(job)
        stop.interrupt_at_once(f"all steps are done; go on with: peregrine train --resume --run {run.path}")
        write_recipe(result.recipe, run.recipe_path)
        model = engine.restore(result.recipe, result.checkpoint, len(splits.class_names))
        temperature = _temperature(model, splits, result.recipe)
        best = result.history[result.best_epoch - 1]
        summary = _summary(result, splits, model, temperature, best["val_accuracy"], best["val_loss"])
        _write_results(run, result.history, summary)
        if pictures:
            judged_on = "test" if result.recipe.validation == "test" else "validation"
            picture = run.results / "training_history.png"
            plots.training_history(result.history, result.best_epoch, picture, judged_on)
        return _write_ancestor(run, engine.format, model, result.recipe, splits, temperature)


def _check_same(run: RunDirectory, train: Dataset, in_order: bool) -> None:
    """Refuse other training images than the run began with, and the same ones `in_order`: steps find them by place.

    Raises:
        CheckFailed: they are others, or in another order.
    """
    record = run.read()["data"]
    found, expected = train.fingerprint, record["fingerprints"]["train"]
    if found != expected:  # a validation part that was drawn is another one where the order is
        raise CheckFailed(
            f"the data is not what {run.path} was trained on, or it comes in another order: fingerprint {found[:12]}, "
            f"expected {expected[:12]}; give the data as it was or start a new run"
        )
    if in_order and record.get("train_order", train.ordered_fingerprint) != train.ordered_fingerprint:
        raise CheckFailed(
            f"the images come in another order than {run.path} was begun with, and its steps would see others; give "
            "the data as it was or start a new run"
        )


def _take(run: RunDirectory, engine: Engine, splits: Splits) -> Artifact:
    """Make the model that the recipe's `load_model` names the run's ancestor, without a training step.

    A checkpoint gets a temperature as after its training; an Artifact keeps its own.
    """
    recipe = run.recipe()
    origin = catalog.load("stage", "origin")(recipe.load_model)
    origin.check(recipe, splits.class_names)
    origin.warn_of_other_split(recipe)
    model = engine.restore(recipe, origin.file, len(splits.class_names))
    temperature = origin.temperature or _temperature(model, splits, recipe)
    accuracy = loss = None
    if splits.validation is not None:
        labels = splits.validation.labels
        judged = metrics.evaluate(softmax(model.logits(splits.validation.images)), labels, splits.class_names)
        accuracy, loss = judged["accuracy"], judged["loss"]
    nothing = TrainingResult(
        recipe=recipe,
        precision="fp32",  # as every ancestor
        training_seconds=0.0,
        other_seconds={},
        images=0,
        history=[],
        best_epoch=0,
        checkpoint=origin.file,
    )
    _write_results(run, [], _summary(nothing, splits, model, temperature, accuracy, loss))
    logger.info("took %s as it is, without training", origin.file)
    return _write_ancestor(run, engine.format, model, recipe, splits, temperature)


def _write_results(run: RunDirectory, history: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    files.write_json(run.results / "training_history.json", history)
    files.write_json(run.results / "training_summary.json", summary)


def _engine(recipe: Recipe) -> Engine:
    """The recipe's engine.

    Raises:
        UsageError: the processes of this run were started the other engine's way.
    """
    started = host.torchrun()
    if started and started.ranks > 1 and recipe.engine != "pytorch":
        raise UsageError(
            f"torchrun starts the processes of the engine pytorch; got a recipe for {recipe.engine}; "
            "start one process on each machine, with TF_CONFIG"
        )
    if host.rank() and not started and recipe.engine == "pytorch":
        raise UsageError(
            "TF_CONFIG starts the workers of the engine tensorflow; got a recipe for pytorch; start it by torchrun"
        )
    engine: Engine = catalog.load("engine", recipe.engine)()
    return engine


def _temperature(model: TrainedModel, splits: Splits, recipe: Recipe) -> float:
    """Fitted on validation; 1 where the recipe lets nothing be fitted."""
    if splits.validation is None or recipe.validation == "test":
        return 1.0
    return metrics.fit_temperature(model.logits(splits.validation.images), splits.validation.labels)


def _summary(
    result: TrainingResult,
    splits: Splits,
    model: TrainedModel,
    temperature: float,
    validation_accuracy: float | None,
    validation_loss: float | None,
) -> dict[str, Any]:
    return {
        "schema": 1,
        "engine": result.recipe.engine,
        "model": result.recipe.model.name,
        "recipe": result.recipe.name,
        "precision": result.precision,
        "loaded_from": result.recipe.load_model or None,
        "training_seconds": result.training_seconds,
        **{f"{name}_seconds": seconds for name, seconds in result.other_seconds.items()},
        "epochs": len(result.history),
        "images_per_s": result.images / result.training_seconds if result.training_seconds else 0.0,
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
        "validation": result.recipe.validation,
        "validation_accuracy": validation_accuracy,
        "validation_loss": validation_loss,
        "temperature": temperature,
        "parameters": model.parameters,
        "train_images": len(splits.train),
        "validation_images": len(splits.validation) if splits.validation is not None else 0,
        "image_size": splits.train.image_size[0],
        "class_names": list(splits.class_names),
        "seed": result.recipe.seed,
        "host": host.describe(),
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
