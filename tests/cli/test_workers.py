"""Two workers of one run, as real processes: the first alone writes, a lost one is named, and all go on together."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
RECIPE = """
engine = "tensorflow"
epochs = 30
batch_size = 64
[model]
name = "cnn"
widths = [8]
dense = [16]
[input]
size = 8
[callbacks]
tensorboard = false
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def start(folder: Path, *arguments: str) -> list["subprocess.Popen[str]"]:
    """Both workers, each with a folder of its own for temporary files."""
    cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(2)]}
    started = []
    for index in range(2):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        private = folder / f"tmp{index}"
        private.mkdir(exist_ok=True)
        started.append(subprocess.Popen(
            [sys.executable, "-m", "peregrine", "train", "--run", "run", *arguments],
            cwd=folder, env={**os.environ, "TF_CONFIG": config, "TMPDIR": str(private)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ))  # fmt: skip
    return started


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    try:
        out, errors = process.communicate(timeout=100)
    finally:
        process.kill()
    return process.returncode, out, errors


@pytest.mark.timeout(400)
def test_a_lost_worker_is_named_and_the_run_goes_on_with_both(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    states = tmp_path / "run" / "checkpoints" / "resume"
    first, second = start(tmp_path, "--data", "digits", "--recipe", "tiny.toml")
    try:
        deadline = time.monotonic() + 100
        while not (states.is_dir() and any(states.glob("[0-9]*/checksums.json"))) and time.monotonic() < deadline:
            assert first.poll() is None, first.communicate()
            time.sleep(0.05)
        second.kill()
        code, _, errors = finish(first)
    finally:
        first.kill()
        second.kill()
    second.communicate()
    assert code == 4, errors[-2000:]
    assert "a worker of this run is gone; start all of them again with --resume --run run" in errors

    ended: list[Any] = [finish(process) for process in start(tmp_path, "--resume")]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "run: 30 epochs in" in ended[0][1]
    assert ended[1][1].strip() == "worker 1 is done; the run is where worker 0 was started"
    (log,) = (tmp_path / "run" / "logs").glob("training_log_*.csv")
    with log.open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, 31))
    assert {entry.name for entry in tmp_path.iterdir()} == {"tiny.toml", "run", "tmp0", "tmp1"}
    assert not list((tmp_path / "tmp1").glob("peregrine-worker-1-*/run/results/training_summary.json"))
