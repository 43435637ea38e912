"""MLCommons LoadGen: the load of the MLPerf inference benchmark, which decides what is asked when.

It chooses the images at random and issues the queries of each scenario. Times are taken around `predict`, so that
handing queries from C++ to Python is not in them; of `server`, LoadGen's own latencies count, from the moment at which
a query was due. Its summaries and details stay in the run's logs.
Source: MLPerf Inference, https://github.com/mlcommons/inference/tree/master/loadgen, 6.0.
"""

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import mlperf_loadgen as lg
import numpy as np

from peregrine.artifact import Probabilities
from peregrine.dataset import Images
from peregrine.errors import CheckFailed
from peregrine.stages.drivers.base import LEAST_OFFLINE, LEAST_SINGLE, Predict, Timed

SERVER_LIMIT_MS = 15.0  # for 99% of the queries; MLPerf's limit for image classification
SERVER_SIZES = (1, 2, 4, 8)  # warmed up: libraries may set themselves up for each size, and for each thread

MOST_PER_S = 100_000  # that Python can hand over; LoadGen prepares its queries by what it expects

Queries = list[tuple[int, int]]  # of each its id, for the answer, and which image it asks about
Answered = Iterator[tuple[list[int], Probabilities | None]]  # ids, and their answers where they are to be logged


class LoadGen:
    """Drives one opened model. `logs` gets a few files for each scenario, those of its last round."""

    name: ClassVar[str] = "loadgen"

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)

    def single_stream(self, predict: Predict, images: Images, seconds: float, expected_ns: float) -> Timed:
        timed = Timed()

        def answer(queries: Queries) -> Answered:
            for identity, place in queries:
                timed.call(predict, images, np.array([place], np.intp))
                yield [identity], None

        settings = {
            "scenario": lg.TestScenario.SingleStream,
            "single_stream_expected_latency_ns": max(int(1e9 / MOST_PER_S), int(expected_ns / 4)),  # no lack of queries
            "min_duration_ms": int(seconds * 1e3),
            "min_query_count": LEAST_SINGLE,
        }
        self._test_at_once("single-stream", answer, len(images), settings)
        return timed

    def offline(self, predict: Predict, images: Images, batch: int, seconds: float, expected_ns: float) -> Timed:
        timed = Timed()

        def answer(queries: Queries) -> Answered:
            for identities, places in _batches(queries, batch):
                if len(places) == batch:
                    timed.call(predict, images, places)
                else:  # the rest of LoadGen's one large query is no batch
                    predict(np.ascontiguousarray(images[places]))
                yield identities, None

        settings = {
            "scenario": lg.TestScenario.Offline,
            "offline_expected_qps": min(MOST_PER_S, batch / (expected_ns / 1e9)),
            "min_duration_ms": int(seconds * 1e3),
            "min_query_count": LEAST_OFFLINE * batch,
        }
        self._test_at_once("offline", answer, len(images), settings)
        return timed

    def ask_all(self, predict: Predict, images: Images, batch: int) -> tuple[Probabilities, int]:
        nanoseconds = 0

        def answer(queries: Queries) -> Answered:
            nonlocal nanoseconds
            for identities, places in _batches(queries, batch):
                asked = np.ascontiguousarray(images[places])
                start = time.perf_counter_ns()
                answers = predict(asked)
                nanoseconds += time.perf_counter_ns() - start
                yield identities, answers

        settings = {"scenario": lg.TestScenario.Offline, "mode": lg.TestMode.AccuracyOnly}
        self._test_at_once("accuracy", answer, len(images), settings)
        return self._logged(len(images)), nanoseconds

    def server(self, predict: Predict, images: Images, batch: int, per_s: float, seconds: float) -> dict[str, Any]:
        """Queries that come at random times, on average `per_s`; those that wait are answered together.

        Returns:
            `latency_ms_p99`, `valid` (99% within `SERVER_LIMIT_MS`), and `nanoseconds` of each query, as seen here.
        """
        waiting: queue.SimpleQueue[tuple[int, int, int] | None] = queue.SimpleQueue()
        nanoseconds: list[int] = []
        failed: list[Exception] = []

        def ask(places: list[int]) -> None:
            try:
                if not failed:
                    predict(np.ascontiguousarray(images[places]))
            except Exception as error:
                failed.append(error)

        def answer() -> None:
            while (first := waiting.get()) is not None:
                taken = [first]
                while len(taken) < batch and not waiting.empty():
                    if (another := waiting.get()) is not None:
                        taken.append(another)
                ask([place for _, place, _ in taken])
                now = time.perf_counter_ns()
                nanoseconds.extend(now - came for _, _, came in taken)
                _complete([identity for identity, _, _ in taken])

        def warmed_up() -> None:
            for size in SERVER_SIZES:
                ask([place % len(images) for place in range(size)])
            ready.set()
            answer()

        def issue(queries: Queries) -> None:
            now = time.perf_counter_ns()
            for identity, place in queries:
                waiting.put((identity, place, now))

        ready = threading.Event()
        answering = threading.Thread(target=warmed_up, daemon=True)
        answering.start()
        ready.wait()
        settings = {
            "scenario": lg.TestScenario.Server,
            "server_target_qps": per_s,
            "server_target_latency_ns": int(SERVER_LIMIT_MS * 1e6),
            "min_duration_ms": int(seconds * 1e3),
            "min_query_count": LEAST_SINGLE,
        }
        summary = self._test("server", issue, len(images), settings)
        waiting.put(None)
        answering.join()
        if failed:
            raise failed[0]
        p99 = float(_said(summary, r"99\.00 percentile latency \(ns\)")) / 1e6
        valid = _said(summary, "Performance constraints satisfied").lower() == "yes"
        return {"latency_ms_p99": p99, "valid": valid, "nanoseconds": nanoseconds}

    def _test_at_once(
        self, name: str, answer: Callable[[Queries], Answered], images: int, settings: dict[str, Any]
    ) -> None:
        """A test whose queries are answered as they come, in LoadGen's own thread."""
        failed: list[Exception] = []

        def issue(queries: Queries) -> None:
            open_queries = dict.fromkeys(identity for identity, _ in queries)
            try:  # an exception must not pass through LoadGen's C++
                if not failed:
                    for identities, answers in answer(queries):
                        _complete(identities, answers)
                        for identity in identities:
                            del open_queries[identity]
            except Exception as error:
                failed.append(error)
            _complete(list(open_queries))  # else LoadGen would wait for them

        self._test(name, issue, images, settings)
        if failed:
            raise failed[0]

    def _test(self, name: str, issue: Callable[[Queries], None], images: int, settings: dict[str, Any]) -> str:
        """One test of LoadGen's; gives its summary."""
        test, output, log = lg.TestSettings(), lg.LogOutputSettings(), lg.LogSettings()
        for key, value in settings.items():
            setattr(test, key, value)
        output.outdir, output.prefix, output.copy_summary_to_stdout = str(self._logs), f"{name}_", False
        log.log_output, log.enable_trace = output, False

        def nothing(*_: Any) -> None:
            """The images are in memory, and no query is kept back."""

        system = lg.ConstructSUT(lambda queries: issue([(query.id, query.index) for query in queries]), nothing)
        library = lg.ConstructQSL(images, images, nothing, nothing)
        try:
            lg.StartTestWithLogSettings(system, library, test, log, "")  # "": no audit.config of the working folder
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        for empty in ("trace", "accuracy") if settings.get("mode") is None else ("trace",):
            (self._logs / f"{name}_{empty}.json").unlink(missing_ok=True)
        return (self._logs / f"{name}_summary.txt").read_text("utf-8")

    def _logged(self, images: int) -> Probabilities:
        """The answers that LoadGen wrote into its accuracy log, in the order of the images: `(N, C)`."""
        path = self._logs / "accuracy_accuracy.json"
        rows = {entry["qsl_idx"]: bytes.fromhex(entry["data"]) for entry in json.loads(path.read_text("utf-8"))}
        path.unlink()  # large, and of no use to anybody else
        if sorted(rows) != list(range(images)):
            raise CheckFailed(f"LoadGen asks about each of {images} images; its log has {len(rows)}; see {self._logs}")
        return np.stack([np.frombuffer(rows[place], np.float32) for place in range(images)])


def _batches(queries: Queries, size: int) -> Iterator[tuple[list[int], Any]]:
    """Ids and images of each batch; the last may be smaller."""
    for start in range(0, len(queries), size):
        part = queries[start : start + size]
        yield [identity for identity, _ in part], np.array([place for _, place in part], np.intp)


def _complete(identities: list[int], answers: Probabilities | None = None) -> None:
    """Tell LoadGen that queries are answered, and in accuracy mode what."""
    if answers is None:
        lg.QuerySamplesComplete([lg.QuerySampleResponse(identity, 0, 0) for identity in identities])
        return
    content = np.ascontiguousarray(answers, np.float32)
    size = content.strides[0]
    lg.QuerySamplesComplete([
        lg.QuerySampleResponse(identity, content.ctypes.data + row * size, size)
        for row, identity in enumerate(identities)
    ])  # fmt: skip


def _said(summary: str, what: str) -> str:
    found = re.search(rf"^\s*{what}\s*:\s*(\S+)", summary, re.MULTILINE)
    if found is None:
        raise CheckFailed(f"LoadGen's summary has no line {what!r}; this one is of a version unknown to Peregrine")
    return found[1]
