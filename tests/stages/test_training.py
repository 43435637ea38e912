"""Runs that are stopped and gone on with: on which data, and when."""

import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

import small_runs
from peregrine import host
from peregrine.dataset import Splits
from peregrine.engines.base import TrainingJob, TrainingResult
from peregrine.engines.pytorch.engine import PyTorchEngine
from peregrine.errors import CheckFailed, DataError, Interrupted, UsageError
from peregrine.files import read_json
from peregrine.stages import training
from peregrine.stages.preparing import in_class_order
from peregrine.stages.training import train

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "threads", lambda: 1)


def begun(path: Path, data: Splits, validation: Any = 0.2) -> None:
    """A run that was stopped after some steps."""
    recipe = small_runs.recipe("pytorch", {"epochs": 3, "validation": validation})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "stop_request", lambda: nullcontext(small_runs.StopAt(7)))
        with pytest.raises(Interrupted, match=r"saved after step [1-9]"):
            train(data, recipe, run=path)


def drawn() -> Splits:
    """Without a validation part, which is drawn then."""
    return replace(small_runs.splits(), validation=None)


def reordered(data: Splits) -> Splits:
    """The same images in another order."""
    return replace(data, train=data.train.subset(np.roll(np.arange(len(data.train)), 1)))


@pytest.mark.parametrize("validation", ["none", 0.2])
def test_data_with_its_classes_in_another_order_is_gone_on_with(validation: Any, tmp_path: Path) -> None:
    """As it is where a folder, whose classes are sorted, became a Parquet file, which tells their order."""
    data = drawn()
    begun(tmp_path / "run", data, validation)
    resumed = train(in_class_order(data, small_runs.CLASSES[::-1]), run=tmp_path / "run", resume=True)
    straight = train(data, tmp_path / "run/recipe.toml", run=tmp_path / "straight")
    assert resumed.manifest.class_names == small_runs.CLASSES
    assert resumed.model_path.read_bytes() == straight.model_path.read_bytes()


@pytest.mark.parametrize("data", [small_runs.splits(), drawn()], ids=["own validation", "drawn"])
def test_images_in_another_order_are_refused(data: Splits, tmp_path: Path) -> None:
    """Steps know images by their places, and so does the validation part that is drawn."""
    begun(tmp_path / "run", data)
    with pytest.raises(CheckFailed, match=r" in another order.*; give the data as it was or start a new run$"):
        train(reordered(data), run=tmp_path / "run", resume=True)


def test_what_is_trained_already_may_come_in_any_order(tmp_path: Path) -> None:
    data = small_runs.splits()
    ancestor = train(data, small_runs.recipe("pytorch", {"epochs": 1}), run=tmp_path / "run")
    assert train(reordered(data), run=tmp_path / "run", resume=True).id == ancestor.id


def test_a_run_from_before_the_order_was_recorded_goes_on(tmp_path: Path) -> None:
    data = small_runs.splits()
    begun(tmp_path / "run", data)
    run = training.RunDirectory.open(tmp_path / "run")
    record = run.read()["data"]
    run.update(data={key: value for key, value in record.items() if key != "train_order"})
    train(data, run=tmp_path / "run", resume=True)


@pytest.mark.parametrize(("signum", "told"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
@pytest.mark.parametrize("where", ["engine", "_temperature"])
def test_a_signal_after_the_last_step_is_heeded(
    where: str, signum: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the engine's last look and its end, and while the trained model answers the validation images."""
    data, end_training, fit = small_runs.splits(), PyTorchEngine.train, training._temperature

    def ask() -> None:
        """As the signal does; a real one can end a worker of pytest."""
        handler: Any = signal.getsignal(signum)
        handler(signum, None)

    def asked_at_the_end(self: PyTorchEngine, job: TrainingJob) -> TrainingResult:
        result = end_training(self, job)
        ask()
        return result

    def asked_while_fitting(*arguments: Any) -> float:
        ask()
        return fit(*arguments)

    if where == "engine":
        monkeypatch.setattr(PyTorchEngine, "train", asked_at_the_end)
    else:
        monkeypatch.setattr(training, "_temperature", asked_while_fitting)
    path = tmp_path / "run"
    with pytest.raises(Interrupted) as caught:
        train(data, small_runs.recipe("pytorch", {"epochs": 1}), run=path)
    assert str(caught.value) == (
        f"stopped by {told}: all steps are done; go on with: peregrine train --resume --run {path}"
    )
    assert read_json(path / "run.json")["status"] == "train: interrupted"
    monkeypatch.undo()
    train(data, run=path, resume=True)
    assert len(read_json(path / "results/training_history.json")) == 1
    assert read_json(path / "run.json")["status"] == "done"


def test_what_is_not_trained_yet_is_not_gone_on_with_without_training(tmp_path: Path) -> None:
    data, path = small_runs.splits(), tmp_path / "run"
    begun(path, data)
    with pytest.raises(UsageError, match=r"run is still to be trained; got --resume with --skip-training; leave out"):
        training.ancestor_of_run(data, run=path, resume=True, skip_training=True)
    ancestor = train(data, run=path, resume=True)
    assert training.ancestor_of_run(data, run=path, resume=True, skip_training=True).id == ancestor.id


def test_other_data_is_refused(tmp_path: Path) -> None:
    data = small_runs.splits()
    begun(tmp_path / "run", data)
    with pytest.raises(
        CheckFailed, match=r"^the data is not what .*run was trained on, .*: fingerprint \w{12}, expected"
    ):
        train(replace(data, train=data.validation), run=tmp_path / "run", resume=True)
    more = replace(data.train, class_names=(*small_runs.CLASSES[:3], "spots"))
    with pytest.raises(DataError, match="knows the classes rows, columns, checks, plain; the data has others: spots"):
        train(replace(data, train=more), run=tmp_path / "run", resume=True)
    assert "interrupted" in read_json(tmp_path / "run/run.json")["status"]
