"""One process per conversion and per measured Candidate: `python -m peregrine.worker`.

The libraries clash over protobuf, OpenMP and GPU memory, and a crashing converter must cost its own format only.

The parent writes one line per request to the worker's stdin: the paths of a request and a result file. The worker
runs the named task of the catalogue, writes the result, and answers with one line. When stdin closes the parent is
gone, and the worker leaves at once, also in the middle of a task. All that libraries print goes into the log.
"""

import contextlib
import errno
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from peregrine import catalog, errors, files

logger = logging.getLogger("peregrine")
# EfficientNetB0 takes 2 ms an image at 64 pixels on two cores of Zen 5, so 25 ms at 224: ten times as long is still
# slow, longer is stuck.
LEAST_S, PER_IMAGE_S = 1800.0, 0.25


class Worker:
    """A worker process, used from its parent as a context manager.

    Args:
        name: names the log, `<logs>/worker-<name>.log`.
        logs: folder of the logs.
    """

    def __init__(self, name: str, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"worker-{name}.log"
        self._count = 0
        self._answers: queue.Queue[str] = queue.Queue()
        self._exchange = tempfile.TemporaryDirectory(prefix="peregrine-")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                # -P: a torch.py in the user's folder is not PyTorch
                [sys.executable, "-P", "-m", "peregrine.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the parent, which then closes our stdin
                # It is killed, and removes nothing: what libraries leave in their temporary files goes with ours.
                env={**os.environ, "TMPDIR": self._exchange.name},
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def call(self, task: str, arguments: dict[str, Any], timeout_s: float) -> Any:
        """Run a task of the catalogue in the worker and return its result.

        Raises:
            PeregrineError: what the task raised, with its class and message.
            CheckFailed: the worker crashed or took longer than `timeout_s` seconds; the message names the log. Later
                calls of the same worker fail too.
        """
        if self._process.poll() is not None:
            raise errors.CheckFailed(f"{task} was not started: its process has ended before; see {self.log}")
        self._count += 1
        request = Path(self._exchange.name) / f"request-{self._count}.json"
        result = Path(self._exchange.name) / f"result-{self._count}.json"
        files.write_json(request, {"task": task, "arguments": arguments})
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{request}\t{result}\n".encode())
            self._process.stdin.flush()
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.close()
            raise errors.CheckFailed(f"{task} took longer than {timeout_s:g} s and was ended; see {self.log}") from None
        except BrokenPipeError:
            answer = ""
        if not answer:
            status = self._process.wait()
            how = f"status {status}" if status >= 0 else signal.Signals(-status).name
            raise errors.CheckFailed(f"{task} ended its process ({how}); see {self.log}")
        outcome = files.read_json(result)
        if "error" in outcome:
            kind = getattr(errors, outcome["error"], errors.CheckFailed)
            raise kind(outcome["message"])
        return outcome["result"]

    def close(self) -> None:
        """End the process; closing twice is fine."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a request that a dead worker did not take
            self._process.stdin.close()
        self._process.kill()  # all that it had to say is in its results and in the log
        self._process.wait()
        self._listener.join(timeout=5)
        self._exchange.cleanup()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self._answers.put(line.decode())
        self._answers.put("")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


@contextlib.contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A folder of its own for a worker of no run; removed, except for its logs where an error names one of them."""
    folder = Path(tempfile.mkdtemp(prefix=f"peregrine-{purpose}-"))
    logs: set[Path] = set()
    try:
        yield folder
    except errors.CheckFailed as error:
        if str(folder) in str(error):
            logs = set(folder.glob("*.log"))
        raise
    finally:
        for entry in set(folder.glob("*")) - logs if logs else {folder}:
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()


def call(name: str, logs: Path, task: str, arguments: dict[str, Any], timeout_s: float) -> Any:
    """Run one task in a worker of its own."""
    with Worker(name, logs) as worker:
        return worker.call(task, arguments, timeout_s)


def time_limit(images: int) -> float:
    """Seconds that a task may take which asks a model about so many images."""
    return max(LEAST_S, PER_IMAGE_S * images)


def main() -> None:
    """The worker's side."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not answer for us
    sys.stdout = sys.stderr  # and what they printed is in the log when they crash
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    while True:
        request, result = (Path(part) for part in requests.get().rstrip("\n").split("\t"))
        _run(files.read_json(request), result)
        print("done", file=answers, flush=True)


def _read_requests(requests: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the parent is gone, or wants us gone: not even a stuck library may hold us


def _run(request: dict[str, Any], result: Path) -> None:
    try:
        outcome = catalog.load("task", request["task"])(**request["arguments"])
        files.write_json(result, {"result": outcome})
    except Exception as error:  # a converter may raise anything; its format fails, the run goes on
        explained = _explained(request["task"], error)
        files.write_json(result, {"error": type(explained).__name__, "message": str(explained)})


def _explained(task: str, error: Exception) -> errors.PeregrineError:
    if isinstance(error, errors.PeregrineError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.machine_error(error)
    logger.error("task %s failed", task, exc_info=error)
    lines = str(error).strip().splitlines()
    return errors.CheckFailed(f"{task} failed: {type(error).__name__}{': ' + lines[0] if lines else ''}")


if __name__ == "__main__":
    main()
