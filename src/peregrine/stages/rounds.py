"""Candidates in worker processes, side by side, and the rounds in which they are measured, in random order.

A Candidate that fails on the way, or answers otherwise than it was proved to, costs itself alone.
"""

import functools
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import metrics, progress
from peregrine.candidate import Candidate
from peregrine.dataset import Labels
from peregrine.errors import CheckFailed, MissingDependency, MissingDevice, PeregrineError
from peregrine.metrics import Floats
from peregrine.parity import LIMITS, Verdict, compare
from peregrine.stages import wording
from peregrine.stages.noise import Watch
from peregrine.worker import Worker, time_limit

logger = logging.getLogger("peregrine")
TIMEOUT_S = 900
SERVER_SHARE = 0.5  # of what the baseline answers one after the other: the queries per second of `server`
MOST_QUERIES_PER_S = 5_000  # beyond it, handing them over from C++ to Python is what would be measured
SWEEP_SIZES = (1, 8, 32, 250)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        scenarios: of `single-stream`, `offline` and `server`.
        rounds: of the first two.
        seconds: of each in each round.
        warmup_seconds: at most.
        starts: processes that are started one after the other; the last stays, and its start is the cold start: the
            files that it needs are in the disk's cache by then.
        server_seconds: of `server`.
        sweep_seconds: of each batch size and number of threads; 0 leaves the sweep out.
        driver: key of the catalogue's drivers.
    """

    scenarios: tuple[str, ...]
    rounds: int
    seconds: float
    warmup_seconds: float
    starts: int
    server_seconds: float
    sweep_seconds: float
    driver: str

    @property
    def in_rounds(self) -> tuple[str, ...]:
        return tuple(name for name in self.scenarios if name != "server")


@dataclass(frozen=True, eq=False)
class Entry:
    """A Candidate to measure, and what it is measured on.

    Attributes:
        key: names it in the results.
        images: path of the test images, uint8 `(N, H, W, 3)`.
        encoded: folder with some of them as image files.
        labels: of the test images.
        expected: what the ancestor says to them, `(N, C)`; None where nobody can ask it.
        proved: whether there is a proof on these very images, so that other answers now are a failure.
        logs: folder.
    """

    key: str
    candidate: Candidate
    images: Path
    encoded: Path
    labels: Labels
    expected: Floats | None
    proved: bool
    logs: Path

    @property
    def name(self) -> str:
        """The key as a file's name."""
        return "benchmark-" + self.key.replace("/", "-")


@dataclass
class Measured:
    """What was found out about one Candidate.

    Attributes:
        opened: of opening and warming up: `cold_start_seconds`, `load_seconds`, and what `Session.prepare` gives.
        accuracy: share of right answers. `agreement`: share of those that are the ancestor's; None if it was not asked.
        split_ns: of each pass over the test images.
        nanoseconds: of every timed call, by scenario and round.
        cores: that were busy during `offline`, by round.
        answers, same_answers: that were timed, and those of them that were the proved ones.
        images_per_s_from_bytes: with decoding. server: of `server`.
    """

    opened: dict[str, Any] = field(default_factory=dict)
    accuracy: float = 0.0
    agreement: float | None = None
    split_ns: list[int] = field(default_factory=list)
    nanoseconds: dict[str, list[list[int]]] = field(default_factory=dict)
    cores: list[float] = field(default_factory=list)
    answers: int = 0
    same_answers: int = 0
    images_per_s_from_bytes: float = 0.0
    server: dict[str, Any] | None = None


class Bench:
    """Open Candidates and what was measured of each; a context manager that ends their processes.

    Attributes:
        measured: by key, of those that have not failed.
        skipped: the others: `candidate`, `reason`, and the `error`'s class.
    """

    def __init__(self, plan: Plan, watch: Watch, advance: progress.Advance) -> None:
        self.plan, self.measured = plan, dict[str, Measured]()
        self.skipped: list[dict[str, str]] = []
        self._watch, self._advance = watch, advance
        self._entries: dict[str, Entry] = {}
        self._workers: dict[str, Worker] = {}
        self._stack = ExitStack()
        self._shuffle = random.Random()

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def open(self, entries: Sequence[Entry]) -> None:
        """Start, warm up, and ask about every test image once: who answers wrongly is not measured at all."""
        for entry in entries:
            self._entries[entry.key], self.measured[entry.key] = entry, Measured()
            self._guarded(entry, self._open)
            self._advance(note=entry.key)

    def rounds(self) -> None:
        """All rounds, each scenario in an order of its own."""
        self._watch.look()
        for _ in range(self.plan.rounds if self.plan.in_rounds else 0):
            for scenario in self.plan.in_rounds:
                for entry in self._shuffled():
                    self._guarded(entry, functools.partial(self._round, scenario=scenario))
                    self._advance(note=entry.key)
            self._watch.clock()
            self._watch.look()
        for step in (self._from_bytes, self._finish):
            for entry in self._shuffled():
                self._guarded(entry, step)
                self._advance(note=entry.key)

    def server(self, baseline: str) -> None:
        """The same queries per second for all, by what the baseline can do."""
        expected_ns = self.measured[baseline].opened["expected_ns"]["single-stream"]
        per_s = min(MOST_QUERIES_PER_S, SERVER_SHARE / (expected_ns / 1e9))
        for entry in self._shuffled():
            self._guarded(entry, functools.partial(self._server, per_s=per_s))
            self._advance(note=entry.key)

    def sweep(self, keys: Sequence[str], threads: Sequence[int]) -> list[dict[str, Any]]:
        """Batch sizes × threads of some Candidates, one after the other; other threads have a process of their own."""
        rows: list[dict[str, Any]] = []
        with progress.bar("batch sizes and threads", total=len(keys), unit="candidate") as advance:
            for entry in (self._entries[key] for key in keys):
                on_cpu = entry.candidate.provider == "cpu"
                for count in sorted({entry.candidate.threads, *threads} if on_cpu else {entry.candidate.threads}):
                    try:
                        rows += [{"candidate": entry.key, **row} for row in self._sweep(entry, count)]
                    except CheckFailed as error:  # the rounds have been measured, and stay
                        logger.warning("no sweep of %s with %s: %s", entry.key, wording.count(count, "thread"), error)
                advance(note=entry.key)
        return rows

    def _guarded(self, entry: Entry, step: Callable[[Entry], None]) -> None:
        if entry.key not in self.measured:
            return
        try:
            step(entry)
        except (CheckFailed, MissingDependency, MissingDevice) as error:
            self._drop(entry, error)

    def _drop(self, entry: Entry, error: PeregrineError) -> None:
        del self.measured[entry.key]
        self.skipped.append({"candidate": entry.key, "reason": str(error), "error": type(error).__name__})
        worker = self._workers.pop(entry.key, None)
        if worker is not None:
            worker.close()

    def _shuffled(self) -> list[Entry]:
        order = [self._entries[key] for key in self.measured]
        self._shuffle.shuffle(order)
        return order

    def _call(self, entry: Entry, what: str, **arguments: Any) -> Any:
        limit = time_limit(len(entry.labels)) if what == "ask-all" else TIMEOUT_S
        return self._workers[entry.key].call("measure", {"what": what, **arguments}, limit)

    def _start(self, entry: Entry) -> tuple[Worker, dict[str, Any], float]:
        """A process with its first answer, and the seconds from its start to there."""
        start = time.perf_counter()
        worker = Worker(entry.name, entry.logs)
        try:
            logs = entry.logs / "loadgen" / entry.name
            given = {"candidate": entry.candidate.to_dict(), "images": str(entry.images), "logs": str(logs)}
            opened = worker.call("measure", {"what": "open", "driver": self.plan.driver, **given}, TIMEOUT_S)
        except BaseException:
            worker.close()
            raise
        return worker, opened, time.perf_counter() - start

    def _open(self, entry: Entry) -> None:
        found = self.measured[entry.key]
        for _ in range(self.plan.starts - 1):
            self._start(entry)[0].close()
        worker, opened, seconds = self._start(entry)
        self._workers[entry.key] = self._stack.enter_context(worker)
        found.opened = {**opened, "cold_start_seconds": seconds}
        found.opened |= self._call(entry, "prepare", seconds=self.plan.warmup_seconds)
        if found.opened["threads"] != entry.candidate.threads:
            logger.warning(
                "%s was asked to run with %s, and runs with %d",
                entry.key, wording.count(entry.candidate.threads, "thread"), found.opened["threads"],
            )  # fmt: skip
        output = entry.images.with_name("answers.npz")
        found.split_ns = self._call(entry, "ask-all", output=str(output), seconds=self.plan.seconds)["split_ns"]
        with np.load(output, allow_pickle=False) as saved:
            answers: Floats = saved["probabilities"]
        found.accuracy = float((answers.argmax(1) == entry.labels).mean())
        if entry.expected is not None:
            found.agreement = _agreement(entry, answers)

    def _round(self, entry: Entry, scenario: str) -> None:
        found = self.measured[entry.key]
        expected = found.opened["expected_ns"][scenario]
        ran = self._call(entry, "round", scenario=scenario, seconds=self.plan.seconds, expected_ns=expected)
        found.nanoseconds.setdefault(scenario, []).append(ran["nanoseconds"])
        if scenario == "offline":
            found.cores.append(ran["cores"])
        found.answers += ran["answers"]
        found.same_answers += ran["same_answers"]

    def _from_bytes(self, entry: Entry) -> None:
        ran = self._call(entry, "from-bytes", folder=str(entry.encoded), seconds=self.plan.seconds)
        self.measured[entry.key].images_per_s_from_bytes = ran["images_per_s"]

    def _finish(self, entry: Entry) -> None:
        found, limits = self.measured[entry.key], LIMITS[entry.candidate.precision]
        self._call(entry, "finish")
        same, answers = found.same_answers, found.answers
        if same < answers and metrics.wilson_interval(same, answers)[1] < limits.agreement:
            raise CheckFailed(
                f"{entry.key} answers otherwise while it is timed: {same:,} of {answers:,} timed answers are those "
                "that it gives to the same images otherwise; its speed is that of something else"
            )

    def _server(self, entry: Entry, per_s: float) -> None:
        found = self.measured[entry.key]
        ran = self._call(entry, "server", per_s=per_s, seconds=self.plan.server_seconds)
        found.nanoseconds["server"] = [ran.pop("nanoseconds")]
        found.server = {"target_qps": per_s, **ran}

    def _sweep(self, entry: Entry, threads: int) -> list[dict[str, Any]]:
        static, images = entry.candidate.batch, len(entry.labels)
        sizes = [static] if static else [size for size in SWEEP_SIZES if size <= images]
        arguments = {"what": "sweep", "sizes": sizes, "seconds": self.plan.sweep_seconds}
        if threads == entry.candidate.threads:
            return _rows(self._workers[entry.key].call("measure", arguments, TIMEOUT_S))
        worker, _, _ = self._start(replace(entry, candidate=replace(entry.candidate, threads=threads)))
        with worker:
            worker.call("measure", {"what": "prepare", "seconds": self.plan.warmup_seconds}, TIMEOUT_S)
            return _rows(worker.call("measure", arguments, TIMEOUT_S))


def _rows(answer: Any) -> list[dict[str, Any]]:
    return list(answer)


def _agreement(entry: Entry, answers: Floats) -> float:
    """Share of answers that are the ancestor's, ties included.

    Raises:
        CheckFailed: on the images of its proof, the Candidate would fail it now.
    """
    assert entry.expected is not None
    verdict: Verdict = compare(entry.expected, answers, entry.labels, LIMITS[entry.candidate.precision])
    if entry.proved and not verdict.passed:
        raise CheckFailed(
            f"{entry.key} does not predict what it was proved to while it is measured: {'; '.join(verdict.reasons)}; "
            "its speed is that of something else"
        )
    return verdict.agreement
