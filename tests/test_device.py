"""`PEREGRINE_DEVICE`: who computes arrays and tables, and what is said where the GPU cannot."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import places
import stand_ins
from peregrine import arrays, device, host
from peregrine.catalog import CATALOG
from peregrine.errors import MissingDependency, MissingDevice, UsageError

TASKS = sorted(device.PAYS_FROM)
LARGE = 10**15


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What other tests set and found is not known here, nor what is found here there."""
    monkeypatch.delenv(device.VARIABLE, raising=False)
    device._find.cache_clear()
    device._warn.cache_clear()
    yield
    device._find.cache_clear()
    device._warn.cache_clear()


def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_gpu", lambda: None)


@pytest.mark.parametrize("task", TASKS)
def test_small_tasks_are_the_cpus_and_nothing_is_looked_for(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_for() -> None:
        raise AssertionError("the driver was asked")

    monkeypatch.setattr(host, "find_gpu", looked_for)
    assert arrays.choose(task, device.PAYS_FROM[task] - 1) is arrays.CPU
    monkeypatch.setenv(device.VARIABLE, "cpu")
    assert arrays.choose(task, LARGE) is arrays.CPU


@pytest.mark.parametrize("task", TASKS)
def test_auto_takes_the_gpu_from_the_size_on_where_it_pays(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    places.pretend_gpu(monkeypatch, setting="auto")
    least = device.PAYS_FROM[task]
    assert [device.serving("arrays", task, amount) for amount in (least - 1, least)] == [None, stand_ins]
    assert arrays.choose(task, least).name == "cuda"


def test_cuda_takes_it_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    places.pretend_gpu(monkeypatch)
    assert device.serving("tables", "grouping", 1) is stand_ins


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    without_gpu(monkeypatch)
    assert arrays.choose("statistics", LARGE) is arrays.CPU
    assert not caplog.records
    monkeypatch.setenv(device.VARIABLE, "cuda")
    for kind in device.KINDS:
        with pytest.raises(MissingDevice) as caught:
            device.serving(kind, "grouping", 1)
        assert str(caught.value) == (
            "PEREGRINE_DEVICE=cuda needs an NVIDIA GPU and its driver; found none; use cpu or auto"
        )


def test_without_the_libraries(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    places.pretend_gpu(monkeypatch, module="no_such_library", setting="auto")
    assert arrays.choose("statistics", LARGE) is arrays.CPU
    assert not caplog.records, "a machine may have a GPU and no wish to use it for this"
    monkeypatch.setenv(device.VARIABLE, "cuda")
    with pytest.raises(MissingDependency) as caught:
        arrays.choose("statistics", 1)
    assert str(caught.value) == (
        "arrays cuda needs the library 'no_such_library', which is not installed; run: pip install 'peregrine[rapids]'"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("raise ImportError('\\n====\\nFailed to import CuPy.\\n\\n  ImportError: libcudart.so.13: no such file\\n')",
         "ImportError: libcudart.so.13: no such file"),
        ("def check():\n    raise RuntimeError('cudaErrorInsufficientDriver: driver is too old')",
         "cudaErrorInsufficientDriver: driver is too old"),
        ("def check():\n    raise RuntimeError from OSError('')", "OSError"),
    ],
)  # fmt: skip
def test_a_library_that_is_broken(
    content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`auto` goes on without it, and says so once; `cuda` does not."""
    (tmp_path / "broken_cupy.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_cupy", raising=False)
    places.pretend_gpu(monkeypatch, module="broken_cupy", setting="auto")
    told = f"CuPy is installed and cannot use the GPU: {said}; PEREGRINE_DEVICE=cpu does without"
    with caplog.at_level(logging.WARNING, logger="peregrine"):
        assert arrays.choose("statistics", LARGE) is arrays.CPU
        assert arrays.choose("packing", LARGE) is arrays.CPU
    assert [record.getMessage() for record in caplog.records] == [f"arrays are computed on the CPU: {told}"]
    monkeypatch.setenv(device.VARIABLE, "cuda")
    with pytest.raises(MissingDevice) as caught:
        arrays.choose("statistics", 1)
    assert str(caught.value) == told


def test_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.VARIABLE, "gpu")
    with pytest.raises(UsageError, match=r"^PEREGRINE_DEVICE is cpu, cuda or auto; got 'gpu'$"):
        arrays.choose("statistics", 1)


def test_every_kind_has_a_library_on_either_device() -> None:
    for kind, name in device.KINDS.items():
        assert CATALOG[kind]["cuda"].target == f"peregrine.libraries.{name.lower()}"
        assert CATALOG[kind]["cuda"].extra == "rapids"


# ---- what the doctor tells ------------------------------------------------------------------------------------------


def test_described(monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu(monkeypatch)
    nowhere = "there is no NVIDIA GPU, or no driver of it"
    told = device.describe()
    assert (told["setting"], told["gpu"]) == ("auto", None)
    assert told["arrays"] == told["tables"] == {"device": "cpu", "reason": nowhere}
    monkeypatch.setenv(device.VARIABLE, "cuda")
    assert device.describe()["arrays"] == {"device": "none", "reason": nowhere}
    places.pretend_gpu(monkeypatch, setting="auto")
    told = device.describe()
    assert (told["gpu"], told["arrays"]) == ("Pretended", {"device": "cuda", "reason": "where it is faster"})
    monkeypatch.setenv(device.VARIABLE, "cpu")
    assert device.describe()["tables"] == {"device": "cpu", "reason": "PEREGRINE_DEVICE=cpu"}


def peregrine(*arguments: str, setting: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, device.VARIABLE: setting, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "peregrine", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_line_says_it_in_one_line() -> None:
    ended = peregrine("data", "stats", "digits", setting="cuda")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.splitlines()[-1].endswith(
        "PEREGRINE_DEVICE=cuda needs an NVIDIA GPU and its driver; found none; use cpu or auto"
    )
    assert "Traceback" not in ended.stderr


def test_the_doctor_tells_it() -> None:
    ended = peregrine("doctor", "--json", setting="auto")
    assert "arrays and tables on the CPU: there is no NVIDIA GPU, or no driver of it\n" in ended.stdout
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["computing"]["arrays"]["device"] == "cpu"
    assert "rapids" not in told["extras"], "nobody is asked to install what cannot be used"
