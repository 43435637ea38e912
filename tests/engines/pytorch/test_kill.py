"""SIGKILL at any moment: what is on disk stays readable, and the resumed run ends with the same bits."""

import csv
import multiprocessing
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
from safetensors.numpy import load_file

import killed_run
from peregrine import files, host
from peregrine.engines import resume
from peregrine.rundir import RunDirectory

pytestmark = pytest.mark.torch
STEP_S = 0.03  # longer than a step of the tiny run: a kill comes so long after a state was saved, at most
WIDTHS = [32, 128, 256]  # those of sprint-quick

TINY: dict[str, Any] = {
    "size": 12,
    "threads": 1,
    "changes": {"model": {"name": "sprint", "widths": [16, 32]}, "input": {"growth": [[0.5, 10]]}, "precision": "fp32"},
}
REAL: dict[str, Any] = {
    "size": 32,
    "threads": 2,
    "changes": {"model": {"name": "sprint", "widths": WIDTHS}, "input": {"growth": [[0.5, 24]]}, "precision": "bf16"},
}

# A process of its own for each run, forked from one that has imported PyTorch, which takes longer than the run.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["killed_run", "peregrine.stages.training", "peregrine.engines.pytorch.engine"])


@pytest.fixture(autouse=True)
def patient_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait by spinning take the only core from the one that works, where a test is given one core."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")


def start(run: Path, settings: dict[str, Any]) -> BaseProcess:
    process = FORKS.Process(target=killed_run.train_in, args=(run,), kwargs=settings, daemon=True)
    process.start()
    return process


def end(process: BaseProcess) -> int | None:
    process.join()
    return process.exitcode


def steps_saved(run: Path) -> int:
    """Of the newest resume state; -1 before the first."""
    return max((int(state.name) for state in (run / "checkpoints" / "resume").glob("0*")), default=-1)


def assert_readable(run: Path) -> None:
    """Everything that a later process builds on is there and whole, or not there."""
    directory = RunDirectory.open(run)
    assert not directory.overview()["status"].startswith("damaged")
    folder = directory.checkpoints / "resume"
    states = sorted(folder.glob("0*"))
    for state in states[-resume.KEPT :]:  # an older one may be half removed
        for name, record in files.read_json(state / "checksums.json").items():
            assert files.sha256(state / name) == record["sha256"]
    newest = resume.newest(folder)
    assert (newest is None) == (not states)
    if newest is not None:
        assert load_file(newest.folder / "training.safetensors")
        assert newest.content["step"] + newest.content["epoch"] * killed_run.BATCHES == int(newest.folder.name)
    for checkpoint in directory.checkpoints.glob("[bl]*_model.safetensors"):
        assert load_file(checkpoint)


def numbers(run: Path) -> list[dict[str, Any]]:
    """The history without what a clock says."""
    history = files.read_json(run / "results/training_history.json")
    return [{key: row[key] for key in row if key not in ("seconds", "images_per_s")} for row in history]


def kill_and_compare(folder: Path, settings: dict[str, Any], epochs: int, kills: int) -> None:
    """Run straight on, and killed and resumed again and again; both end with the same bits."""
    settings = {**settings, "changes": {**settings["changes"], "epochs": epochs}}
    straight, killed = folder / "straight", folder / "killed"
    began = time.monotonic()
    assert end(start(straight, settings)) == 0
    lasts = time.monotonic() - began
    moments = random.Random(20)
    steps = epochs * killed_run.BATCHES
    for number, step in enumerate(sorted(moments.sample(range(2 * steps // 3), kills))):
        process = start(killed, settings)
        if number == 0:  # before it could save anything
            while not (killed / "run.json").exists() and process.is_alive():
                time.sleep(0.001)
        elif number % 4 == 3:  # while it starts and finds out where it was, or later
            time.sleep(moments.uniform(0, lasts / 4))
        else:  # while it trains, saves or judges
            while steps_saved(killed) < step and process.is_alive():
                time.sleep(0.001)
            time.sleep(moments.uniform(0, STEP_S))
        process.kill()
        assert end(process) == -signal.SIGKILL, f"the run was over before kill {number + 1} of {kills}"
        assert_readable(killed)
    assert end(start(killed, settings)) == 0
    model = "artifacts/torch/model.safetensors"
    assert (killed / model).read_bytes() == (straight / model).read_bytes()
    assert numbers(killed) == numbers(straight)
    (log,) = (killed / "logs").glob("*.csv")
    with log.open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, epochs + 1))


def test_killed_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, TINY, epochs=5, kills=3)


@pytest.mark.slow
def test_runs_killed_twenty_times_end_with_the_same_bits(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, TINY, epochs=8, kills=20)


@pytest.mark.slow
@pytest.mark.skipif(not host.has_bf16(), reason="this CPU has no bfloat16 arithmetic")
def test_two_threads_and_bfloat16_end_with_the_same_bits(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, REAL, epochs=2, kills=3)
