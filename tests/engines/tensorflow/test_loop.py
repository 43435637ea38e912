"""The loop: exact resume, calls of several steps, precision, and what it says when things go wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import small_runs
from peregrine import host, progress
from peregrine.dataset import Dataset
from peregrine.engines.base import TrainingResult
from peregrine.engines.tensorflow import engine, network, precision, train
from peregrine.engines.tensorflow.checkpoint import load_model
from peregrine.engines.tensorflow.engine import TensorFlowEngine
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.models.base import Phase
from peregrine.engines.tensorflow.steps import Steps, cross_entropy
from peregrine.errors import DamagedFile, Interrupted, MachineError, TrainingDiverged
from peregrine.schedule import Cosine, Linear, OneCycle, Step

pytestmark = pytest.mark.tensorflow
STEPS = 6  # of an epoch


def weights(result: TrainingResult) -> list[Any]:
    return [weight.numpy() for weight in load_model(result.checkpoint.with_name("latest_model.keras")).weights]


def train_once(path: Path, **changes: Any) -> TrainingResult:
    return TensorFlowEngine().train(small_runs.job("tensorflow", path, {"epochs": 3, **changes}))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """Not interrupted, one step a call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "CALL_SECONDS", 0.0)
        return train_once(tmp_path_factory.mktemp("straight") / "run")


def assert_same(result: TrainingResult, straight: TrainingResult) -> None:
    for row, other in zip(result.history, straight.history, strict=True):
        assert {**row, "seconds": 0, "images_per_s": 0} == {**other, "seconds": 0, "images_per_s": 0}
    for weight, other in zip(weights(result), weights(straight), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_several_steps_in_one_call_are_the_same_steps(
    straight: TrainingResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "CALL_SECONDS", 1e9)
    calls = []
    one = Steps.train

    def counted(self: Steps, leg: Any, block: Any, epoch: int, first: int, rates: Any) -> Any:
        calls.append((epoch, first, len(rates)))
        return one(self, leg, block, epoch, first, rates)

    monkeypatch.setattr(Steps, "train", counted)
    assert_same(train_once(tmp_path / "run"), straight)
    assert calls[1:] == [(0, 0, 1), (0, 1, 5), (1, STEPS, STEPS), (2, 2 * STEPS, STEPS)]  # after the one that compiles


# With one step a call: a look before each step and one after each epoch.
@pytest.mark.parametrize("looks", [[0, 4], [STEPS], [STEPS + 3, 0, 2]])
def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(
    straight: TrainingResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: list[int]
) -> None:
    """Dropout, augmentation, order, Adam's moments: all of it is in the state, or a function of the step."""
    monkeypatch.setattr(train, "CALL_SECONDS", 0.0)
    for look in looks:
        job = small_runs.job("tensorflow", tmp_path / "run", {"epochs": 3}, stop=small_runs.StopAt(look))
        with pytest.raises(Interrupted, match="stopped by SIGTERM: saved after step"):
            TensorFlowEngine().train(job)
    assert_same(train_once(tmp_path / "run"), straight)


def test_the_first_epoch_is_judged_by_sensible_statistics(tmp_path: Path) -> None:
    """After six steps."""
    row = train_once(tmp_path / "run", epochs=1).history[0]
    assert row["val_accuracy"] > row["accuracy"] - 0.1


def test_a_batch_of_more_images_than_there_are_is_a_batch_of_all(tmp_path: Path) -> None:
    """The rates of Muon's biases and head are per image."""
    sprint = {"model": {"name": "sprint", "widths": [6, 12]}, "optimizer": {"name": "muon"}}
    exact, larger = (
        train_once(tmp_path / str(size), batch_size=size, **sprint) for size in (small_runs.TRAIN, 9 * small_runs.TRAIN)
    )
    assert_same(larger, exact)


def test_long_epochs_are_saved_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(train, "CALL_SECONDS", 0.0)
    result = train_once(tmp_path / "run", epochs=1)
    states = [entry.name for entry in sorted((result.checkpoint.parent / "resume").iterdir())]
    assert states == ["000000005", "000000006"]


def test_the_bar_moves_by_steps_and_shows_loss_and_accuracy(tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []

    class Display:
        @contextmanager
        def bar(self, label: str, total: int | None, unit: str) -> Iterator[progress.Advance]:
            assert (label, total, unit) == ("train", 2 * STEPS, "step")
            yield lambda amount=1, note="": seen.append((amount, note))

    with progress.show_on(Display()):
        train_once(tmp_path / "run", epochs=2)
    assert sum(amount for amount, _ in seen) == 2 * STEPS
    assert seen[-1][1].startswith("epoch 2/2, loss ")
    assert "accuracy" in seen[-1][1]


@pytest.mark.parametrize(
    ("schedule", "expected_rates"),
    [(Linear(), 12), (Cosine(warmup=0.25), 12), (Step(milestones=(0.5,)), 2), (OneCycle(), 12)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_schedule_moves_the_learning_rate_of_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: Any, expected_rates: int
) -> None:
    rates: list[float] = []
    one = Steps.train

    def noted(self: Steps, leg: Any, block: Any, epoch: int, first: int, given: Any) -> Any:
        rates.extend(given.tolist())
        return one(self, leg, block, epoch, first, given)

    monkeypatch.setattr(Steps, "train", noted)
    result = train_once(tmp_path / "run", epochs=2, schedule=schedule.model_dump(mode="json"))
    expected = [0.01 * schedule.factor(step, 12) for step in range(12)]
    assert rates[1:] == pytest.approx(expected)
    assert [row["learning_rate"] for row in result.history] == pytest.approx([expected[5], expected[11]])
    assert len(set(expected)) == expected_rates


def test_the_rate_of_a_phase_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "phases", lambda recipe: (Phase(until=0.5), Phase(rate=0.1)))
    rows = train_once(tmp_path / "run", epochs=2).history
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.01, 0.001])


def test_a_plateau_lowers_the_rate_of_the_epochs_after_it(tmp_path: Path) -> None:
    """Validation labels that lie: the better the model, the worse its loss on them."""
    data = small_runs.splits()
    assert data.validation is not None
    lying = replace(data.validation, labels=(data.validation.labels + 1) % len(small_runs.CLASSES))
    settings = {"callbacks.plateau_patience": 1, "callbacks.plateau_factor": 0.1, "epochs": 4}
    job = small_runs.job("tensorflow", tmp_path / "run", settings, data=replace(data, validation=lying))
    rows = TensorFlowEngine().train(job).history
    losses = [row["val_loss"] for row in rows]
    expected, best = [0.01, 0.01], losses[0]
    for loss in losses[1:3]:
        expected.append(expected[-1] * (1 if loss < best else 0.1))
        best = min(best, loss)
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected)
    assert expected[-1] < 0.01


def test_a_loss_that_is_no_number_names_the_very_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Steps.train

    def broken(self: Steps, leg: Any, block: Any, epoch: int, first: int, rates: Any) -> Any:
        losses, correct = one(self, leg, block, epoch, first, rates)
        losses = losses.copy()
        losses[np.arange(first, first + len(rates)) == 4] = np.nan
        return losses, correct

    monkeypatch.setattr(Steps, "train", broken)
    with pytest.raises(TrainingDiverged, match="the loss became nan in epoch 1, step 5;"):
        train_once(tmp_path / "run")


def test_running_out_of_memory_names_the_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*arguments: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(Steps, "train", starve)
    with pytest.raises(MachineError, match=r"memory ran out with batch_size=16; use a smaller one, --set batch_size=8"):
        train_once(tmp_path / "run")


def test_running_out_of_memory_after_training_does_not_blame_the_batch(
    straight: TrainingResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(*arguments: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    model = TensorFlowEngine().restore(straight.recipe, straight.checkpoint, 4)
    monkeypatch.setattr(model, "_logits", starve)
    with pytest.raises(MachineError, match=r"^memory ran out while the trained model answered images of 12 pixels; "):
        model.logits(small_runs.splits().train.images)
    monkeypatch.setattr(engine, "load_model", starve)
    with pytest.raises(MachineError, match=r"; close other programs and go on with --resume, which repeats no step$"):
        TensorFlowEngine().restore(straight.recipe, straight.checkpoint, 4)


@pytest.mark.parametrize(("size", "batch"), [(64, 500), (256, 31)])
def test_of_large_images_few_are_answered_at_once(
    size: int, batch: int, straight: TrainingResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the trained model after the last step, and by the one that is judged after each epoch."""
    seen: list[int] = []

    def answer(images: Any, labels: Any = None) -> Any:
        seen.append(len(images))
        answers = tf.zeros([len(images), 4])
        return answers if labels is None else (tf.reduce_sum(answers), tf.argmax(answers, axis=1))

    images = np.zeros((batch + 1, size, size, 3), np.uint8)
    model = TensorFlowEngine().restore(straight.recipe, straight.checkpoint, 4)
    monkeypatch.setattr(model, "_logits", answer)
    assert model.logits(images).shape == (batch + 1, 4)
    judged = Dataset(images, np.zeros(batch + 1, np.int64), np.arange(batch + 1).astype(str), small_runs.CLASSES)
    steps = Steps.__new__(Steps)  # without the networks, which are of another size
    steps._data = SimpleNamespace(validation=judged)  # type: ignore[assignment]
    steps._model = steps._copy = None
    steps._judge = answer
    monkeypatch.setattr(network, "copy_weights", lambda source, target: None)
    assert len(steps.judge()[1]) == batch + 1
    assert seen == [batch, 1] * 2


def test_weights_of_another_network_are_refused(straight: TrainingResult, tmp_path: Path) -> None:
    other = small_runs.recipe("tensorflow", {"input.size": small_runs.SIZE, "model.widths": [5]})
    with pytest.raises(DamagedFile, match=r"best_model\.keras does not hold this model's weights; train again"):
        TensorFlowEngine().restore(other, straight.checkpoint, 4)
    job = small_runs.job("tensorflow", tmp_path / "run", {"epochs": 1}, stop=small_runs.StopAt(2))
    with pytest.raises(Interrupted):
        TensorFlowEngine().train(job)
    edited = replace(job, recipe=job.recipe.changed({"model.widths": [5]}), resume=True)
    with pytest.raises(DamagedFile, match="resume does not hold this model's weights"):
        TensorFlowEngine().train(edited)


# ---- precision ------------------------------------------------------------------------------------------------------


def test_bf16_trains_and_is_written_into_the_recipe(tmp_path: Path) -> None:
    result = train_once(tmp_path / "run", precision="bf16")
    assert result.precision == result.recipe.precision == "bf16"
    assert {layer.compute_dtype for layer in load_model(result.checkpoint).layers} == {"float32"}
    assert result.history[-1]["accuracy"] > 0.9
    data = small_runs.splits().validation
    assert data is not None
    restored = TensorFlowEngine().restore(result.recipe, result.checkpoint, 4)
    accuracy = (restored.logits(data.images).argmax(1) == data.labels).mean()
    assert accuracy == pytest.approx(result.history[result.best_epoch - 1]["val_accuracy"])


def test_compiled_steps_are_the_same_steps(tmp_path: Path) -> None:
    """Without what XLA draws other random numbers for. Whether they pay is only measured on a GPU."""
    changes = {"augmentation": {}, "model.dropout": 0.0}
    plain, compiled, auto = (
        train_once(tmp_path / compile, compile=compile, **changes) for compile in ("off", "on", "auto")
    )
    for row, other in zip(compiled.history, plain.history, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert row["val_loss"] == pytest.approx(other["val_loss"], rel=1e-3)
    assert [result.recipe.compile for result in (plain, compiled)] == ["off", "on"]
    assert auto.recipe.compile == "off" or tf.config.list_physical_devices("GPU")


def test_auto_races_only_where_the_hardware_has_bf16(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host, "has_bf16", lambda: True)
    assert precision.contenders("auto") == ("fp32", "bf16")
    assert precision.contenders("fp32") == ("fp32",)
    monkeypatch.setattr(host, "has_bf16", lambda: False)
    assert precision.contenders("auto") == ("fp32",)
    assert precision.contenders("bf16") == ("bf16",)
    assert "no bf16 in hardware" in caplog.text


@pytest.mark.parametrize(("bf16_s", "chosen"), [(0.002, "bf16"), (0.0098, "fp32"), (0.02, "fp32")])
def test_bf16_has_to_be_clearly_faster(monkeypatch: pytest.MonkeyPatch, bf16_s: float, chosen: str) -> None:
    clock = [0.0]
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])

    class Timed:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds
            self.state = "fresh"

        def read(self) -> str:
            return self.state

        def write(self, state: str) -> None:
            self.state = state

        def train(self, leg: object, block: object, epoch: int, first: int, rates: Any) -> None:
            clock[0] += self.seconds * len(rates)
            self.state = "spoilt"

    contenders: Any = {"fp32": Timed(0.01), "bf16": Timed(bf16_s)}
    nothing: Any = None
    assert precision.choose(contenders, nothing, nothing, tf.distribute.get_strategy()) == chosen
    assert [contender.state for contender in contenders.values()] == ["fresh", "fresh"]


# ---- loss -----------------------------------------------------------------------------------------------------------


def test_smoothing_spreads_a_part_of_the_target() -> None:
    logits = tf.math.log(tf.constant([[0.7, 0.2, 0.1]]))
    labels = tf.constant([[1.0, 0.0, 0.0]])
    assert cross_entropy(logits, labels, 0.0).numpy() == pytest.approx(-np.log(0.7), rel=1e-5)
    smooth = -(0.8 * np.log(0.7) + 0.1 * np.log(0.2) + 0.1 * np.log(0.1))
    assert cross_entropy(logits, labels, 0.3).numpy() == pytest.approx(smooth, rel=1e-5)
