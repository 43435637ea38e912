"""The end of an epoch: which one is best, when to stop, and the table that people plot."""

import csv
import math
from pathlib import Path

import pytest

import tiny
from peregrine.engines.history import EpochRow, History, check_loss
from peregrine.errors import TrainingDiverged
from peregrine.recipe import Callbacks


def row(epoch: int, val_accuracy: float | None = None, val_loss: float | None = None, loss: float = 1.0) -> EpochRow:
    return EpochRow(epoch, loss, 0.5, val_loss, val_accuracy, 0.1, 2.0, 1000.0)


def history(*judged: tuple[float, float], patience: int = 0, chooses: bool = True) -> History:
    rows = [row(epoch, accuracy, loss) for epoch, (accuracy, loss) in enumerate(judged, 1)]
    return History(Callbacks(early_stopping_patience=patience), rows, chooses)


@pytest.mark.parametrize(
    ("judged", "best"),
    [
        ([(0.5, 1.0)], 1),
        ([(0.5, 1.0), (0.6, 2.0)], 2),  # accuracy first
        ([(0.6, 1.0), (0.5, 0.5)], 1),
        ([(0.6, 1.0), (0.6, 0.9)], 2),  # then the lower loss
        ([(0.6, 0.9), (0.6, 1.0)], 1),
        ([(0.6, 0.9), (0.6, 0.9)], 1),  # then the earlier epoch
        ([(0.6, 0.0), (0.6, 0.1)], 1),
    ],
)
def test_the_best_epoch(judged: list[tuple[float, float]], best: int) -> None:
    found = history(*judged)
    assert found.best_epoch == best
    assert found.is_best == (best == len(judged))


def test_where_nothing_chooses_the_last_epoch_is_kept() -> None:
    assert history((0.9, 0.1), (0.5, 1.0), chooses=False).best_epoch == 2
    unjudged = History(rows=[row(1), row(2), row(3)])
    assert unjudged.best_epoch == 3
    assert unjudged.is_best
    assert not History().is_best
    assert History().best_epoch == 0


def test_early_stopping_watches_the_loss() -> None:
    losses = [(0.5, loss) for loss in (1.0, 0.8, 0.9, 0.8, 0.85)]  # equal is not better
    assert [history(*losses[:count], patience=2).should_stop for count in range(1, 6)] == [
        False, False, False, True, True,
    ]  # fmt: skip
    assert history(*losses, patience=3).should_stop
    assert not history(*losses, patience=4).should_stop


def test_early_stopping_is_off_by_zero_and_where_nothing_chooses() -> None:
    worse = [(0.5, 1.0 + epoch) for epoch in range(10)]
    assert not history(*worse).should_stop
    assert not history(*worse, patience=1, chooses=False).should_stop
    assert not History(Callbacks(early_stopping_patience=1), rows=[row(1), row(2), row(3)]).should_stop
    assert not History(Callbacks(early_stopping_patience=1)).should_stop


def test_each_plateau_lowers_the_rate_as_keras_does() -> None:
    settings = Callbacks(plateau_patience=2, plateau_factor=0.1, plateau_minimum=5e-4)
    losses = (1.0, 0.8, 0.9, 0.85, 0.9, 0.95, 0.7, 0.7, 0.7, 0.7, 0.7)
    rows = [row(number, 0.5, loss) for number, loss in enumerate(losses, 1)]
    found = [History(settings, rows[:count]).learning_rate(0.1) for count in range(len(rows) + 1)]
    expected = [0.1] * 4 + [0.01] * 2 + [0.001] * 3 + [5e-4] * 3
    assert found == pytest.approx(expected)
    assert History(settings, rows).learning_rate(1e-4) == 1e-4  # the schedule is below the minimum already
    assert History(settings, rows, chooses=False).learning_rate(0.1) == 0.1
    assert History(rows=rows).learning_rate(0.1) == 0.1


@pytest.mark.parametrize(("validation", "chooses"), [(0.1, True), ("none", False), ("test", False)])
def test_a_history_follows_its_recipe(validation: float | str, chooses: bool) -> None:
    recipe = tiny.recipe(validation=validation, callbacks={"early_stopping_patience": 7})
    found = History.of(recipe)
    assert (found.callbacks.early_stopping_patience, found.chooses, found.rows) == (7, chooses, [])


def test_a_resumed_history_is_the_same() -> None:
    recipe = tiny.recipe(callbacks={"early_stopping_patience": 3})
    before = History.of(recipe)
    before.add(row(1, 1 / 3, math.pi))
    before.add(row(2))
    assert History.of(recipe, before.to_list()) == before


def test_the_csv_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "training_log.csv"
    found = history((1 / 3, math.pi))
    found.add(row(2, loss=1e-17))
    found.write_csv(path)
    assert path.read_text() == (
        "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds,images_per_s\n"
        "1,1.0,0.5,3.141592653589793,0.3333333333333333,0.1,2.0,1000.0\n"
        "2,1e-17,0.5,,,0.1,2.0,1000.0\n"
    )
    with path.open(newline="") as file:
        read = [{key: float(value) if value else None for key, value in line.items()} for line in csv.DictReader(file)]
    assert read == found.to_list()
    found.write_csv(path)
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_run(loss: float) -> None:
    fix = "lower the learning rate (--set optimizer.learning_rate=…) or train in fp32 (--set precision=fp32)"
    with pytest.raises(TrainingDiverged) as caught:
        check_loss(loss, 3, 17)
    assert str(caught.value) == f"the loss became {loss} in epoch 3, step 17; {fix}"
    found = history((0.5, 1.0))
    with pytest.raises(TrainingDiverged) as caught:
        found.add(row(2, 0.1, loss))
    assert str(caught.value) == f"the validation loss became {loss} in epoch 2; {fix}"
    assert len(found.rows) == 1


def test_a_finite_loss_goes_on() -> None:
    check_loss(1e30, 1, 1)
