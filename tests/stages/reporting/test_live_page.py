"""The page of a run that is being trained, or whose training was stopped."""

from pathlib import Path

import pytest

from peregrine import files
from report_making import fill, history, new_run, page_of


def live(**changes: object) -> dict[str, object]:
    return {
        "schema": 1, "status": "training", "started": "2026-11-22T10:00:00Z", "updated": "2026-11-22T10:03:20Z",
        "epoch": 3, "epochs": 8, "step": 20, "steps_per_epoch": 450, "progress": 0.2556, "loss": 1.234,
        "accuracy": 0.61, "seconds": 200.0, "seconds_left": 582.4, "validation": 0.1, "best_epoch": 2,
        "history": history(2), **changes,
    }  # fmt: skip


def test_a_training_that_goes_on_is_shown_as_it_is(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    files.write_json(run.results / "live.json", live())
    with run.lock(), run.verb("train"):
        page = page_of(run)
    assert "This run is being trained: it is in epoch 3 of 8, with about 9 min 42 s left." in page.section("summary")
    training = page.section("training")
    assert "Epoch 3 of 8, step 20 of 450. About 9 min 42 s left." in training
    assert "Done 25.6% Training loss 1.234 Training accuracy 61.0% Validation accuracy 65.0%" in training
    assert "epoch 2, best so far" in training
    assert "Go on with" not in training


def test_a_training_before_its_first_look_has_a_page(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    files.write_json(
        run.results / "live.json",
        live(
            epoch=1,
            loss=None,
            accuracy=None,
            seconds_left=None,
            best_epoch=None,
            history=[],
            progress=0.0,
            step=0,
            steps_per_epoch=0,
        ),
    )
    assert "Epoch 1 of 8: data and model are made ready. 0.0% Done 0.0% As of" in page_of(run).section("training")


@pytest.mark.parametrize(("status", "word"), [("interrupted", "interrupted"), ("training", "killed")])
def test_a_training_that_was_stopped_says_how_to_go_on(tmp_path: Path, status: str, word: str) -> None:
    run = new_run(tmp_path / "run")
    files.write_json(run.results / "live.json", live(status=status))
    run.update(status="train: running" if word == "killed" else "train: interrupted")
    training = page_of(run).section("training")
    assert f"Training was {word} in epoch 3 of 8." in training
    assert f"Go on with: peregrine train --resume --run {run.path}" in training


def test_a_finished_training_is_told_by_its_summary(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    fill(run)
    files.write_json(run.results / "live.json", live(status="done"))
    assert "step 20 of 450" not in page_of(run).html


@pytest.mark.parametrize("epochs", [1, 1_000])
def test_few_epochs_and_many(tmp_path: Path, epochs: int) -> None:
    run = new_run(tmp_path / "run")
    fill(run)
    files.write_json(run.results / "training_history.json", history(epochs))
    page = page_of(run)
    points = [e for e in page.all("circle") if "point" in (e.attributes.get("class") or "").split()]
    assert points
    assert f"in epoch {epochs}" in page.section("training")
    assert len(page.html) < 800_000
