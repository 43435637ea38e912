"""`results/live.json` and the picture, kept current at next to no cost."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from peregrine import files
from peregrine.engines.history import EpochRow, History
from peregrine.errors import Interrupted
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.stages import monitoring
from peregrine.stages.monitoring import LiveResults
from report_making import history as rows_of


class Clock:
    """Stands in for `time`: it goes on when it is told to, and by what writing is pretended to cost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.cost = 0.0
        self.written = 0
        self.drawn = 0
        monkeypatch.setattr(monitoring.time, "monotonic", lambda: self.now)
        replace = files.replace_json

        def write(path: Path, content: Any) -> None:
            self.now += self.cost
            self.written += 1
            replace(path, content)

        monkeypatch.setattr(monitoring.files, "replace_json", write)

        def draw(*_: Any) -> None:
            self.now += self.cost
            self.drawn += 1

        monkeypatch.setattr(monitoring.plots, "training_history", draw)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def recipe() -> Recipe:
    content = {"name": "quick", "engine": "pytorch", "model": {"name": "sprint"}, "epochs": 4, "batch_size": 100}
    return Recipe.model_validate({**content, "schema": 1})


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", recipe, {})


def live(run: RunDirectory) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run.results / "live.json").read_text())
    return content


def finished(recipe: Recipe, epochs: int) -> History:
    history = History.of(recipe)
    for row in rows_of(epochs):
        history.add(EpochRow(**row))
    return history


def test_it_tells_where_the_training_stands(run: RunDirectory, recipe: Recipe, clock: Clock) -> None:
    with LiveResults(run, recipe, pictures=False) as watched:
        watched.step(finished(recipe, 0), 0, 50, 2.3, 0.1)
        told = live(run)
        assert (told["schema"], told["status"], told["epoch"], told["epochs"]) == (1, "training", 1, 4)
        assert told["seconds_left"] is None
        assert (told["history"], told["best_epoch"]) == ([], None)
        clock.now += 30
        watched.step(finished(recipe, 1), 25, 50, 1.5, 0.4)
        told = live(run)
        assert (told["epoch"], told["step"], told["steps_per_epoch"]) == (2, 25, 50)
        assert (told["loss"], told["accuracy"], told["progress"]) == (1.5, 0.4, 0.375)
        assert told["seconds"] == 30
        assert told["seconds_left"] == pytest.approx(50)
        assert [row["epoch"] for row in told["history"]] == [1]
        assert told["best_epoch"] == 1
    assert live(run)["status"] == "done"


def test_time_left_of_a_resumed_training_counts_what_is_left(run: RunDirectory, recipe: Recipe, clock: Clock) -> None:
    with LiveResults(run, recipe, pictures=False) as watched:
        watched.step(finished(recipe, 2), 0, 50, 1.0, 0.6)
        clock.now += 10
        watched.step(finished(recipe, 3), 0, 50, 1.0, 0.6)
        assert live(run)["seconds_left"] == pytest.approx(10)


@pytest.mark.parametrize(("cost", "most"), [(0.0, 101), (0.01, 34)])
def test_it_is_written_once_a_second_at_most_and_less_where_that_takes_long(
    run: RunDirectory, recipe: Recipe, clock: Clock, cost: float, most: int
) -> None:
    clock.cost = cost
    history = finished(recipe, 0)
    with LiveResults(run, recipe, pictures=False) as watched:
        for step in range(10_000):
            clock.now += 0.01
            watched.step(history, step, 10_000, 1.0, 0.5)
        assert most - 2 <= clock.written <= most


@pytest.mark.parametrize(("cost", "most"), [(0.1, 10), (1.5, 2)])
def test_the_picture_is_drawn_once_a_minute_at_most(
    run: RunDirectory, recipe: Recipe, clock: Clock, cost: float, most: int
) -> None:
    history = finished(recipe, 2)
    with LiveResults(run, recipe, pictures=True) as watched:
        for _ in range(60):
            clock.cost = 0.0
            clock.now += 10
            clock.cost = cost
            watched.epoch(history)
        assert 1 <= clock.drawn <= most


def test_without_pictures_nothing_is_drawn(run: RunDirectory, recipe: Recipe, clock: Clock) -> None:
    with LiveResults(run, recipe, pictures=False) as watched:
        clock.now += 1000
        watched.epoch(finished(recipe, 1))
    assert clock.drawn == 0


def test_the_picture_is_the_one_of_the_end(run: RunDirectory, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "DRAW_EVERY_S", 0.0)
    with LiveResults(run, recipe, pictures=True) as watched:
        watched.epoch(finished(recipe, 2))
    assert (run.results / "training_history.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Interrupted("stopped", signal.SIGTERM), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (ValueError(), "failed"),
    ],
)
def test_how_it_ended(run: RunDirectory, recipe: Recipe, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), LiveResults(run, recipe, pictures=False):
        raise error
    assert live(run)["status"] == status


def test_what_an_earlier_command_left_is_replaced_at_once(run: RunDirectory, recipe: Recipe) -> None:
    files.write_json(run.results / "live.json", {"status": "interrupted"})
    with LiveResults(run, recipe, pictures=False):
        assert (live(run)["status"], live(run)["steps_per_epoch"]) == ("training", 0)


def test_a_full_disk_does_not_end_a_training(
    run: RunDirectory, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(monitoring.files, "replace_json", full)
    with LiveResults(run, recipe, pictures=False) as watched:
        watched.step(finished(recipe, 0), 1, 50, 2.3, 0.1)


def test_a_look_that_writes_nothing_costs_microseconds(run: RunDirectory, recipe: Recipe) -> None:
    history = finished(recipe, 3)
    with LiveResults(run, recipe, pictures=False) as watched:
        watched.step(history, 0, 50, 1.0, 0.5)
        began = time.process_time()
        for _ in range(10_000):
            watched.step(history, 1, 50, 1.0, 0.5)
        assert time.process_time() - began < 0.2  # 20 µs each, on a machine of any speed
