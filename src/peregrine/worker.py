"""One process per conversion and per measured Candidate: `python -m peregrine.worker LOG`.

The libraries clash over protobuf, OpenMP and GPU memory, and a crashing converter must cost its own format only.

The parent writes one line per request to the worker's stdin: the paths of a request and a result file. The worker
runs the named task of the catalogue, writes the result, and answers with one line. When stdin closes the parent is
gone, and the worker leaves at once, also in the middle of a task. All that libraries print goes into the log.
"""

import importlib
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from peregrine import catalog, errors, files

logger = logging.getLogger("peregrine")


class Worker:
    """A worker process, used from its parent as a context manager.

    Args:
        name: names the log, `<logs>/worker-<name>.log`.
        logs: folder of the logs.
    """

    def __init__(self, name: str, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"worker-{name}.log"
        self._exchange = tempfile.TemporaryDirectory(prefix="peregrine-")
        self._count = 0
        self._answers: queue.Queue[str] = queue.Queue()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "peregrine.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the parent, which then closes our stdin
            )
        threading.Thread(target=self._listen, daemon=True).start()

    def call(self, task: str, arguments: dict[str, Any], timeout_s: float) -> Any:
        """Run a task of the catalogue in the worker and return its result.

        Raises:
            PeregrineError: what the task raised, with its class and message.
            CheckFailed: the worker crashed or took longer than `timeout_s` seconds; the message names the log.
        """
        self._count += 1
        request = Path(self._exchange.name) / f"request-{self._count}.json"
        result = Path(self._exchange.name) / f"result-{self._count}.json"
        request.write_text(json.dumps({"task": task, "arguments": arguments}))
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{request}\t{result}\n".encode())
            self._process.stdin.flush()
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.close()
            raise errors.CheckFailed(
                f"{task} took longer than {timeout_s:.0f} s and was ended; see {self.log}"
            ) from None
        except BrokenPipeError:
            answer = ""
        if not answer:
            status = self._process.wait()
            raise errors.CheckFailed(f"{task} ended its process (status {status}); see {self.log}")
        outcome = files.read_json(result)
        if "error" in outcome:
            kind = getattr(errors, outcome["error"], errors.CheckFailed)
            raise kind(outcome["message"])
        return outcome["result"]

    def close(self) -> None:
        """End the process."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._exchange.cleanup()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self._answers.put(line.decode())
        self._answers.put("")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def call(name: str, logs: Path, task: str, arguments: dict[str, Any], timeout_s: float) -> Any:
    """Run one task in a worker of its own."""
    with Worker(name, logs) as worker:
        return worker.call(task, arguments, timeout_s)


def main() -> None:
    """The worker's side."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not answer for us
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    while True:
        request, result = (Path(part) for part in requests.get().rstrip("\n").split("\t"))
        files.write_json(result, _run(json.loads(request.read_text())))
        print("done", file=answers, flush=True)


def _read_requests(requests: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the parent is gone, or wants us gone: not even a stuck library may hold us


def _run(request: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        result = catalog.load("task", request["task"])(**request["arguments"])
    except errors.PeregrineError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except Exception as error:  # a converter may raise anything; its format fails, the run goes on
        logger.exception("task %s failed", request["task"])
        return {"error": "CheckFailed", "message": f"{request['task']} failed: {_first_line(error)}"}
    return {"result": result, "seconds": time.perf_counter() - start}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    importlib.import_module("peregrine.worker").main()
