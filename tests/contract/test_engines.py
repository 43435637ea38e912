"""What every engine promises; a new one adds a line to `small_runs.RECIPES` and to the tables here."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

import small_runs
from peregrine import catalog
from peregrine.engines.history import History
from peregrine.engines.pictures import confusion_matrix, grid
from peregrine.errors import Interrupted, RecipeError, TrainingDiverged
from peregrine.rundir import RunDirectory
from workshop import Trained, Workshop, engine_marks

UNSUPPORTED: dict[str, tuple[str, Any]] = {
    "tensorflow": ("callbacks.checkpoint_format", {"callbacks.checkpoint_format": "safetensors"}),
    "pytorch": ("callbacks.checkpoint_format", {"callbacks.checkpoint_format": "keras"}),
}
CLOCK = ("seconds", "images_per_s")
EVERY_CHANGE = {
    "preset": "classic", "translate": 2, "shear": 10.0, "fill": "reflect", "brightness": 0.1, "contrast": 0.2,
    "cutout": 3, "mixup": 0.2, "cutmix": 1.0,
}  # fmt: skip

pytestmark = pytest.mark.parametrize(
    "engine", [pytest.param(engine, marks=engine_marks(engine)) for engine in catalog.CATALOG["engine"]]
)


@pytest.fixture
def trained(engine: str, workshop: Workshop) -> Trained:
    return workshop.trained(engine)


def history(run: Any) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((run.results / "training_history.json").read_text())
    return content


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in rows]


class Notes:
    """A monitor that writes down what it is told: finished epochs, step and steps of each look."""

    def __init__(self) -> None:
        self.looks: list[tuple[int, int, int]] = []
        self.epochs: list[int] = []

    def step(self, history: History, step: int, steps: int, loss: float, accuracy: float) -> None:
        assert loss > 0
        assert 0 <= accuracy <= 1
        self.looks.append((len(history.rows), step, steps))

    def epoch(self, history: History) -> None:
        self.epochs.append(history.rows[-1].epoch)


# ---- one whole run --------------------------------------------------------------------------------------------------


def test_learns(trained: Trained) -> None:
    rows = history(trained.run)
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert rows[-1]["accuracy"] > 0.95
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert max(row["val_accuracy"] for row in rows) == 1


def test_says_where_the_time_went(trained: Trained) -> None:
    summary = json.loads((trained.run.results / "training_summary.json").read_text())
    rows = history(trained.run)
    assert summary["training_seconds"] == pytest.approx(sum(row["seconds"] for row in rows), rel=1e-3)
    assert min(summary[f"{name}_seconds"] for name in ("preparation", "validation", "saving")) > 0
    images = summary["images_per_s"] * summary["training_seconds"]
    assert 8 * (small_runs.TRAIN - small_runs.BATCH) < images <= 8 * small_runs.TRAIN + 1e-6


def test_what_was_decided_stands_in_the_recipe(trained: Trained) -> None:
    recipe = trained.run.recipe()
    assert recipe.precision == "fp32"
    assert recipe.input.size == small_runs.SIZE
    asked = small_runs.RECIPES[recipe.engine]["model"]
    assert {**recipe.model.model_dump(mode="json"), **asked} == recipe.model.model_dump(mode="json")


def test_the_log_has_each_epoch_once(trained: Trained) -> None:
    (log,) = trained.run.logs.glob("training_log_*.csv")
    with log.open() as file:
        rows = list(csv.DictReader(file))
    for read, row in zip(rows, history(trained.run), strict=True):
        assert {key: float(value) for key, value in read.items()} == row


def test_checkpoints(trained: Trained) -> None:
    names = {entry.stem for entry in trained.run.checkpoints.iterdir() if entry.is_file()}
    assert names == {"best_model", "latest_model"}
    steps = [int(entry.name) for entry in sorted((trained.run.checkpoints / "resume").iterdir())]
    assert len(steps) == 2
    assert steps[1] % 8 == 0
    assert steps[0] == steps[1] * 7 // 8


def events_of(run: RunDirectory) -> EventAccumulator:
    return EventAccumulator(str(run.logs / "tensorboard")).Reload()


def pictures(events: EventAccumulator, tag: str) -> dict[int, npt.NDArray[np.uint8]]:
    """By step."""
    shown = events.Tensors(tag)
    return {event.step: np.asarray(Image.open(io.BytesIO(event.tensor_proto.string_val[2]))) for event in shown}


def test_events_can_be_read_back(trained: Trained) -> None:
    events = events_of(trained.run)
    rows = history(trained.run)
    tags = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "images_per_s"}
    assert set(events.Tags()["scalars"]) == tags
    for tag in tags:
        shown = [(event.step, event.value) for event in events.Scalars(tag)]
        assert shown == [(row["epoch"], pytest.approx(row[tag])) for row in rows]
    (text,) = events.Tensors("recipe")
    assert b'name = "tiny"' in text.tensor_proto.string_val[0]


def test_events_show_weights_and_gradients(trained: Trained) -> None:
    """In a histogram for each; a weight that rests after a while has none from there on."""
    events = events_of(trained.run)
    tags = events.PluginTagToContent("histograms")
    names = {kind: {tag.partition("/")[2] for tag in tags if tag.startswith(kind)} for kind in ("weights", "gradients")}
    assert names["weights"] == names["gradients"]
    assert len(names["weights"]) >= 4
    assert len(tags) == 2 * len(names["weights"])
    lengths = []
    for tag in tags:
        shown = events.Tensors(tag)
        steps = [event.step for event in shown]
        buckets = np.stack([tensor_util.make_ndarray(event.tensor_proto) for event in shown])
        assert steps == list(range(1, len(steps) + 1)), tag
        assert (buckets[:, :, 2].sum(1) == buckets[0, :, 2].sum()).all(), tag
        assert (buckets[1:] != buckets[:-1]).any((1, 2)).all(), f"{tag} stays as it was"
        lengths.append(len(steps))
    assert max(lengths) == 8


def test_events_show_augmented_images(trained: Trained) -> None:
    shown = pictures(events_of(trained.run), "training_images")
    batch = np.zeros((small_runs.BATCH, small_runs.SIZE, small_runs.SIZE, 3), np.uint8)
    assert {step: picture.shape for step, picture in shown.items()} == dict.fromkeys(range(1, 9), grid(batch).shape)
    assert all((shown[step] != shown[step - 1]).any() for step in range(2, 9))


def test_events_show_the_confusion_matrix(trained: Trained, engine: str) -> None:
    shown = pictures(events_of(trained.run), "confusion_matrix")
    assert list(shown) == list(range(1, 9))
    (checkpoint,) = trained.run.checkpoints.glob("latest_model.*")
    model = small_runs.loaded(engine).restore(trained.run.recipe(), checkpoint, len(small_runs.CLASSES))
    judged = trained.splits.validation
    assert judged is not None
    counts = np.zeros((len(small_runs.CLASSES), len(small_runs.CLASSES)), int)
    np.add.at(counts, (judged.labels, model.logits(judged.images).argmax(1)), 1)
    np.testing.assert_array_equal(shown[8], confusion_matrix(counts, small_runs.CLASSES))


def test_the_best_checkpoint_is_the_model_that_was_judged(trained: Trained, engine: str) -> None:
    rows = history(trained.run)
    best = json.loads((trained.run.results / "training_summary.json").read_text())["best_epoch"]
    (checkpoint,) = trained.run.checkpoints.glob("best_model.*")
    model = small_runs.loaded(engine).restore(trained.run.recipe(), checkpoint, len(small_runs.CLASSES))
    judged = trained.splits.validation
    assert judged is not None
    logits = model.logits(judged.images)
    assert logits.dtype == np.float32
    assert logits.shape == (small_runs.JUDGED, len(small_runs.CLASSES))
    assert (logits.argmax(1) == judged.labels).mean() == pytest.approx(rows[best - 1]["val_accuracy"])
    exact = logits - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))
    assert -exact[np.arange(len(judged)), judged.labels].mean() == pytest.approx(
        rows[best - 1]["val_loss"], rel=1e-3, abs=1e-6
    )
    assert model.parameters > 100


def test_a_monitor_is_told_how_it_gets_on(engine: str, tmp_path: Path) -> None:
    notes = Notes()
    job = replace(small_runs.job(engine, tmp_path / "run", {"epochs": 2}), monitor=notes)
    small_runs.loaded(engine).train(job)
    steps = notes.looks[0][2]
    assert steps in (small_runs.TRAIN // small_runs.BATCH, -(-small_runs.TRAIN // small_runs.BATCH))
    assert notes.epochs == [1, 2]
    assert {(0, steps, steps), (1, steps, steps)} <= set(notes.looks)
    assert notes.looks == sorted(notes.looks)


# ---- other runs -----------------------------------------------------------------------------------------------------


def test_a_stopped_and_resumed_run_is_the_same_run(trained: Trained, engine: str, tmp_path: Path) -> None:
    """Stopped before the first step and here and there, each epoch is there once, with the same numbers."""
    looks = [0, 2, 1]
    for look in looks:
        job = small_runs.job(engine, tmp_path / "run", stop=small_runs.StopAt(look))
        with pytest.raises(
            Interrupted, match=r"stopped by SIGTERM: saved after step \d+ of \d+; go on with: peregrine"
        ):
            small_runs.loaded(engine).train(job)
    job = small_runs.job(engine, tmp_path / "run")
    result = small_runs.loaded(engine).train(job)
    for resumed, straight in zip(timeless(result.history), timeless(history(trained.run)), strict=True):
        assert resumed == pytest.approx(straight, rel=1e-4, abs=1e-6)
    assert len(list(job.run.logs.glob("training_log_*.csv"))) == 1
    events = events_of(job.run)
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 9))
    assert list(pictures(events, "training_images")) == list(range(1, 9))
    again = small_runs.loaded(engine).train(small_runs.job(engine, tmp_path / "run"))
    assert again.history == result.history
    assert again.training_seconds == result.training_seconds


def test_without_validation_the_last_epoch_is_kept(engine: str, tmp_path: Path) -> None:
    """With a batch larger than the data, and no event files."""
    callbacks = {"callbacks.early_stopping_patience": 1, "callbacks.tensorboard": False}
    changes = {"validation": "none", "epochs": 2, "batch_size": 500, **callbacks}
    job = small_runs.job(engine, tmp_path / "run", changes)
    result = small_runs.loaded(engine).train(job)
    assert result.best_epoch == len(result.history) == 2
    assert result.images == 2 * small_runs.TRAIN
    assert not (job.run.logs / "tensorboard").exists()
    assert result.history[-1]["val_loss"] is result.history[-1]["val_accuracy"] is None
    model, latest = (
        small_runs.loaded(engine).restore(result.recipe, path, len(small_runs.CLASSES))
        for path in (result.checkpoint, next(job.run.checkpoints.glob("latest_model.*")))
    )
    np.testing.assert_array_equal(model.logits(job.train.images), latest.logits(job.train.images))


def test_events_without_histograms_and_validation(engine: str, tmp_path: Path) -> None:
    changes = {"validation": "none", "epochs": 1, "callbacks.histograms": False}
    job = small_runs.job(engine, tmp_path / "run", changes)
    small_runs.loaded(engine).train(job)
    assert set(events_of(job.run).Tags()["tensors"]) == {"recipe", "training_images"}


def test_training_ends_early_when_validation_gets_worse(engine: str, tmp_path: Path) -> None:
    """Validation labels that lie: the better the model, the worse its loss on them."""
    data = small_runs.splits()
    assert data.validation is not None
    lying = replace(data.validation, labels=(data.validation.labels + 1) % len(small_runs.CLASSES))
    misled = replace(data, validation=lying)
    job = small_runs.job(engine, tmp_path / "run", {"callbacks.early_stopping_patience": 2, "epochs": 50}, data=misled)
    result = small_runs.loaded(engine).train(job)
    losses = [row["val_loss"] for row in result.history]
    assert result.stopped_early
    assert len(losses) < 50
    assert len(losses) - 1 - int(np.argmin(losses)) == 2


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(engine: str, tmp_path: Path) -> None:
    job = small_runs.job(engine, tmp_path / "run", {"optimizer": {"name": "adam", "learning_rate": 1e30}})
    with pytest.raises(
        TrainingDiverged, match=r"the loss became (nan|inf) in epoch 1, step \d; lower the learning rate"
    ):
        small_runs.loaded(engine).train(job)


def test_grey_images_rare_classes_and_smoothed_labels(engine: str, tmp_path: Path) -> None:
    data = small_runs.splits(grey=True)
    rare = replace(data, train=data.train.subset(np.flatnonzero((data.train.labels > 0) | (np.arange(90) < 40))))
    changes = {"class_weights": "balanced", "label_smoothing": 0.1, "epochs": 6}
    job = small_runs.job(engine, tmp_path / "run", changes, data=rare)
    result = small_runs.loaded(engine).train(job)
    assert max(row["val_accuracy"] for row in result.history) > 0.9


@pytest.mark.parametrize("augmentation", [{"preset": "classic"}, EVERY_CHANGE], ids=["classic", "everything"])
def test_learns_from_changed_images(engine: str, augmentation: dict[str, Any], tmp_path: Path) -> None:
    job = small_runs.job(engine, tmp_path / "run", {"augmentation": augmentation, "epochs": 12})
    result = small_runs.loaded(engine).train(job)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert max(row["val_accuracy"] for row in result.history) > 0.6


def test_a_streamed_run_is_the_resident_run(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a memory map on disk, with everything that an image can go through."""
    data = small_runs.splits()
    np.save(tmp_path / "images.npy", data.train.images)
    mapped = replace(data.train, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    histories = []
    for name, gibibytes in (("resident", "1"), ("streamed", "0")):
        monkeypatch.setenv("PEREGRINE_RESIDENT_GIB", gibibytes)
        changes = {"epochs": 3, "augmentation": EVERY_CHANGE}
        job = small_runs.job(engine, tmp_path / name, changes, data=replace(data, train=mapped))
        histories.append(timeless(small_runs.loaded(engine).train(job).history))
    assert histories[0] == histories[1]


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_what_is_not_built_is_refused_by_its_key(engine: str) -> None:
    key, changes = UNSUPPORTED[engine]
    with pytest.raises(RecipeError, match=key.replace(".", r"\.")):
        small_runs.loaded(engine).resolve(small_runs.recipe(engine, changes), small_runs.splits().train)


def test_an_unknown_key_of_the_model_is_refused_with_a_suggestion(engine: str) -> None:
    recipe = small_runs.recipe(engine, {"model.widhts": [8]})
    with pytest.raises(RecipeError, match=r"unknown key 'widhts'; did you mean 'widths'\?"):
        small_runs.loaded(engine).resolve(recipe, small_runs.splits().train)


def test_images_that_are_too_small_are_refused(engine: str) -> None:
    data = small_runs.splits().train
    dots = replace(data, images=data.images[:, :1, :1])
    with pytest.raises(RecipeError, match=r"takes images of \d+ pixels or more; got 1\b"):
        small_runs.loaded(engine).resolve(small_runs.recipe(engine, {"augmentation.translate": 0}), dots)


def test_a_translation_beyond_the_image_is_refused(engine: str) -> None:
    recipe = small_runs.recipe(engine, {"augmentation.translate": small_runs.SIZE})
    with pytest.raises(RecipeError, match=r"augmentation\.translate is below the image size, 12 pixels; got 12"):
        small_runs.loaded(engine).resolve(recipe, small_runs.splits().train)
