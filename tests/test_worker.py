"""A worker costs its own task and nothing else, however it ends."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from machine import kill, started
from peregrine import worker
from peregrine.errors import CheckFailed, DamagedFile, Interrupted, MachineError, UsageError
from peregrine.worker import Worker

SABOTAGE = """
import ctypes, errno, os, sys, tempfile, time
from peregrine import catalog, errors

def echo(**arguments): return arguments
def leave(): os._exit(7)
def segfault(): ctypes.string_at(0)
def hang(): time.sleep(600)
def hang_in_a_library(): ctypes.PyDLL(None).sleep(600)  # holds the interpreter, so no other thread can run
def raise_(kind): raise getattr(errors, kind)("the rule; got this")
def count(calls=[]): calls.append(1); return len(calls)
def bug(): raise RuntimeError("first line\\nsecond line")
def full(): raise OSError(errno.ENOSPC, "No space left on device", "model.onnx")
def unwritable(): return {1, 2}
def where(): return [os.getcwd(), sys.path[0], os.getpid()]
def litter(seconds):
    tempfile.mkdtemp()
    tempfile.mkstemp()
    time.sleep(seconds)
def shout():
    print("done")
    sys.stdout.write("more without an end")
    os.write(1, b"from below\\n")
    os.system("echo from a child")
    print("to stderr", file=sys.stderr)
    return "heard"
def leave_with_words():
    print("last words")
    os._exit(7)

for name, task in list(globals().items()):
    if callable(task):
        catalog.CATALOG["task"][name.rstrip("_")] = catalog.Entry(f"sitecustomize:{name}")
"""


@pytest.fixture
def sabotaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find more tasks in their catalogue: Python imports `sitecustomize` before anything else."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SABOTAGE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


@pytest.fixture
def process(sabotaged: None, tmp_path: Path) -> Iterator[Worker]:
    with Worker("test", tmp_path / "logs") as process:
        yield process


@pytest.fixture
def predict(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """Arguments of the task `predict` that make sense, and the folder they lie in."""
    artifact = tiny.fake_artifact(tmp_path / "onnx")
    np.save(tmp_path / "images.npy", tiny.images(600, seed=1))
    paths = {"images": str(tmp_path / "images.npy"), "output": str(tmp_path / "answers.npz")}
    return {"candidate": tiny.fake_candidate(artifact).to_dict(), **paths}, tmp_path


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_a_real_task(predict: tuple[dict[str, Any], Path]) -> None:
    arguments, folder = predict
    assert worker.call("prove", folder / "logs", "predict", arguments, 60)["provider"] == "cpu"
    artifact = tiny.fake_artifact(folder / "onnx")
    with np.load(folder / "answers.npz") as answers, tiny.fake_candidate(artifact).open() as runtime:
        assert np.array_equal(answers["probabilities"], runtime.predict(tiny.images(600, seed=1)))
        assert np.array_equal(answers["golden"], artifact.golden().answers["ancestor"])
    assert (folder / "logs" / "worker-prove.log").read_text() == ""


def test_state_is_kept_between_calls(process: Worker) -> None:
    """A benchmarked model stays open over all rounds."""
    assert [process.call("count", {}, 60) for _ in range(3)] == [1, 2, 3]


def test_errors_of_ours_keep_their_class_and_words(predict: tuple[dict[str, Any], Path]) -> None:
    arguments, folder = predict
    with Worker("test", folder / "logs") as process:
        with pytest.raises(UsageError, match=r"^unknown task 'predcit'; did you mean 'predict'?"):
            process.call("predcit", arguments, 60)
        (folder / "onnx" / "model.onnx").write_bytes(b"changed")
        with pytest.raises(
            DamagedFile, match=r"model\.onnx has 7 bytes, its manifest says 20; export the model again$"
        ):
            process.call("predict", arguments, 60)
    assert (folder / "logs" / "worker-test.log").read_text() == ""


@pytest.mark.parametrize("kind", ["RecipeError", "ParityFailed", "MissingDependency", "MissingDevice", "Interrupted"])
def test_every_class_crosses(process: Worker, kind: str) -> None:
    with pytest.raises(Exception, match=r"^the rule; got this$") as caught:
        process.call("raise", {"kind": kind}, 60)
    assert type(caught.value).__name__ == kind
    if isinstance(caught.value, Interrupted):
        assert caught.value.exit_code == 130


def test_errors_of_others_are_one_line_and_their_traceback_is_in_the_log(process: Worker) -> None:
    with pytest.raises(CheckFailed, match=r"^bug failed: RuntimeError: first line$"):
        process.call("bug", {}, 60)
    log = process.log.read_text()
    assert "Traceback" in log
    assert "second line" in log
    with pytest.raises(CheckFailed, match=r"^unwritable failed: TypeError: .* not JSON serializable$"):
        process.call("unwritable", {}, 60)
    with pytest.raises(CheckFailed, match=r"^hang failed: TypeError: .* unexpected keyword argument"):
        process.call("hang", {"longer": True}, 60)


def test_a_full_disk_is_the_machines_fault(process: Worker) -> None:
    with pytest.raises(MachineError, match=r"^cannot read or write model\.onnx: the disk is full; free some space"):
        process.call("full", {}, 60)


@pytest.mark.parametrize(("task", "how"), [("leave", "status 7"), ("segfault", "SIGSEGV")])
def test_a_crash_costs_one_error(process: Worker, task: str, how: str) -> None:
    assert process.call("echo", {"x": [1, "é"]}, 60) == {"x": [1, "é"]}
    with pytest.raises(CheckFailed) as caught:
        process.call(task, {}, 60)
    assert str(caught.value) == f"{task} ended its process ({how}); see {process.log}"
    with pytest.raises(CheckFailed, match=r"^echo was not started: its process has ended before; see "):
        process.call("echo", {}, 60)


def test_a_worker_that_dies_between_two_calls(process: Worker) -> None:
    pid = process.call("where", {}, 60)[2]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(CheckFailed, match=r"echo (ended its process \(SIGKILL\)|was not started)"):
        process.call("echo", {"x": "y" * 1000}, 60)


def test_a_time_limit_ends_the_process(process: Worker) -> None:
    pid = process.call("where", {}, 60)[2]
    start = time.monotonic()
    with pytest.raises(CheckFailed) as caught:
        process.call("hang", {}, 0.3)
    assert time.monotonic() - start < 4
    assert str(caught.value) == f"hang took longer than 0.3 s and was ended; see {process.log}"
    assert gone(pid)
    with pytest.raises(CheckFailed, match=r"^echo was not started: its process has ended before; see "):
        process.call("echo", {}, 60)


def test_a_library_that_holds_the_interpreter_is_ended_too(process: Worker) -> None:
    pid = process.call("where", {}, 60)[2]
    with pytest.raises(CheckFailed, match=r"^hang_in_a_library took longer"):
        process.call("hang_in_a_library", {}, 0.2)
    assert gone(pid)


def test_what_libraries_print_is_logged_and_answers_nothing(process: Worker) -> None:
    assert process.call("shout", {}, 60) == "heard"
    log = process.log.read_text()
    for words in ("done\n", "more without an end", "from below\n", "from a child\n", "to stderr\n"):
        assert words in log
    assert process.call("echo", {"x": 1}, 60) == {"x": 1}


def test_the_last_words_before_a_crash_are_in_the_log(process: Worker) -> None:
    with pytest.raises(CheckFailed, match="status 7"):
        process.call("leave_with_words", {}, 60)
    assert process.log.read_text() == "last words\n"


def test_a_file_in_the_users_folder_is_not_a_library(
    sabotaged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('not numpy')")
    (tmp_path / "peregrine.py").write_text("raise SystemExit('not peregrine')")
    monkeypatch.chdir(tmp_path)
    folder, first, _ = worker.call("test", tmp_path / "logs", "where", {}, 60)
    assert folder == str(tmp_path)
    assert first != str(tmp_path)


def test_logs_of_one_name_are_appended(sabotaged: None, tmp_path: Path) -> None:
    for _ in range(2):
        worker.call("same", tmp_path / "logs", "shout", {}, 60)
    assert (tmp_path / "logs" / "worker-same.log").read_text().count("to stderr") == 2


def test_workers_run_beside_each_other(sabotaged: None, tmp_path: Path) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda name: found.append(worker.call(name, tmp_path, "where", {}, 60)[2]), args=(str(n),)
        )
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 3


@pytest.mark.parametrize("seconds", [0, 600])
def test_temporary_files_of_libraries_go_with_it(
    sabotaged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)  # asks the environment again
    with contextlib.suppress(CheckFailed):  # the second takes longer than its time limit
        worker.call("test", tmp_path / "logs", "litter", {"seconds": seconds}, 2)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_only_the_log_of_a_crash_is_kept(sabotaged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    def attempt(task: str, **arguments: Any) -> None:
        with worker.scratch("test") as folder:
            (folder / "model").mkdir()
            (folder / "samples.npz").write_bytes(b"images")
            worker.call("test", folder, task, arguments, 60)

    with pytest.raises(CheckFailed, match=r"^the rule; got this$"):
        attempt("raise", kind="CheckFailed")
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(CheckFailed, match=r"^leave ended its process \(status 7\); see ") as caught:
        attempt("leave")
    (kept,) = (tmp_path / "tmp").glob("*/*")
    assert str(caught.value).endswith(str(kept))
    assert kept.name == "worker-test.log"


def test_more_images_may_take_longer() -> None:
    assert [worker.time_limit(images) for images in (1, 7_200, 50_000)] == [1_800, 1_800, 12_500]


def test_closing_twice_is_fine(process: Worker) -> None:
    process.close()
    process.close()


PARENT = """
import sys
from pathlib import Path
from peregrine.worker import Worker

with Worker("orphan", Path(sys.argv[1])) as process:
    print("started", flush=True)
    print(process.call("where", {}, 60)[2], flush=True)
    process.call("hang", {}, 600)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_gone_when_its_parent_goes(sabotaged: None, tmp_path: Path, signum: signal.Signals) -> None:
    with started(PARENT, tmp_path) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)  # into the task
        assert not gone(pid)
        parent.send_signal(signum)
        parent.wait()
        assert eventually(lambda: gone(pid))
        kill(parent)
