"""What `evaluate` does to the run that it judges; its figures are in test_evaluating.py and test_metrics.py."""

from pathlib import Path

import pytest

import machine
import peregrine
import photo_runs
import tiny
from peregrine import files
from peregrine.catalog import CATALOG, Entry
from peregrine.errors import MissingDependency, UsageError
from peregrine.rundir import RunDirectory


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_runs.pictures(tmp_path / "photos", seed=0)


@pytest.fixture
def run(tmp_path: Path, photos: Path) -> RunDirectory:
    return photo_runs.run(tmp_path / "run", photos)


def test_it_is_in_the_runs_record(run: RunDirectory) -> None:
    peregrine.evaluate(run.path)
    peregrine.evaluate(run.artifact_path("onnx"), split="validation")
    verbs = [(verb["verb"], verb["status"]) for verb in run.read()["verbs"]]
    assert verbs == [("evaluate", "done")] * 2
    assert run.read()["status"] == "done"


def test_nobody_else_writes_meanwhile(run: RunDirectory) -> None:
    for target in (run.path, run.artifact_path("onnx")):
        with run.lock(), pytest.raises(UsageError, match="run is being written by another process; wait for it or"):
            peregrine.evaluate(target)
    assert run.read()["verbs"] == []


def test_an_export_without_what_trained_the_model(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine with ONNX Runtime alone, to which a run was copied that nobody evaluated."""
    run = photo_runs.run(tmp_path / "run", photos)
    made = run.ancestor()
    run.artifact_path("onnx").rename(tmp_path / "aside")
    ancestor = tiny.artifact(run.artifact_path("torch"), "torch", recipe=made.manifest.recipe)
    photo_runs.write(
        run.artifact_path("onnx"), 0, recipe=made.manifest.recipe, parent=ancestor.id, ancestor=ancestor.id
    )
    monkeypatch.setitem(CATALOG["runtime"], "torch", Entry("no_such_library:TorchRuntime", "torch"))
    result = peregrine.evaluate(run.artifact_path("onnx"))
    assert (result["images"], result["reject"]) == (36, None)
    with pytest.raises(MissingDependency, match="runtime torch needs the library 'no_such_library'"):
        peregrine.evaluate(run.artifact_path("onnx"), target_accuracy=0.5)
    reject = {"threshold": 0.5, "target_accuracy": 0.9, "chosen_on": "validation"}
    files.write_json(run.results / "inference_results.json", {"reject": {**reject, "coverage": 1.0}})
    judged = peregrine.evaluate(run.artifact_path("onnx"))["reject"]
    assert judged is None or judged["threshold"] == 0.5


@pytest.mark.parametrize("named", ["run", "run/artifacts/onnx", "alone"])
def test_what_can_only_be_read_is_judged_all_the_same(
    tmp_path: Path, photos: Path, run: RunDirectory, caplog: pytest.LogCaptureFixture, named: str
) -> None:
    photo_runs.write(tmp_path / "alone", 0)
    place = tmp_path / named.partition("/")[0]
    with machine.read_only(place):
        result = peregrine.evaluate(tmp_path / named, data=photos if named == "alone" else None, tta="flip")
    assert result["images"] == 36
    told = [message for message in caplog.messages if "no threshold of confidence" not in message]
    assert told == [f"{place} can only be read: what is found is not kept there"]
    assert run.read()["verbs"] == []
    assert not list(run.results.iterdir())
