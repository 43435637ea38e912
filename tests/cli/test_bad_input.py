"""Bad input: one line, the right exit status, and nothing written."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from peregrine.__main__ import run

Invoke = Callable[..., tuple[int, str]]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Run a command in an empty folder; gives the status and the one line that says what is wrong."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def invoke(*arguments: str | Path) -> tuple[int, str]:
        status = run([str(argument) for argument in arguments])
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("peregrine: ")]
        assert len(lines) == (status != 0), lines
        return status, lines[0] if lines else ""

    return invoke


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of ten little images."""
    folder = tmp_path / "photos"
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(10):
            Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name / f"{index}.png")
    return folder


def nothing_written() -> bool:
    return not any(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["train", "--data", "no-such-folder"], 2, ["no-such-folder"]),
        (["train", "--data", "caf\udce9"], 2, [r"caf\udce9", "not"]),
        (["train", "--data", "digits", "--run", "caf\udce9"], 2, [r"caf\udce9", "not"]),
        (["train", "--data", "cifr10"], 2, ["cifr10", "did you mean 'cifar10'"]),
        (["train", "--data", "digits", "--recipe", "sprint-quik"], 2, ["did you mean 'sprint-quick'"]),
        (["train", "--data", "digits", "--set", "epohcs=3"], 2, ["epohcs", "did you mean 'epochs'"]),
        (["train", "--data", "digits", "--set", "optimizer.learnin_rate=3"], 2, ["did you mean 'learning_rate'"]),
        (["train", "--data", "digits", "--set", "model.widhts=[8,8,8]"], 2, ["widhts", "did you mean 'widths'"]),
        (["train", "--data", "digits", "--set", "epochs"], 2, ["key=value", "'epochs'"]),
        (["train", "--data", "digits", "--set", "epochs=0"], 2, ["epochs", "greater than or equal to 1", "got 0"]),
        (["run", "--data", "digits", "--epochs", "0"], 2, ["epochs", "got 0"]),
        (["run", "--data", "digits", "--learning-rate", "-1"], 2, ["learning_rate", "greater than 0", "got -1"]),
        (["run", "--data", "digits", "--epochs", "many"], 2, ["--epochs", "integer", "--help"]),
        (["run", "--data", "digits", "--model-type", "resnet5"], 2, ["--model-type", "resnet5"]),
        (["run", "--data", "digits", "--max-bad", "lots"], 2, ["--max-bad", "lots"]),
        (["run", "--resume"], 2, ["no unfinished run"]),
        (["train", "--resume", "--run", "nowhere"], 2, ["nowhere", "run.json"]),
        (["train", "--resume", "--set", "epochs=3"], 2, ["--resume", "--set"]),
        (["evaluate", "nowhere"], 2, ["nowhere", "nothing is there"]),
        (["evaluate", "nowhere", "--tta", "ful"], 2, ["none, flip, full", "did you mean 'full'"]),
        (["evaluate", "nowhere", "--tta", "full", "--tta-share", "25"], 2, ["such as 25% or 0.25", "got '25'"]),
        (["evaluate", "nowhere", "--tta-share", "0.25"], 2, ["use flip or full"]),
        (["evaluate", "nowhere", "--target-accuracy", "99"], 2, ["such as 99% or 0.99", "got '99'"]),
        (["evaluate", "nowhere", "--target-accuracy", "0%"], 2, ["above 0 and at most 1", "got 0"]),
        (["export", "nowhere", "--to", "onnx"], 2, ["nowhere"]),
        (["benchmark", "nowhere"], 2, ["nowhere"]),
        (["benchmark", "nowhere", "--scenario", "offlin"], 2, ["single-stream, offline, server", "mean 'offline'"]),
        (["best", "nowhere"], 2, ["nowhere", "nothing is there"]),
        (["best", "nowhere", "--objective", "latnecy"], 2, ["throughput, latency, size", "did you mean 'latency'"]),
        (["best", "nowhere", "--min-accuracy", "many"], 2, ["--min-accuracy is a share such as 90% or 0.9", "many"]),
        (["best", "nowhere", "--min-accuracy", "0"], 2, ["--min-accuracy", "above 0"]),
        (["best", "nowhere", "--max-size-mb", "-1"], 2, ["--max-size-mb is more than 0 megabytes; got -1"]),
        (["compare", "nowhere", "nowhere"], 2, ["nowhere", "nothing is there"]),
        (["compare", "nowhere"], 2, ["two runs or artifacts, or more; got 1"]),
        (["predict", "nowhere", "--sample", "3"], 2, ["nowhere"]),
        (["predict", "nowhere"], 2, ["images or --sample"]),
        (["report", "nowhere"], 2, ["nowhere"]),
        (["data", "stats", "no-such-folder"], 2, ["no-such-folder"]),
        (["fly"], 2, ["no such command", "fly"]),
        (["train", "--colour", "red"], 2, ["--colour"]),
    ],
)
def test_one_line_and_the_right_status(invoke: Invoke, arguments: list[str], status: int, words: list[str]) -> None:
    found, message = invoke(*arguments)
    assert found == status, message
    for word in words:
        assert word in message
    assert nothing_written()


def test_a_class_without_images(invoke: Invoke, photos: Path) -> None:
    (photos / "bird").mkdir()
    status, message = invoke("train", "--data", photos)
    assert status == 2
    assert "bird" in message
    assert nothing_written()


def test_one_class_only(invoke: Invoke, photos: Path) -> None:
    shutil.rmtree(photos / "dog")
    status, message = invoke("train", "--data", photos)
    assert status == 2
    assert "two" in message
    assert nothing_written()


def test_text_named_jpg_is_told_by_name(invoke: Invoke, photos: Path) -> None:
    (photos / "cat" / "notes.jpg").write_text("I am not a cat")
    status, message = invoke("train", "--data", photos)
    assert status == 1
    assert "notes.jpg" in message
    assert "--max-bad" in message
    assert nothing_written()


def test_truncated_cifar_batch(invoke: Invoke, tmp_path: Path) -> None:
    folder = tiny_cifar(tmp_path / "cifar")
    batch = folder / "data_batch_3.bin"
    batch.write_bytes(batch.read_bytes()[:-7])
    status, message = invoke("train", "--data", folder)
    assert status == 1
    assert "data_batch_3.bin" in message
    assert nothing_written()


def test_malicious_pickle_is_not_run(invoke: Invoke, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "attacked"),)

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [name.encode() for name in CLASSES]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}))
    for batch in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        (folder / batch).write_bytes(pickle.dumps({b"data": Attack(), b"labels": [0, 1]}))
    status, message = invoke("train", "--data", folder)
    assert status == 1
    assert "data_batch_1" in message
    assert not (tmp_path / "attacked").exists()
    assert nothing_written()


def test_existing_run_is_left_alone(invoke: Invoke) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    status, message = invoke("train", "--data", "digits", "--run", "mine")
    assert status == 2
    assert "mine" in message
    assert [entry.name for entry in Path("mine").iterdir()] == ["thesis.txt"]


def test_run_below_a_file(invoke: Invoke) -> None:
    Path("file").write_text("")
    status, message = invoke("train", "--data", "digits", "--run", "file/run")
    assert status == 2
    assert "file" in message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_full_disk(invoke: Invoke, small_disk: Path) -> None:
    status, message = invoke("train", "--data", "digits", "--set", "epochs=1", "--run", small_disk / "run")
    assert status == 4, message
    assert "disk is full" in message
    whole = (small_disk / "run" / "run.json").read_text()
    assert whole.endswith("}\n")


def test_read_only_disk(invoke: Invoke, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    status, message = invoke("train", "--data", "digits", "--set", "epochs=1", "--run", small_disk / "run")
    assert status == 4
    assert str(small_disk) in message


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "peregrine", "evaluate", "nowhere", "--debug"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def tiny_cifar(parent: Path) -> Path:
    """The official binary layout with twenty images in each batch."""
    folder = parent / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for batch in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        labels = np.arange(20, dtype=np.uint8)[:, None] % 10
        records = np.hstack([labels, random.integers(0, 256, (20, 3072), np.uint8)])
        (folder / f"{batch}.bin").write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n")
    return folder
