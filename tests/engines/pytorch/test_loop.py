"""What a run writes and says, beside its weights."""

import csv
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
from torch import nn

from peregrine import progress
from peregrine.engines.base import TrainingJob
from peregrine.engines.pytorch import optim, train
from peregrine.engines.pytorch.engine import PyTorchEngine, RestoredModel
from peregrine.engines.pytorch.graph import Classifier, Normalise
from peregrine.engines.pytorch.pipeline import Batches, Resident
from peregrine.errors import Interrupted, MachineError, TrainingDiverged
from small_runs import StopAt

pytestmark = pytest.mark.torch
MakeJob = Callable[..., TrainingJob]


def test_a_run_learns_and_leaves_everything_behind(job: MakeJob) -> None:
    job_ = job()
    result = PyTorchEngine().train(job_)
    run = job_.run.path
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert result.history[-1]["accuracy"] > 0.9
    assert result.history[result.best_epoch - 1]["val_accuracy"] > 0.9
    assert result.precision == result.recipe.precision == "fp32"
    assert result.images == 3 * 4 * 16
    assert result.training_seconds == pytest.approx(sum(row["seconds"] for row in result.history))
    assert {"preparation", "validation", "saving"} == set(result.other_seconds)
    assert result.checkpoint == run / "checkpoints/best_model.safetensors"
    assert (run / "checkpoints/latest_model.safetensors").is_file()
    assert [entry.name for entry in sorted((run / "checkpoints/resume").iterdir())] == ["000000008", "000000012"]
    (log,) = (run / "logs").glob("training_log_*.csv")
    with log.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[2]["loss"]) == result.history[2]["loss"]
    assert float(rows[2]["learning_rate"]) == pytest.approx(0.24 / 12)  # linear, at the last of 12 steps


def test_tensorboard_shows_every_epoch_and_the_recipe(job: MakeJob) -> None:
    job_ = job()
    result = PyTorchEngine().train(job_)
    events = EventAccumulator(str(job_.run.logs / "tensorboard")).Reload()
    shown = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "images_per_s"}
    assert set(events.Tags()["scalars"]) == shown
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(row["epoch"], pytest.approx(row["loss"])) for row in result.history]
    (text,) = events.Tensors("recipe")
    assert b'name = "tiny"' in text.tensor_proto.string_val[0]


def edges(events: EventAccumulator, tag: str, step: int) -> tuple[float, float]:
    """The smallest and the largest value in a histogram."""
    (event,) = (event for event in events.Tensors(tag) if event.step == step)
    buckets = tensor_util.make_ndarray(event.tensor_proto)
    return buckets[0, 0], buckets[-1, 1]


def test_histograms_are_of_the_last_weights_and_of_the_last_gradients(job: MakeJob) -> None:
    """Plain gradient descent, looked at right before the last step of the first epoch and after it."""
    plain = {"optimizer": {"name": "sgd", "momentum": 0.0}, "schedule": {"name": "constant"}, "epochs": 1}
    with pytest.raises(Interrupted):
        PyTorchEngine().train(job(changes=plain, stop=StopAt(3)))
    job_ = job(resume=True)
    before = load_file(job_.run.checkpoints / "resume/000000003/training.safetensors")["model.network.head.weight"]
    PyTorchEngine().train(job_)
    after = load_file(job_.run.checkpoints / "latest_model.safetensors")["network.head.weight"]
    events = EventAccumulator(str(job_.run.logs / "tensorboard")).Reload()
    gradient = (before - after) / 0.1
    assert edges(events, "weights/head.weight", 1) == pytest.approx((after.min().item(), after.max().item()))
    assert edges(events, "gradients/head.weight", 1) == pytest.approx(
        (gradient.min().item(), gradient.max().item()), rel=1e-3
    )


def test_tensorboard_shows_images_as_the_network_saw_them(job: MakeJob, shades) -> None:  # type: ignore[no-untyped-def]
    """Smaller ones at first, as the recipe has it."""
    batches = Batches(Resident.of(shades(), torch.device("cpu")), job().recipe)
    plan = batches.plan(2)
    expected = batches.batch(plan, 2, 0).images
    shown = batches.shown(2, 5)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown.transpose(0, 3, 1, 2), expected[:5].numpy())
    assert batches.shown(0, 99).shape == (16, 10, 10, 3)


def test_tensorboard_changes_no_bit_and_can_be_left_out(job: MakeJob) -> None:
    shown = PyTorchEngine().train(job("shown"))
    job_ = job("hidden", {"callbacks.tensorboard": False})
    hidden = PyTorchEngine().train(job_)
    assert not (job_.run.logs / "tensorboard").exists()
    for name, weight in load_file(hidden.checkpoint).items():
        assert torch.equal(weight, load_file(shown.checkpoint)[name]), name


def test_the_bar_moves_by_steps_and_shows_loss_and_accuracy(job: MakeJob) -> None:
    seen: list[tuple[int, str]] = []

    class Display:
        @contextmanager
        def bar(self, label: str, total: int | None, unit: str) -> Iterator[progress.Advance]:
            assert (label, total, unit) == ("train", 12, "step")
            yield lambda amount=1, note="": seen.append((amount, note))

    with progress.show_on(Display()):
        PyTorchEngine().train(job())
    assert sum(amount for amount, _ in seen) == 12
    assert seen[-1][1].startswith("epoch 3/3, loss ")
    assert "accuracy" in seen[-1][1]


def test_without_validation_the_last_epoch_is_kept(job: MakeJob) -> None:
    job_ = job(changes={"validation": "none", "callbacks.early_stopping_patience": 1})
    result = PyTorchEngine().train(job_)
    assert result.best_epoch == len(result.history) == 3
    assert result.history[0]["val_loss"] is None
    folder = job_.run.checkpoints
    assert (folder / "best_model.safetensors").read_bytes() == (folder / "latest_model.safetensors").read_bytes()


def test_training_ends_early_when_validation_gets_no_better(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 0.5, 0.7, 0.6, 0.1])
    monkeypatch.setattr(
        train, "judge", lambda classifier, data, size, between: (next(losses), 0.5, data.labels.numpy())
    )
    job_ = job(changes={"epochs": 9, "callbacks.early_stopping_patience": 2})
    result = PyTorchEngine().train(job_)
    assert result.stopped_early
    assert len(result.history) == 4
    assert result.best_epoch == 2
    again = PyTorchEngine().train(job(resume=True))
    assert again.history == result.history
    assert again.stopped_early


def test_adam_trains_everything(job: MakeJob) -> None:
    changes = {"optimizer": {"name": "adam", "learning_rate": 0.01}, "epochs": 6, "class_weights": "balanced"}
    assert PyTorchEngine().train(job(changes=changes)).history[-1]["accuracy"] > 0.8


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(job: MakeJob) -> None:
    job_ = job(changes={"optimizer.head_learning_rate": 1e30, "optimizer.weight_decay": 0.0})
    with pytest.raises(
        TrainingDiverged, match=r"the loss became (nan|inf) in epoch 1, step \d; lower the learning rate"
    ):
        PyTorchEngine().train(job_)


def test_running_out_of_memory_names_the_batch_size(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*arguments: object) -> None:
        torch.empty(2**62, dtype=torch.uint8)

    monkeypatch.setattr(optim.Muon, "step", starve)
    with pytest.raises(MachineError, match=r"memory ran out with batch_size=16; use a smaller one, --set batch_size=8"):
        PyTorchEngine().train(job())


def test_grey_images_of_eight_pixels_train(job: MakeJob, shades) -> None:  # type: ignore[no-untyped-def]
    data = shades(size=8, grey=True)
    job_ = job(changes={"input.growth": [], "validation": "none", "epochs": 6}, train=data)
    assert job_.recipe.model.options["whitening"] == 8
    result = PyTorchEngine().train(job_)
    assert result.history[-1]["accuracy"] > 0.9
    model = PyTorchEngine().restore(result.recipe, result.checkpoint, 3)
    assert (model.logits(data.images).argmax(1) == data.labels).mean() > 0.9


def test_the_restored_model_is_the_one_that_was_judged(job: MakeJob, shades, tmp_path) -> None:  # type: ignore[no-untyped-def]
    result = PyTorchEngine().train(job())
    model = PyTorchEngine().restore(result.recipe, result.checkpoint, 3)
    validation = shades(30, seed=1)
    accuracy = (model.logits(validation.images).argmax(1) == validation.labels).mean()
    assert accuracy == result.history[result.best_epoch - 1]["val_accuracy"]
    assert model.parameters > 1000
    assert model.logits(validation.images[:0]).shape == (0, 3)


@pytest.mark.parametrize(("size", "batch"), [(64, 500), (256, 31)])
def test_of_large_images_few_are_answered_at_once(size: int, batch: int) -> None:
    """Of any size, it is what comes after the last step, and must not be what needs the most memory."""
    seen: list[int] = []

    class Counter(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(len(images))
            return images.mean((2, 3))

    model = RestoredModel(Classifier(Normalise(torch.zeros(3), torch.ones(3)), Counter()))  # type: ignore[arg-type]
    assert model.logits(np.zeros((batch + 1, size, size, 3), np.uint8)).shape == (batch + 1, 3)
    assert seen == [batch, 1]


def test_running_out_of_memory_after_training_does_not_blame_the_batch(
    job: MakeJob, shades, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    result = PyTorchEngine().train(job(changes={"epochs": 1}))
    model = PyTorchEngine().restore(result.recipe, result.checkpoint, 3)

    def starve(*arguments: object) -> None:
        torch.empty(2**62, dtype=torch.uint8)

    monkeypatch.setattr(Classifier, "logits", starve)
    with pytest.raises(MachineError, match=r"^memory ran out while the trained model answered images of 12 pixels; "):
        model.logits(shades().images)
    monkeypatch.setattr("peregrine.engines.pytorch.engine.load_weights", starve)
    with pytest.raises(MachineError, match=r"; close other programs and go on with --resume, which repeats no step$"):
        PyTorchEngine().restore(result.recipe, result.checkpoint, 3)


def test_epochs_are_logged(job: MakeJob, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "peregrine"):
        PyTorchEngine().train(job(changes={"epochs": 1}))
    assert "epoch 1: loss" in caplog.text
