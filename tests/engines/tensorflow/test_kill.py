"""A run that is killed in the middle goes on to the same end."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import machine
import small_runs
from peregrine.engines.tensorflow.checkpoint import load_model
from peregrine.engines.tensorflow.engine import TensorFlowEngine

pytestmark = pytest.mark.tensorflow

SCRIPT = """
import sys
from pathlib import Path
import small_runs
from peregrine.engines.tensorflow.engine import TensorFlowEngine
job = small_runs.job("tensorflow", Path(sys.argv[1]), {"epochs": 6})
print("begins", flush=True)
TensorFlowEngine().train(job)
"""


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "seconds": 0, "images_per_s": 0} for row in rows]


def test_killed_runs_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(small_runs.__file__).parent))
    states = tmp_path / "killed" / "checkpoints" / "resume"
    with machine.started(SCRIPT, tmp_path / "killed") as process:
        while not list(states.glob("[0-9]*/checksums.json")) and process.poll() is None:
            time.sleep(0.005)
        machine.kill(process)
    job = small_runs.job("tensorflow", tmp_path / "killed")
    with job.run.lock():  # sweeps what was left unfinished
        resumed = TensorFlowEngine().train(job)
    straight = TensorFlowEngine().train(small_runs.job("tensorflow", tmp_path / "straight", {"epochs": 6}))
    assert timeless(resumed.history) == timeless(straight.history)
    first, second = load_model(resumed.checkpoint), load_model(straight.checkpoint)
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
