"""Stopping a run from outside: Ctrl-C, SIGTERM, SIGKILL; and going on with it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.xdist_group("stopping")]
pytest.importorskip("torch", reason="the digits recipe trains with PyTorch")

COMMAND = [sys.executable, "-m", "peregrine"]
EPOCHS = 16


def start(folder: Path, verb: str, *arguments: str) -> "subprocess.Popen[str]":
    """A run that lasts for seconds, and that Ctrl-C stops even if these tests run in a shell's background."""
    command = [*COMMAND, verb, "--data", "digits", "--run", "r", "--set", f"epochs={EPOCHS}", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(there: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 90
    while not there():
        if process.poll() is not None:
            pytest.fail(f"the run ended by itself: {process.communicate()[1]}")
        assert time.monotonic() < end, "the run did not get that far in 90 s"
        time.sleep(0.05)


def training_has_begun(folder: Path) -> Callable[[], bool]:
    return lambda: (folder / "r" / "checkpoints" / "latest_model.safetensors").exists()


def resume(folder: Path, verb: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, verb, "--resume", "--run", "r"], cwd=folder, capture_output=True, text=True)


def history(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "r" / "results" / "training_history.json").read_text())
    return rows


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_polite_signal_saves(tmp_path: Path, signum: signal.Signals, status: int) -> None:
    process = start(tmp_path, "train")
    wait_for(training_has_begun(tmp_path), process)
    asked = time.monotonic()
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=20)
    assert time.monotonic() - asked < 10
    assert process.returncode == status, stderr
    assert "--resume" in stderr.splitlines()[-1]
    assert "interrupted" in json.loads((tmp_path / "r" / "run.json").read_text())["status"]

    ended = resume(tmp_path, "train")
    assert ended.returncode == 0, ended.stderr
    assert [row["epoch"] for row in history(tmp_path)] == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize(
    ("signum", "status", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_a_signal_clears_up_after_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals, status: int, name: str
) -> None:
    """Nothing saves then: the worker is gone, the copies of the images are, and the run says what happened."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    process = start(tmp_path, "run", "--set", "epochs=1")
    wait_for((tmp_path / "r" / "logs" / "worker-export-torch_to_onnx.log").exists, process)
    assert list((tmp_path / "r" / "cache").glob(".tmp-*/images.npy"))
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == status, stderr
    assert stderr.splitlines()[-1] == f"peregrine: stopped by {name}"
    assert not list(temporary.glob("peregrine-*"))
    assert not list((tmp_path / "r").rglob(".tmp-*"))
    content = json.loads((tmp_path / "r" / "run.json").read_text())
    assert content["status"] == "run: interrupted"
    ended = {verb["verb"]: verb["status"] for verb in content["verbs"]}
    assert ended == {"train": "done", "run": "interrupted", "evaluate": "done", "export": "interrupted"}


def test_a_killed_pipeline_goes_on(tmp_path: Path) -> None:
    """Killed while it trains, and again while it exports; listed and readable each time."""
    process = start(tmp_path, "run")
    wait_for(training_has_begun(tmp_path), process)
    process.kill()
    process.communicate()
    listed = subprocess.run([*COMMAND, "runs", ".", "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert json.loads(listed.stdout.splitlines()[-1])["runs"][0]["status"] == "train: killed"

    process = subprocess.Popen(
        [*COMMAND, "run", "--resume", "--run", "r"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((tmp_path / "r" / "logs" / "worker-export-torch_to_onnx.log").exists, process)
    process.kill()
    process.communicate()

    ended = resume(tmp_path, "run")
    assert ended.returncode == 0, ended.stderr
    assert "trained already" in ended.stderr
    assert [row["epoch"] for row in history(tmp_path)] == list(range(1, EPOCHS + 1))
    assert (tmp_path / "r" / "report.html").is_file()
    assert not list((tmp_path / "r").rglob(".tmp-*"))


def test_two_writers(tmp_path: Path) -> None:
    process = start(tmp_path, "train")
    wait_for(training_has_begun(tmp_path), process)
    second = resume(tmp_path, "train")
    process.kill()
    process.communicate()
    assert second.returncode == 2
    assert "another process" in second.stderr.splitlines()[-1]
