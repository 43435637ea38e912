"""Two ranks of one run, as torchrun starts them: the first alone writes, and a lost one costs little."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from peregrine import host
from peregrine.__main__ import run

pytestmark = [pytest.mark.torch, pytest.mark.timeout(200)]
EPOCHS = 12
RECIPE = f"""
engine = "pytorch"
epochs = {EPOCHS}
batch_size = 64
precision = "fp32"
[model]
name = "sprint"
widths = [4, 8]
[input]
size = 8
[optimizer]
name = "muon"
[callbacks]
tensorboard = false
"""
BEGIN = ("--data", "digits", "--recipe", "tiny.toml", "--run", "run")


@contextmanager
def started(folder: Path, *arguments: str, restarts: int = 0) -> Iterator["subprocess.Popen[str]"]:
    """`peregrine train` on two ranks."""
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "tmp").mkdir(exist_ok=True)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", str(restarts), "-m", "--"]
    process = subprocess.Popen(
        [sys.executable, *launcher, "peregrine", "train", *arguments],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    ranks: list[int] = []
    try:
        yield process
    finally:
        ranks = children(process.pid) if process.poll() is None else []
        process.kill()
        for pid in ranks:
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def rank(process: "subprocess.Popen[str]", number: int) -> int:
    """The process of a rank."""
    for child in children(process.pid):
        if f"\0RANK={number}\0".encode() in b"\0" + Path(f"/proc/{child}/environ").read_bytes():
            return child
    raise AssertionError("no such rank")


def wait_for_epochs(process: "subprocess.Popen[str]", folder: Path, count: int) -> None:
    deadline = time.monotonic() + 100
    while len(epochs(folder)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def epochs(folder: Path) -> list[int]:
    """What the run's CSV has."""
    rows = []
    for log in (folder / "run/logs").glob("training_log_*.csv"):
        with log.open() as file:
            rows += [int(row["epoch"]) for row in csv.DictReader(file)]
    return rows


def go_on_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resume in this process, to the end."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(host, "threads", lambda: 1)
    assert run(["train", "--resume", "--run", "run"]) == 0
    assert epochs(folder) == list(range(1, EPOCHS + 1))


def test_a_lost_rank_ends_the_run_and_another_number_of_ranks_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(tmp_path, *BEGIN) as process:
        wait_for_epochs(process, tmp_path, 1)
        os.kill(rank(process, 1), signal.SIGKILL)
        killed = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - killed < 20  # most of it torchrun's; seconds on a quiet machine
    assert process.returncode == 1
    assert "peregrine: a worker of this run is gone; start all of them again with --resume --run run\n" in errors
    assert "exitcode  : 4 " in errors
    assert "a bug of ours" not in errors
    assert 1 <= len(epochs(tmp_path)) < EPOCHS
    go_on_alone(tmp_path, monkeypatch)


@pytest.mark.slow
def test_torchrun_starts_lost_ranks_again_and_they_go_on(tmp_path: Path) -> None:
    with started(tmp_path, *BEGIN, restarts=1) as process:
        wait_for_epochs(process, tmp_path, 2)
        os.kill(rank(process, 1), signal.SIGKILL)
        out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert "a worker of this run is gone" in errors
    assert f"run: {EPOCHS} epochs in" in out
    assert "worker 1 is done; the run is where worker 0 was started" in out
    assert epochs(tmp_path) == list(range(1, EPOCHS + 1))
    assert errors.count("epoch 1: loss") == 1  # nothing was trained twice, and the second rank says nothing
    assert {entry.name for entry in tmp_path.iterdir()} == {"tiny.toml", "run", "tmp"}


@pytest.mark.slow
def test_a_request_to_stop_reaches_all_ranks_and_they_go_on_later(tmp_path: Path) -> None:
    with started(tmp_path, *BEGIN) as process:
        wait_for_epochs(process, tmp_path, 1)
        os.kill(rank(process, 1), signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert_all_stopped(errors)
    assert "exitcode  : 143 " in errors
    with started(tmp_path, "--resume", "--run", "run") as process:
        _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert epochs(tmp_path) == list(range(1, EPOCHS + 1))


@pytest.mark.slow
def test_a_request_to_torchrun_itself_ends_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(tmp_path, *BEGIN, restarts=1) as process:  # which it does not use then
        wait_for_epochs(process, tmp_path, 1)
        ranks = children(process.pid)
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert_all_stopped(errors)
    assert len(ranks) >= 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    go_on_alone(tmp_path, monkeypatch)


def assert_all_stopped(errors: str) -> None:
    assert errors.count("stopped by SIGTERM: saved after step ") == 2
    assert errors.count("go on with: peregrine train --resume --run run\n") == 2
    assert "a bug of ours" not in errors


def test_what_torchrun_cannot_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_MAX_RESTARTS": "3"}.items():
        monkeypatch.setenv(name, value)
    assert run(["train", "--data", "digits"]) == 2
    assert "torchrun --max-restarts goes on with a run by its folder; give --run PATH" in capsys.readouterr().err
    assert run(["train", "--data", "digits", "--recipe", "cnn", "--run", "new"]) == 2
    assert "torchrun starts the processes of the engine pytorch; got a recipe for tensorflow" in capsys.readouterr().err
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}')
    assert run(["train", "--data", "digits"]) == 2
    assert "TF_CONFIG starts the workers of the engine tensorflow; got a recipe for pytorch" in capsys.readouterr().err
