"""SIGKILL at any moment: what is on disk stays readable, and the resumed run ends with the same bits."""

import csv
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
from safetensors.numpy import load_file

from peregrine import files
from peregrine.engines import resume
from peregrine.rundir import RunDirectory

pytestmark = pytest.mark.torch
KILLS = 3
TRAINING_S = 1.5  # over which the kills spread; less than the run takes

# Trains in the folder that is given, or goes on with what is there; saves after every step, to be killed while saving.
PROCESS = """
import sys
from pathlib import Path
import numpy as np
from peregrine import host
from peregrine.dataset import Dataset, Splits
from peregrine.engines.pytorch import train as loop
from peregrine.recipe import Recipe
from peregrine.stages.training import train

host.threads = lambda: 1
loop.SAVE_EVERY_S = 0.0
parts = []
for count, seed in ((500, 0), (60, 1)):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), np.uint8)
    labels = (pixels[:, 4:8, 4:8, 0].mean((1, 2)) > 127).astype(np.int64)
    parts.append(Dataset(pixels, labels, np.arange(count).astype(str), ("dark", "light")))
recipe = Recipe.model_validate({
    "schema": 1, "name": "tiny", "engine": "pytorch", "epochs": 5, "batch_size": 32, "precision": "fp32",
    "model": {"name": "sprint", "widths": [16, 32]}, "input": {"growth": [[0.5, 10]]},
    "augmentation": {"flip": "alternating", "translate": 2},
    "optimizer": {"name": "muon"}, "schedule": {"name": "linear"},
})
run = Path(sys.argv[1])
train(Splits(parts[0], None, parts[1]), recipe, run=run, resume=(run / "run.json").is_file())
"""


def start(run: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", PROCESS, str(run)])


def wait_for_news(process: "subprocess.Popen[bytes]", run: Path, pattern: str) -> None:
    """Until paths that match have come or gone, or the process is done."""
    before = set(run.glob(pattern))
    while process.poll() is None and set(run.glob(pattern)) == before:
        time.sleep(0.01)


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
        assert newest.content["step"] + newest.content["epoch"] * 14 == int(newest.folder.name)
    for checkpoint in directory.checkpoints.glob("[bl]*_model.safetensors"):
        assert load_file(checkpoint)


def numbers(run: Path) -> list[dict[str, Any]]:
    """The history without what a clock says."""
    history = files.read_json(run / "results/training_history.json")
    return [{key: row[key] for key in row if key not in ("seconds", "images_per_s")} for row in history]


def test_killed_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert start(straight).wait() == 0
    moments = random.Random(20)
    for number in range(KILLS):
        process = start(killed)
        # The first dies before it could save anything, the others somewhere in training, saving or judging.
        wait_for_news(process, killed, "run.json" if number == 0 else "checkpoints/resume/0*")
        time.sleep(moments.uniform(0, 0.1 if number == 0 else TRAINING_S / KILLS))
        process.kill()
        process.wait()
        assert_readable(killed)
    assert start(killed).wait() == 0
    model = "artifacts/torch/model.safetensors"
    assert (killed / model).read_bytes() == (straight / model).read_bytes()
    assert numbers(killed) == numbers(straight)
    (log,) = (killed / "logs").glob("*.csv")
    with log.open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5"]
